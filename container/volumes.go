package container

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/container/mounts"
	"linkspan/container/rootfs"
	"linkspan/volume"
)

// resolveMounts decodes the container's wish for mounts. Anonymous volumes get
// their names here; nothing is made.
func (e *Engine) resolveMounts(c *Container) ([]Mount, error) {
	inherited, err := e.volumesFrom(c.HostConfig.VolumesFrom)
	if err != nil {
		return nil, err
	}
	points, err := mounts.Set(c.HostConfig, c.Config.Volumes, inherited)
	if err != nil {
		return nil, err
	}
	var out []Mount
	for _, p := range points {
		if _, ours := c.HostConfig.Tmpfs[p.Destination]; ours && p.Type == mounts.Tmpfs {
			continue // it stays in HostConfig, where inspect shows it
		}
		m := Mount{
			Type: p.Type, Name: p.Name, Source: p.Source, Destination: p.Destination, Mode: p.Mode, RW: p.RW,
			Propagation: p.Propagation, NoCopy: p.NoCopy, NonRecursive: p.NonRecursive, ROTopOnly: p.ROTopOnly,
			ROForce: p.ROForce, CreateSource: p.CreateSource, Options: p.Options, Subpath: p.Subpath,
		}
		switch {
		case p.Type == mounts.Bind && !p.CreateSource:
			if _, err := os.Stat(p.Source); errors.Is(err, fs.ErrNotExist) {
				return nil, cnm.Invalid("invalid mount config for type \"bind\": bind source path does not exist: %s", p.Source)
			}
		case p.Type == mounts.Bind && p.ROForce && !e.host.RecursiveRO:
			return nil, cnm.Unsupported("bind-recursive=readonly needs mount_setattr(2) (Linux 5.12), which this kernel lacks")
		case p.Type == mounts.Volume && p.Driver != "" && p.Driver != volume.Driver:
			return nil, cnm.Unsupported("not yet: volume driver %q of %s is not supported by Linkspan: local is", p.Driver, p.Destination)
		case p.Type == mounts.Volume && p.Name == "":
			m.Name, m.Anonymous = anonymousName(), true
		}
		out = append(out, m)
	}
	return out, nil
}

func anonymousName() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// volumesFrom takes over the mounts of other containers.
func (e *Engine) volumesFrom(refs []string) (points []mounts.Point, err error) {
	for _, ref := range refs {
		name, rw, err := mounts.ParseVolumesFrom(ref)
		if err != nil {
			return nil, err
		}
		from, err := e.Get(name)
		if err != nil {
			return nil, notImage(err)
		}
		for _, m := range from.Mounts {
			if m.Type == mounts.Tmpfs {
				continue
			}
			points = append(points, mounts.Point{Type: m.Type, Name: m.Name, Source: sourceOf(m), Destination: m.Destination,
				RW: m.RW && rw, Mode: m.Mode, Propagation: m.Propagation, NoCopy: true, CreateSource: m.CreateSource, Subpath: m.Subpath})
		}
	}
	return points, nil
}

// sourceOf is the host path that was wished for: a volume's is the volume's.
func sourceOf(m Mount) string {
	if m.Type == mounts.Volume {
		return ""
	}
	return m.Source
}

func hasAnonymous(c *Container) bool {
	return slices.ContainsFunc(c.Mounts, func(m Mount) bool { return m.Anonymous })
}

// holdVolumes keeps the volumes of a container that nobody sees yet.
func (e *Engine) holdVolumes(c *Container) (release func()) {
	var holds []func()
	for _, m := range c.Mounts {
		if m.Type == mounts.Volume {
			holds = append(holds, e.cfg.Volumes.Hold(m.Name, c.ID))
		}
	}
	return func() {
		for _, h := range holds {
			h()
		}
	}
}

// makeVolumes makes the volumes that are missing and fills the empty ones with
// what the image has at their place.
func (e *Engine) makeVolumes(ctx context.Context, c *Container) error {
	var view *rootfs.View
	defer func() {
		if view != nil {
			view.Close()
		}
	}()
	// The record is not shared yet; still, no slice is changed under a copy.
	c.Mounts = slices.Clone(c.Mounts)
	wished, err := mounts.Set(c.HostConfig, nil, nil)
	if err != nil {
		return err
	}
	for i := range c.Mounts {
		m := &c.Mounts[i]
		if m.Type != mounts.Volume {
			continue
		}
		r := volume.CreateRequest{Name: m.Name}
		if j := slices.IndexFunc(wished, func(p mounts.Point) bool { return p.Destination == m.Destination }); j >= 0 {
			r.Labels, r.Options = wished[j].Labels, wished[j].DriverOpts
		}
		if m.Anonymous {
			r.Labels = maps.Clone(r.Labels)
			if r.Labels == nil {
				r.Labels = map[string]string{}
			}
			r.Labels[volume.AnonymousLabel] = ""
		}
		v, err := e.cfg.Volumes.Create(ctx, r)
		if err != nil {
			return err
		}
		if m.Source = v.Mountpoint; m.NoCopy {
			continue
		}
		if view == nil {
			if view, err = e.readView(ctx, c.ID); err != nil {
				return err
			}
		}
		if err := e.fill(ctx, view, c.ID, v, m); err != nil {
			return err
		}
	}
	return nil
}

// fill is copyUp into a volume that may have to be mounted for it.
func (e *Engine) fill(ctx context.Context, view *rootfs.View, id string, v *volume.Volume, m *Mount) (err error) {
	if v.IsMount() {
		if err := e.cfg.Volumes.Mount(ctx, v.Name); err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, e.cfg.Volumes.Unmount(ctx, v.Name, func() bool { return e.volumeActive(v.Name, id) }))
		}()
	}
	return e.copyUp(ctx, view, m)
}

func (e *Engine) copyUp(ctx context.Context, view *rootfs.View, m *Mount) error {
	f, err := view.Open(m.Destination, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	// "/." names the directory itself, not the link that the kernel shows here.
	return e.cfg.Volumes.CopyUp(ctx, fmt.Sprintf("/proc/self/fd/%d/.", f.Fd()), m.Name)
}

// readView opens the root file system of a container that has no task.
func (e *Engine) readView(ctx context.Context, id string) (*rootfs.View, error) {
	layers, err := e.ctd.rootfs(ctx, id)
	if err != nil {
		return nil, err
	}
	return rootfs.Stopped(rootfs.ReadOnly(layers), nil, e.viewDir())
}

// VolumeUsers implements volume.Users.
func (e *Engine) VolumeUsers(name string) (ids []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, en := range e.entries {
		c := en.load()
		// One that is going takes its volumes along, if any, as its last act.
		if c.State.Phase != Removing && slices.ContainsFunc(c.Mounts, func(m Mount) bool { return m.Type == mounts.Volume && m.Name == name }) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// removeVolumes removes the container's anonymous volumes that nobody else
// uses.
func (e *Engine) removeVolumes(ctx context.Context, c *Container) error {
	var errs []error
	for _, m := range c.Mounts {
		if !m.Anonymous {
			continue
		}
		err := e.cfg.Volumes.Remove(ctx, m.Name, true)
		if err != nil && !errors.Is(err, cnm.ErrConflict) && !errors.Is(err, cnm.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// bindSources makes the missing sources of -v, as Docker does at each start.
func bindSources(c *Container) error {
	for _, m := range c.Mounts {
		if m.Type != mounts.Bind || !m.CreateSource {
			continue
		}
		if _, err := os.Stat(m.Source); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(filepath.Clean(m.Source), 0o755); err != nil {
			return cnm.Invalid("error while creating mount source path '%s': %w", m.Source, err)
		}
	}
	return nil
}
