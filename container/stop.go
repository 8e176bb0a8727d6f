package container

import (
	"context"
	"errors"
	"syscall"
	"time"

	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/signal"

	"linkspan/cnm"
)

// Docker's defaults, and how long a killed process may take to be gone.
const (
	defaultStop  = 10 // seconds
	killPatience = 15 * time.Second
)

// Stop implements Service.
func (e *Engine) Stop(ctx context.Context, ref string, o StopOptions) error {
	en, c, r, err := e.endable(ctx, ref, o)
	if err != nil || r == nil {
		return err
	}
	if err := e.stopRun(ctx, en, c, r, o); err != nil {
		return err
	}
	e.publish(en.load(), "stop")
	return nil
}

// endable marks a container as ended by a person, and returns its run. A
// container that waits for its restart has none and is at rest afterwards.
func (e *Engine) endable(ctx context.Context, ref string, o StopOptions) (*entry, *Container, *run, error) {
	if _, err := stopSignal(nil, o.Signal); err != nil {
		return nil, nil, nil, err
	}
	en, c, err := e.locked(ctx, ref)
	if err != nil {
		return nil, nil, nil, err
	}
	defer en.unlock()
	if c.State.Phase == Restarting {
		err := e.stopRestarting(en)
		return en, c, nil, err
	}
	if !c.State.Phase.running() {
		return nil, nil, nil, cnm.Errorf(cnm.ErrNotModified, "container %s is already stopped", c.ID)
	}
	r := en.currentRun()
	if r == nil {
		return nil, nil, nil, e.unadopted(c)
	}
	c, err = e.change(ctx, en, "stopping", func(c *Container) { c.State.ManuallyStopped = true })
	if err != nil {
		return nil, nil, nil, err
	}
	en.mu.Lock()
	r.stopping = true
	en.mu.Unlock()
	return en, c, r, nil
}

// unadopted: the record says that it runs, and containerd did not answer yet.
func (e *Engine) unadopted(c *Container) error {
	return cnm.Errorf(cnm.ErrUnavailable, "container %s is not looked after yet: containerd at %s has not answered since the daemon started; containers keep running", c.ID, e.cfg.Address)
}

// stopRestarting ends the wait for a restart.
func (e *Engine) stopRestarting(en *entry) error {
	e.cancelRestart(en)
	c, err := e.change(e.ctx, en, "stopped", func(c *Container) {
		c.State.Phase, c.State.ManuallyStopped = Exited, true
	})
	if err != nil {
		return err
	}
	e.leave(lasting(e.ctx), c, false)
	en.tell(c.State.ExitCode)
	e.publish(c, "stop")
	return nil
}

// stopSignal is what ends a container politely.
func stopSignal(c *Container, asked string) (syscall.Signal, error) {
	if asked == "" && c != nil {
		asked = c.Config.StopSignal
	}
	if asked == "" {
		return syscall.SIGTERM, nil
	}
	s, err := signal.ParseSignal(asked)
	if err != nil || s <= 0 || s > 64 {
		return 0, cnm.Invalid("invalid signal: %s", asked)
	}
	return s, nil
}

// stopRun asks the process to end and, when its time is up, kills it.
func (e *Engine) stopRun(ctx context.Context, en *entry, c *Container, r *run, o StopOptions) error {
	s, err := stopSignal(c, o.Signal)
	if err != nil {
		return err
	}
	limit := defaultStop
	if c.Config.StopTimeout != nil {
		limit = *c.Config.StopTimeout
	}
	if o.Timeout != nil {
		limit = *o.Timeout
	}
	if err := e.send(ctx, en, s); err != nil {
		e.log.Warn("a container did not take its stop signal; it is killed", "container", c.Name, "signal", int(s), "error", err)
		limit = 0
	}
	if limit < 0 {
		select {
		case <-r.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case <-r.done:
		return nil
	case <-time.After(time.Duration(limit) * time.Second):
	case <-ctx.Done():
		// The client is gone; what it wished stands.
	}
	return e.killRun(lasting(ctx), en, r)
}

// killRun kills until the run is over.
func (e *Engine) killRun(ctx context.Context, en *entry, r *run) error {
	for begin := time.Now(); ; {
		if err := e.send(ctx, en, syscall.SIGKILL); err != nil {
			return err
		}
		select {
		case <-r.done:
			return nil
		case <-time.After(killPatience / 3):
		}
		if time.Since(begin) > killPatience {
			return cnm.Errorf(cnm.ErrUnavailable, "container %s did not end within %s of its SIGKILL: its process hangs in the kernel, or containerd does not tell; see the daemon's log", en.id, killPatience)
		}
	}
}

// send signals the container's first process, tells of it, and thaws a frozen
// container when the signal is one to die of: it could not otherwise. One that
// has ended already is success.
func (e *Engine) send(ctx context.Context, en *entry, s syscall.Signal) error {
	c := en.load()
	err := absent(e.ctd.signal(lasting(ctx), en.id, "", s, false))
	if err != nil && !errors.Is(err, cnm.ErrUnavailable) {
		// Not started, stopped since, or its shim is just leaving ("ttrpc: closed").
		if t, perr := e.ctd.process(lasting(ctx), en.id, ""); errdefs.IsNotFound(perr) || perr == nil && t.status != tasktypes.Status_RUNNING && t.status != tasktypes.Status_PAUSED {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	e.publish(c, "kill", "signal", itoa(int(s)))
	if c.State.Phase == Paused && e.deadly(c, s) {
		// The process may be gone before it is thawed: cgroup v2 kills frozen ones.
		if err := e.ctd.resume(lasting(ctx), en.id); err != nil {
			e.log.Debug("thawing a container that is to end", "container", c.Name, "error", err)
		}
		e.observe(en, "thawed", func(c *Container) {
			if c.State.Phase == Paused {
				c.State.Phase = Running
			}
		})
	}
	return nil
}

// deadly: the signal is the container's own to stop by.
func (e *Engine) deadly(c *Container, s syscall.Signal) bool {
	own, err := stopSignal(c, "")
	return s == syscall.SIGKILL || err == nil && s == own
}

// Kill implements Service.
func (e *Engine) Kill(ctx context.Context, ref, name string) error {
	s := syscall.SIGKILL
	if name != "" {
		var err error
		if s, err = stopSignal(nil, name); err != nil {
			return err
		}
	}
	en, c, err := e.locked(ctx, ref)
	if err != nil {
		return err
	}
	r := en.currentRun()
	if c.State.Phase == Restarting && e.deadly(c, s) {
		defer en.unlock()
		return e.stopRestarting(en)
	}
	if c.State.Phase.running() && r == nil {
		en.unlock()
		return e.unadopted(c)
	}
	if r == nil {
		en.unlock()
		return cnm.Conflict("cannot kill container: %s: container %s is not running", ref, c.ID)
	}
	if e.deadly(c, s) {
		if _, err = e.change(ctx, en, "stopping", func(c *Container) { c.State.ManuallyStopped = true }); err == nil {
			en.mu.Lock()
			r.stopping = true
			en.mu.Unlock()
		}
	}
	en.unlock()
	if err != nil {
		return err
	}
	if err := e.send(ctx, en, s); err != nil {
		return err
	}
	if s != syscall.SIGKILL {
		return nil
	}
	// After a kill -9 the container is at rest when this returns, as with Docker.
	select {
	case <-r.done:
	case <-time.After(defaultStop * time.Second):
	case <-ctx.Done():
	}
	return nil
}

// Restart implements Service. The sandbox is kept, so that whoever shares it
// never notices; a crash in between finds a container that wants to run.
func (e *Engine) Restart(ctx context.Context, ref string, o StopOptions) error {
	if _, err := stopSignal(nil, o.Signal); err != nil {
		return err
	}
	en, c, err := e.locked(ctx, ref)
	if err != nil {
		return err
	}
	if c.State.Phase == Removing || c.State.Phase == Dead {
		en.unlock()
		return cnm.Conflict("container is marked for removal and cannot be started")
	}
	if r := en.currentRun(); r != nil && c.State.Phase.running() {
		en.mu.Lock()
		r.restarting = true
		en.mu.Unlock()
		en.unlock()
		if err := e.stopRun(ctx, en, c, r, o); err != nil {
			en.mu.Lock()
			r.restarting = false
			over := en.run != r
			en.mu.Unlock()
			if !over {
				return err
			}
		}
		e.publish(en.load(), "stop")
		if err := en.lock(lasting(ctx)); err != nil {
			return err
		}
	}
	defer en.unlock()
	e.cancelRestart(en)
	en.mu.Lock()
	gone, again := en.gone, en.run != nil
	en.backoff = backoff{}
	en.mu.Unlock()
	switch {
	case gone:
		return cnm.NotFound("No such container: %s", ref)
	case again:
		return nil // somebody else was faster
	}
	if err := e.start(lasting(ctx), en, func(s *State) { s.Restarts, s.ManuallyStopped = 0, false }); err != nil {
		return err
	}
	e.publish(en.load(), "restart")
	return nil
}
