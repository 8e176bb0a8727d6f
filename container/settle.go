package container

import (
	"context"
	"time"

	tasktypes "github.com/containerd/containerd/api/types/task"
)

// settleOne looks after one container. True: it is to be started.
func (e *Engine) settleOne(ctx context.Context, en *entry, running map[string]task) (start bool) {
	if en.lock(ctx) != nil {
		return false
	}
	c := en.load()
	t, there := running[c.ID]
	live := there && (t.status == tasktypes.Status_RUNNING || t.status == tasktypes.Status_PAUSED || t.status == tasktypes.Status_PAUSING)
	switch {
	case c.State.Phase == Removing:
		defer en.unlock()
		if err := e.remove(ctx, en, c.RemoveVolumes); err != nil {
			e.log.Error("a removal that was cut short is not finished", "container", c.Name, "error", err)
		}
		return false
	case c.State.Starting:
		defer en.unlock()
		return e.settleStarting(ctx, en, live)
	case c.State.Phase.running():
		e.adopt(ctx, en, t, live)
		en.unlock() // the handling of an exit takes it
		if !live && !there {
			r := en.currentRun()
			e.exited(en, r, exit{code: lostCode, at: time.Now().UTC()})
		}
		return false
	}
	defer en.unlock()
	if there {
		if err := e.ctd.killTask(ctx, c.ID); err != nil {
			e.log.Warn("a task of a container at rest stays", "container", c.Name, "error", err)
		}
	}
	if c.State.Phase == Restarting {
		return true
	}
	e.restLeave(ctx, c)
	if c.HostConfig.AutoRemove && c.State.Phase == Exited {
		if err := e.remove(ctx, en, true); err != nil {
			e.log.Error("an ended container is not removed (--rm)", "container", c.Name, "error", err)
		}
		return false
	}
	return shouldBoot(c)
}

func (e *Engine) restLeave(ctx context.Context, c *Container) {
	if err := e.cfg.Network.Leave(ctx, c.ID, false); err != nil {
		e.log.Warn("a container at rest stays in its network", "container", c.Name, "error", err)
	}
	e.unmountShm(c.ID)
	e.leaveVolumes(ctx, c)
}

// adopt takes over a container that the record says runs.
func (e *Engine) adopt(ctx context.Context, en *entry, t task, live bool) {
	c := en.load()
	r := &run{pid: c.State.Pid, started: c.State.StartedAt, stopping: c.State.ManuallyStopped, done: make(chan struct{})}
	if !live {
		if t.id != "" {
			e.watch(en, r, e.settled) // containerd still has the exit code
			return
		}
		en.mu.Lock()
		en.run = r
		en.mu.Unlock()
		return
	}
	// The keeper may be a new one: then it makes the same FIFOs again.
	e.holdStream(ctx, c)
	phase := Running
	if t.status != tasktypes.Status_RUNNING {
		phase = Paused
	}
	if c.State.Frozen && phase == Paused && e.thawed(ctx, c) {
		phase = Running
	}
	if c.State.Phase != phase || c.State.Pid != t.pid || c.State.Frozen {
		e.observe(en, "adopted", func(c *Container) { c.State.Phase, c.State.Pid, c.State.Frozen = phase, t.pid, false })
	}
	e.bringUp(ctx, en)
	e.dropProbes(ctx, en.load())
	r.pid = t.pid
	e.watch(en, r, e.settled)
	e.monitor(en, r, true)
}

// holdStream makes sure that the keeper reads a running container's stdio.
func (e *Engine) holdStream(ctx context.Context, c *Container) {
	_, err := e.openStream(ctx, c)
	if err == nil {
		err = e.cfg.Keeper.Started(ctx, c.ID)
	}
	if err != nil {
		e.log.Error("the keeper does not hold a container's stdio", "container", c.Name, "error", err)
	}
}

// KeeperReplaced makes again what a keeper held that has died. It is for the
// keeper client.
func (e *Engine) KeeperReplaced(ctx context.Context) {
	e.each(func(en *entry) {
		if c := en.load(); c.State.Phase.running() {
			e.holdStream(ctx, c)
		} else if c.State.Phase != Removing {
			if _, err := e.openStream(ctx, c); err != nil {
				e.log.Error("the keeper does not hold a container's stdio", "container", c.Name, "error", err)
			}
		}
	})
}

// settleStarting finishes a start that was cut short. A process that runs is
// adopted; a start before that is begun again, but for one whose person sat at
// its terminal: the connection is gone, and so is the wish.
func (e *Engine) settleStarting(ctx context.Context, en *entry, live bool) (start bool) {
	c := en.load()
	if live {
		t, err := e.ctd.process(ctx, c.ID, "")
		if err == nil {
			e.holdStream(ctx, c)
			if err = e.started(ctx, en, t.pid); err == nil {
				return false
			}
		}
		e.log.Error("a container that was being started is not adopted", "container", c.Name, "error", err)
	}
	e.quiet(ctx, c.ID)
	e.clearRun(ctx, c)
	attended := c.Config.AttachStdin && c.Config.StdinOnce
	c = e.observe(en, "unstarted", func(c *Container) {
		c.State.Starting, c.State.Pid = false, 0
		if c.State.Phase.running() {
			c.State.Phase = Exited
		}
	})
	if !attended {
		return true
	}
	if c.HostConfig.AutoRemove {
		if err := e.remove(ctx, en, true); err != nil {
			e.log.Error("a container is not removed (--rm)", "container", c.Name, "error", err)
		}
	}
	return false
}
