package container

import (
	"context"
	"strings"

	"linkspan/cnm"
)

// Pause implements Service.
func (e *Engine) Pause(ctx context.Context, ref string) error {
	en, c, err := e.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer en.unlock()
	switch {
	case c.State.Phase == Paused:
		return cnm.Conflict("container %s is already paused", c.ID)
	case !c.State.Phase.running():
		return notRunning(c)
	case en.currentRun() == nil:
		return e.unadopted(c)
	}
	en.entering.Lock()
	defer en.entering.Unlock()
	if err := e.ctd.pause(lasting(ctx), c.ID); err != nil {
		return err
	}
	c = e.observe(en, "paused", func(c *Container) { c.State.Phase = Paused })
	e.publish(c, "pause")
	return nil
}

// Unpause implements Service.
func (e *Engine) Unpause(ctx context.Context, ref string) error {
	en, c, err := e.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer en.unlock()
	if c.State.Phase != Paused {
		return cnm.Conflict("container %s is not paused", c.ID)
	}
	if err := e.ctd.resume(lasting(ctx), c.ID); err != nil {
		return err
	}
	c = e.observe(en, "unpaused", func(c *Container) { c.State.Phase = Running })
	e.publish(c, "unpause")
	return nil
}

// Rename implements Service.
func (e *Engine) Rename(ctx context.Context, ref, name string) error {
	name = strings.TrimPrefix(name, "/")
	if name == "" || strings.TrimPrefix(ref, "/") == "" {
		return cnm.Invalid("Neither old nor new names may be empty")
	}
	en, c, err := e.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer en.unlock()
	if c.Name == name {
		return cnm.Invalid("Renaming a container with the same name as its current name")
	}
	if c.State.Phase == Removing {
		return cnm.Conflict("container %s is marked for removal and cannot be renamed", c.ID)
	}
	if _, err := e.claim(name, c.ID); err != nil {
		return err
	}
	old := c.Name
	ctx = lasting(ctx)
	if err := e.redefine(ctx, en, "renamed", func(c *Container) { c.Name = name }); err != nil {
		e.unclaim(name, c.ID)
		return err
	}
	e.unclaim(old, c.ID)
	c = en.load()
	e.followLinks(ctx, c)
	e.publish(c, "rename", "oldName", "/"+old)
	return nil
}

// Resize implements Service.
func (e *Engine) Resize(ctx context.Context, ref string, height, width uint) error {
	en, err := e.find(ref)
	if err != nil {
		return err
	}
	c := en.load()
	if !c.State.Phase.running() {
		return notRunning(c)
	}
	if err := e.ctd.resize(ctx, c.ID, "", height, width); err != nil {
		return err
	}
	e.publish(c, "resize", "height", itoa(int(height)), "width", itoa(int(width)))
	return nil
}
