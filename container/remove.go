package container

import (
	"context"
	"errors"
	"fmt"
	"os"

	"linkspan/cnm"
	"linkspan/store"
)

// Remove implements Service.
func (e *Engine) Remove(ctx context.Context, ref string, o RemoveOptions) error {
	if o.Link {
		return e.removeLink(ctx, ref)
	}
	en, c, err := e.locked(ctx, ref)
	if err != nil {
		return err
	}
	if err := e.removable(en, c, o.Force); err != nil {
		en.unlock()
		return fmt.Errorf("cannot remove container %q: %w", "/"+c.Name, err)
	}
	ctx = lasting(ctx)
	if r := en.currentRun(); r != nil {
		// The handling of the exit takes the lock; what it finds then is a container
		// that no policy restarts.
		en.unlock()
		if err := e.killRun(ctx, en, r); err != nil {
			return fmt.Errorf("cannot remove container %q: could not kill container: %w", "/"+c.Name, err)
		}
		if err := en.lock(ctx); err != nil {
			return err
		}
	}
	defer en.unlock()
	en.mu.Lock()
	gone, again := en.gone, en.run != nil
	en.mu.Unlock()
	switch {
	case gone: // --rm was faster
		return nil
	case again:
		return cnm.Conflict("cannot remove container %q: it was started again meanwhile", "/"+c.Name)
	}
	return e.remove(ctx, en, o.Volumes)
}

// removable checks, and marks a run that is to be killed.
func (e *Engine) removable(en *entry, c *Container, force bool) error {
	en.mu.Lock()
	defer en.mu.Unlock()
	switch {
	case c.State.Phase == Restarting && !force:
		return cnm.Conflict("container is restarting: stop the container before removing or force remove")
	case en.run == nil:
		return nil
	case !force && c.State.Phase == Paused:
		return cnm.Conflict("container is paused and must be unpaused first")
	case !force:
		return cnm.Conflict("container is running: stop the container before removing or force remove")
	}
	en.run.stopping = true
	return nil
}

// remove takes a container at rest away; the caller has its lock. It begins
// with a commit that says so: after a crash the rest is done at the next start.
func (e *Engine) remove(ctx context.Context, en *entry, volumes bool) error {
	e.cancelRestart(en)
	c, err := e.change(ctx, en, "removing", func(c *Container) {
		c.State.Phase, c.RemoveVolumes = Removing, c.RemoveVolumes || volumes
	})
	if err != nil {
		return err
	}
	if err := e.demolish(ctx, c, c.RemoveVolumes); err != nil {
		return fmt.Errorf("container %q is half removed, and the rest is tried again at the next start or `rm`: %w", c.Name, err)
	}
	e.mu.Lock()
	delete(e.entries, c.ID)
	if e.names[c.Name] == c.ID {
		delete(e.names, c.Name)
	}
	e.mu.Unlock()
	en.mu.Lock()
	en.gone = true
	waiting := append(en.removed, en.nextExit...)
	en.removed, en.nextExit = nil, nil
	en.mu.Unlock()
	e.dropLinks(ctx, c)
	e.publish(c, "destroy")
	for _, w := range waiting {
		w <- WaitResult{ExitCode: c.State.ExitCode}
	}
	return nil
}

// demolish removes all that exists of a container and, last, its record. Each
// part may be gone already.
func (e *Engine) demolish(ctx context.Context, c *Container, volumes bool) error {
	var errs []error
	try := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	try(absent(e.ctd.killTask(ctx, c.ID)))
	try(e.cfg.Network.Leave(ctx, c.ID, false))
	try(e.cfg.Keeper.CloseStream(ctx, c.ID))
	e.forgetExecs(ctx, c.ID)
	e.unmountShm(c.ID)
	if len(errs) == 0 {
		// In this order: containerd's own garbage collector would take a snapshot
		// that no container names.
		try(e.ctd.deleteContainer(ctx, c.ID))
		try(e.ctd.removeSnapshot(ctx, c.ID))
	}
	try(e.step("folder.remove", func() error { return os.RemoveAll(e.dir(c.ID)) }))
	if volumes {
		try(e.removeVolumes(ctx, c))
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	_, err := e.write(ctx, "removed", store.Op{Key: recordPrefix + c.ID})
	if err == nil {
		e.cfg.Network.Undefine(c.ID)
	}
	return err
}
