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
