package container

import (
	"context"
	"fmt"
	"io"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
	"linkspan/container/archive"
	"linkspan/container/layer"
	"linkspan/container/rootfs"
	"linkspan/container/spec"
)

// bare opens the container's root without what is mounted on it. The caller has
// the container's lock.
func (e *Engine) bare(ctx context.Context, c *Container) (*rootfs.View, error) {
	switch {
	case c.State.Phase == Removing || c.State.Phase == Dead:
		return nil, cnm.Conflict("container %s is marked for removal: its files cannot be read any more", c.ID)
	case c.State.Phase.running():
		return rootfs.Bare(c.State.Pid, c.ID)
	}
	layers, err := e.ctd.rootfs(ctx, c.ID)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", c.Name, err)
	}
	return rootfs.Stopped(rootfs.ReadOnly(layers), nil, e.viewDir())
}

// Changes implements Service.
func (e *Engine) Changes(ctx context.Context, ref string) ([]apicontainer.FilesystemChange, error) {
	en, c, err := e.locked(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer en.unlock()
	v, err := e.bare(ctx, c)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return e.compare(ctx, c, v)
}

// compare holds the open root of a container against its image.
func (e *Engine) compare(ctx context.Context, c *Container, v *rootfs.View) ([]layer.Change, error) {
	layers, err := e.ctd.rootfs(ctx, c.ID)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", c.Name, err)
	}
	below, upper, err := rootfs.Lower(layers)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", c.Name, err)
	}
	t := layer.Trees{Merged: v.Root(), Upper: upper, Places: e.places(c)}
	if len(below) > 0 {
		lower, err := rootfs.Stopped(below, nil, e.viewDir())
		if err != nil {
			return nil, fmt.Errorf("container %s: its image: %w", c.Name, err)
		}
		defer lower.Close()
		t.Lower = lower.Root()
	}
	changes, err := layer.Compare(t)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", c.Name, err)
	}
	return changes, nil
}

// places are what the runtime makes in the root file system to mount the engine's
// things there.
func (e *Engine) places(c *Container) []string {
	list := []string{"/proc", "/sys", "/dev", spec.InitPath}
	for _, m := range e.fileMounts(c) {
		list = append(list, m.Destination)
	}
	return list
}

// Export implements Service. A container at rest is held until the reader is
// closed.
func (e *Engine) Export(ctx context.Context, ref string) (io.ReadCloser, error) {
	en, c, err := e.locked(ctx, ref)
	if err != nil {
		return nil, err
	}
	v, err := e.bare(ctx, c)
	if err != nil {
		en.unlock()
		return nil, err
	}
	closing := v.Close
	if c.State.Phase.running() {
		// Its processes are not held up by a slow reader, nor is a person's stop.
		en.unlock()
	} else {
		closing = func() { v.Close(); en.unlock() }
	}
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() { r.CloseWithError(ctx.Err()) })
	go func() {
		defer closing()
		defer stop()
		w.CloseWithError(archive.Root(v.Root(), w))
	}()
	e.publish(c, "export")
	return r, nil
}
