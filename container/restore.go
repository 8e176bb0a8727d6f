package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	tasktypes "github.com/containerd/containerd/api/types/task"

	"linkspan/cnm"
)

// recovered looks, after containerd was away, for what could not be taken away
// meanwhile. Processes that ended are the watchers' business.
func (e *Engine) recovered(ctx context.Context) {
	running, err := e.ctd.tasks(ctx)
	if err != nil {
		return // away again
	}
	e.each(func(en *entry) {
		if en.lock(ctx) != nil {
			return
		}
		defer en.unlock()
		var err error
		c := en.load()
		_, there := running[c.ID]
		en.mu.Lock()
		rest := en.run == nil && !en.gone
		en.mu.Unlock()
		switch {
		case !rest:
		case c.State.Phase == Removing:
			err = e.remove(ctx, en, c.RemoveVolumes)
		case there && !c.State.Phase.running() && !c.State.Starting:
			err = e.ctd.killTask(ctx, c.ID)
		}
		if err != nil {
			e.log.Warn("after containerd came back", "container", c.Name, "error", err)
		}
	})
	e.sweep(ctx, running)
}

// parallel is how many containers are looked after at the same time when the
// daemon starts.
const parallel = 8

// Restore takes over what an earlier process left: it adopts the tasks that
// run, handles the exits that nobody saw, finishes starts and removals that were
// cut short, applies restart policies, and sweeps what no record declares. Call
// it once, after the network and the volumes are restored. When containerd is
// away, the records are served and the rest follows when it is back.
func (e *Engine) Restore(ctx context.Context) error {
	records, err := e.records(ctx)
	if err != nil {
		return err
	}
	var unborn []*Container
	e.mu.Lock()
	for _, c := range records {
		if c.Creating {
			unborn = append(unborn, c)
			continue
		}
		e.entries[c.ID] = newEntry(c)
		e.names[c.Name] = c.ID
	}
	e.mu.Unlock()
	e.defineAll(ctx)
	e.followResolv()
	if err := e.restoreExecs(ctx); err != nil {
		return err
	}
	running, err := e.tasks(ctx)
	if errors.Is(err, cnm.ErrUnavailable) {
		e.log.Error("containers are not looked after until containerd answers", "error", err)
		e.work.Go(func() {
			if e.ctd.whenServing(e.ctx) != nil {
				return
			}
			running, err := e.ctd.tasks(e.ctx)
			if err != nil {
				e.log.Error("containers are not looked after", "error", err)
				return
			}
			e.settle(e.ctx, unborn, running, false)
			e.follow()
		})
		return nil
	}
	if err != nil {
		return fmt.Errorf("containers: %w", err)
	}
	e.settle(ctx, unborn, running, true)
	e.follow()
	e.work.Go(func() {
		select {
		case <-time.After(secondLook):
			e.recovered(e.ctx)
		case <-e.ctx.Done():
		}
	})
	return nil
}

// LookAhead asks containerd for its tasks while the caller does something else: with
// hundreds of shims to ask, containerd needs a while. Restore takes the answer. Nobody
// starts a task meanwhile, and one that ends is noticed by who adopts it.
func (e *Engine) LookAhead(ctx context.Context) {
	type answer struct {
		running map[string]task
		err     error
	}
	ch := make(chan answer, 1)
	e.tasks = func(ctx context.Context) (map[string]task, error) {
		select {
		case a := <-ch:
			return a.running, a.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	e.work.Go(func() {
		running, err := e.ctd.tasks(ctx)
		ch <- answer{running, err}
	})
}

// secondLook is when the sweep is repeated after the daemon's start: what
// containerd was doing for a killed daemon may have come to its end after the first.
const secondLook = 10 * time.Second

// settle brings records and containerd together.
func (e *Engine) settle(ctx context.Context, unborn []*Container, running map[string]task, first bool) {
	for _, c := range unborn {
		if err := e.demolish(ctx, c, true); err != nil {
			e.log.Error("a container whose creation was cut short is not all removed", "container", c.Name, "error", err)
		}
	}
	var boot []*entry
	var bootMu sync.Mutex
	e.each(func(en *entry) {
		if e.settleOne(ctx, en, running) {
			bootMu.Lock()
			boot = append(boot, en)
			bootMu.Unlock()
		}
	})
	if first {
		// Before the first pull. What else is left over is in nobody's way: it has ids that
		// nobody has.
		if err := e.ctd.dropLeases(ctx); err != nil {
			e.log.Error("containerd's leases are not swept", "error", err)
		}
	}
	close(e.settled)
	e.work.Go(func() { e.sweep(e.ctx, running) })
	done := make(chan struct{})
	e.work.Go(func() {
		defer close(done)
		e.boot(e.ctx, boot)
	})
	// What is declared to run goes before new wishes, but a container that hangs
	// does not keep the daemon from serving.
	select {
	case <-done:
	case <-time.After(bootPatience):
	case <-ctx.Done():
	}
}

// bootPatience is how long the daemon's start waits for the containers' starts.
const bootPatience = 30 * time.Second

// each runs f for all containers, a few at a time.
func (e *Engine) each(f func(*entry)) {
	e.mu.Lock()
	list := make([]*entry, 0, len(e.entries))
	for _, en := range e.entries {
		list = append(list, en)
	}
	e.mu.Unlock()
	var all sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for _, en := range list {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			f(en)
		})
	}
	all.Wait()
}

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

// boot starts what is to run: those whose namespaces others join, or
// whose addresses they are told, come first.
func (e *Engine) boot(ctx context.Context, list []*entry) {
	wave := func(joining bool) {
		var all sync.WaitGroup
		slots := make(chan struct{}, parallel)
		for _, en := range list {
			c := en.load()
			joins := c.Target != "" || c.HostConfig.IpcMode.IsContainer() || c.HostConfig.PidMode.IsContainer() || len(c.Links) > 0
			if joins != joining {
				continue
			}
			slots <- struct{}{}
			all.Go(func() {
				defer func() { <-slots }()
				if en.lock(ctx) != nil {
					return
				}
				defer en.unlock()
				en.mu.Lock()
				busy := en.gone || en.run != nil
				en.mu.Unlock()
				if !busy {
					e.restartNow(en)
				}
			})
		}
		all.Wait()
	}
	wave(false)
	wave(true)
}

// restoreExecs brings the execs back whose clients may still ask.
func (e *Engine) restoreExecs(ctx context.Context) error {
	entries, _, err := e.cfg.Store.List(ctx, execPrefix)
	if err != nil {
		return fmt.Errorf("execs: %w", err)
	}
	for _, s := range entries {
		var r execRecord
		id := strings.TrimPrefix(s.Key, execPrefix)
		if err := json.Unmarshal(s.Value, &r); err != nil {
			return fmt.Errorf("exec %s in the store: %w", id, err)
		}
		en := newExecEntry(Exec{ID: id, ContainerID: r.ContainerID, Config: r.Config, Started: true, Running: r.Running, ExitCode: r.ExitCode})
		en.rev, en.claimed = s.Rev, true
		c, err := e.Get(r.ContainerID)
		if err != nil {
			e.forgetExec(ctx, en)
			continue
		}
		e.mu.Lock()
		e.execs[id] = en
		e.mu.Unlock()
		if !r.Running {
			close(en.ended)
			close(en.done)
			e.expireExec(en, max(0, execKeep-time.Since(r.Ended)))
			continue
		}
		e.adoptExec(ctx, c, en)
	}
	return nil
}

// adoptExec goes on with an exec that ran when the daemon ended.
func (e *Engine) adoptExec(ctx context.Context, c *Container, en *execEntry) {
	x := en.get()
	if t, err := e.ctd.process(ctx, c.ID, x.ID); err == nil && t.status == tasktypes.Status_CREATED {
		// Made and never started: nobody waits for it any more.
		e.failExec(ctx, en, errors.New("the daemon ended before the exec was started"))
		return
	} else if err == nil {
		en.mu.Lock()
		en.x.Pid = t.pid
		en.mu.Unlock()
		if err := e.cfg.Keeper.Started(ctx, x.ID); err != nil {
			e.log.Warn("the keeper has no stdio of an exec", "exec", x.ID, "error", err)
		}
	}
	e.watchExec(en)
}

// Shutdown ends the engine's work. Containers keep running unless the daemon is
// configured to stop them.
func (e *Engine) Shutdown(ctx context.Context) error {
	var errs []error
	if e.cfg.StopOnShutdown {
		var mu sync.Mutex
		e.each(func(en *entry) {
			if err := e.shutdownOne(ctx, en); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	e.cancel()
	defer e.removeCgroupParent()
	done := make(chan struct{})
	go func() { e.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("containers: background work goes on: %w", ctx.Err()))
	}
	return errors.Join(errs...)
}

// shutdownOne stops a container without marking it as stopped by a person: it
// comes back with the daemon.
func (e *Engine) shutdownOne(ctx context.Context, en *entry) error {
	if err := en.lock(ctx); err != nil {
		return err
	}
	e.cancelRestart(en)
	r := en.currentRun()
	if r != nil {
		en.mu.Lock()
		r.stopping = true
		en.mu.Unlock()
	}
	en.unlock()
	if r == nil {
		return nil
	}
	return e.stopRun(ctx, en, en.load(), r, StopOptions{})
}
