package container

import (
	"context"
	"slices"

	"linkspan/container/mounts"
)

// mountVolumes mounts those of the container's volumes that are mounts themselves.
// A container sees them through mounts of its own; the place on the host is for
// whoever starts next, and for people.
func (e *Engine) mountVolumes(ctx context.Context, c *Container) error {
	for _, m := range c.Mounts {
		if m.Type == mounts.Volume {
			if err := e.cfg.Volumes.Mount(ctx, m.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// leaveVolumes unmounts those that no other container that runs has. What stays
// is mounted until the next one that has it ends, or the volume is removed.
func (e *Engine) leaveVolumes(ctx context.Context, c *Container) {
	for _, m := range c.Mounts {
		if m.Type != mounts.Volume {
			continue
		}
		err := e.cfg.Volumes.Unmount(ctx, m.Name, func() bool { return e.volumeActive(m.Name, c.ID) })
		if err != nil {
			e.log.Warn("a volume stays mounted", "container", c.Name, "volume", m.Name, "error", err)
		}
	}
}

// volumeActive says whether a container besides one runs with a volume, or is being
// started with it: that is committed before anything is mounted.
func (e *Engine) volumeActive(name, besides string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, en := range e.entries {
		c := en.load()
		active := c.State.Phase.running() || c.State.Phase == Restarting || c.State.Starting
		if id != besides && active && slices.ContainsFunc(c.Mounts, func(m Mount) bool { return m.Type == mounts.Volume && m.Name == name }) {
			return true
		}
	}
	return false
}
