package container

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"linkspan/cnm"
	"linkspan/container/archive"
	"linkspan/container/mounts"
	"linkspan/container/rootfs"
)

// view opens the container's root file system with its volumes: of a running
// one as it is, of one at rest mounted for the occasion, under the container's
// lock. closing gives both back.
func (e *Engine) view(ctx context.Context, ref string) (v *rootfs.View, c *Container, closing func(), err error) {
	en, c, err := e.locked(ctx, ref)
	if err != nil {
		return nil, nil, nil, err
	}
	if c.State.Phase == Removing || c.State.Phase == Dead {
		en.unlock()
		return nil, nil, nil, cnm.Conflict("container %s is marked for removal: nothing can be copied any more", c.ID)
	}
	if c.State.Phase.running() {
		v, err = rootfs.Running(c.State.Pid, c.ID)
		en.unlock()
		if err != nil {
			return nil, nil, nil, err
		}
		return v, c, v.Close, nil
	}
	layers, err := e.ctd.rootfs(ctx, c.ID)
	if err == nil {
		if err = e.mountVolumes(ctx, c); err == nil {
			// The view has mounts of its own.
			defer e.leaveVolumes(lasting(ctx), c)
		}
	}
	if err == nil {
		var splices []rootfs.Splice
		for _, m := range c.Mounts {
			if m.Type != mounts.Tmpfs {
				splices = append(splices, rootfs.Splice{Source: m.Source, Destination: m.Destination, ReadOnly: !m.RW, Subpath: m.Subpath})
			}
		}
		v, err = rootfs.Stopped(layers, splices, e.viewDir())
	}
	if err != nil {
		en.unlock()
		return nil, nil, nil, err
	}
	return v, c, func() { v.Close(); en.unlock() }, nil
}

func notThere(err error, c *Container, path string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return cnm.NotFound("Could not find the file %s in container %s", path, c.ID)
	}
	return err
}

// StatPath implements Service.
func (e *Engine) StatPath(ctx context.Context, ref, path string) (*PathStat, error) {
	v, c, closing, err := e.view(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer closing()
	st, err := archive.StatPath(v.Root(), path)
	if err != nil {
		return nil, notThere(err, c, path)
	}
	ps := PathStat(*st)
	return &ps, nil
}

// GetArchive implements Service.
func (e *Engine) GetArchive(ctx context.Context, ref, path string) (io.ReadCloser, *PathStat, error) {
	v, c, closing, err := e.view(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	st, err := archive.StatPath(v.Root(), path)
	if err != nil {
		closing()
		return nil, nil, notThere(err, c, path)
	}
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() { r.CloseWithError(ctx.Err()) })
	go func() {
		defer closing()
		defer stop()
		w.CloseWithError(archive.Tar(v.Root(), path, w))
	}()
	e.publish(c, "archive-path")
	ps := PathStat(*st)
	return r, &ps, nil
}

// PutArchive implements Service.
func (e *Engine) PutArchive(ctx context.Context, ref, dest string, tar io.Reader, noOverwriteDirNonDir, copyUIDGID bool) error {
	v, c, closing, err := e.view(ctx, ref)
	if err != nil {
		return err
	}
	defer closing()
	if err := writableAt(c, dest); err != nil {
		return err
	}
	o := archive.Options{NoOverwriteDirNonDir: noOverwriteDirNonDir}
	if copyUIDGID && c.Config.User != "" {
		u, err := v.User(c.Config.User, nil)
		if err != nil {
			return err
		}
		o.Owner = &archive.Owner{UID: int(u.UID), GID: int(u.GID)}
	}
	if err := archive.Untar(v.Root(), dest, tar, o); err != nil {
		return notThere(err, c, dest)
	}
	e.publish(c, "extract-to-dir")
	return nil
}

// writableAt refuses what the container itself could not write. The text of the
// path decides; where a link leads from there, the kernel does, with EROFS.
func writableAt(c *Container, dest string) error {
	dest = path.Clean("/" + dest)
	var in *Mount
	for i := range c.Mounts {
		m := &c.Mounts[i]
		under := dest == m.Destination || strings.HasPrefix(dest, m.Destination+"/")
		if under && (in == nil || len(m.Destination) > len(in.Destination)) {
			in = m
		}
	}
	switch {
	case in != nil && !in.RW:
		return cnm.Invalid("mounted volume is marked read-only: %s", in.Destination)
	case in == nil && c.HostConfig.ReadonlyRootfs:
		return cnm.Invalid("container rootfs is marked read-only")
	}
	return nil
}
