package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"linkspan/cnm"
)

// lostCode is the exit code of a process whose end nobody saw: the machine went
// down, or the shim. Docker's.
const lostCode = 255

// watch waits for the end of a run in the background. The caller has the lock.
//
// With after, containerd is asked only when it is closed: when a daemon starts, hundreds
// of shims would be woken while the first request waits.
func (e *Engine) watch(en *entry, r *run, after <-chan struct{}) {
	en.mu.Lock()
	en.run = r
	en.mu.Unlock()
	e.work.Go(func() {
		if after != nil {
			select {
			case <-after:
			case <-e.ctx.Done():
				return
			}
		}
		x, err := e.awaitExit(en.id, "")
		if err != nil {
			return // the engine shuts down; the next one takes over
		}
		e.exited(en, r, x)
	})
}

// awaitExit waits for a process through whatever becomes of containerd.
func (e *Engine) awaitExit(id, exec string) (exit, error) {
	for {
		x, err := e.ctd.wait(e.ctx, id, exec)
		switch {
		case err == nil:
			return x, nil
		case e.ctx.Err() != nil:
			return exit{}, e.ctx.Err()
		case errdefs.IsNotFound(err):
			return exit{code: lostCode, at: time.Now().UTC()}, nil
		case !errors.Is(err, cnm.ErrUnavailable):
			// The shim died under the call: containerd will tell what is left.
			select {
			case <-time.After(100 * time.Millisecond):
			case <-e.ctx.Done():
				return exit{}, e.ctx.Err()
			}
		}
		if err := e.ctd.whenServing(e.ctx); err != nil {
			return exit{}, err
		}
		if t, err := e.ctd.process(e.ctx, id, exec); errdefs.IsNotFound(err) || err == nil && t.pid == 0 && exec == "" {
			return exit{code: lostCode, at: time.Now().UTC()}, nil
		}
	}
}

// drainLimit is how long the output of an ended process may take to come
// through. With a shared PID namespace a child can hold the pipe for ever.
const drainLimit = 2 * time.Second

// exited handles the end of a run: the output is complete before anybody hears
// of it, and the state is committed before containerd forgets the exit code.
func (e *Engine) exited(en *entry, r *run, x exit) {
	if en.lock(e.ctx) != nil {
		return
	}
	defer en.unlock()
	if en.currentRun() != r {
		return
	}
	ctx := lasting(e.ctx)
	e.drain(ctx, en.id)
	c := en.load()
	oom := oomKilled(e.cgroupPath(c), e.host.CgroupV2)

	en.mu.Lock()
	stopping, again := r.stopping, r.restarting
	oom = oom || r.oom
	policy := !again && shouldRestart(c.HostConfig.RestartPolicy, x.code, c.State.Restarts, stopping || c.State.ManuallyStopped)
	var delay time.Duration
	if policy {
		delay = en.backoff.next(time.Since(r.started))
	}
	en.mu.Unlock()

	c = e.observe(en, "exited", func(c *Container) {
		s := &c.State
		s.Phase, s.Pid, s.ExitCode, s.FinishedAt, s.OOMKilled, s.Health = Exited, 0, x.code, x.at.UTC(), oom, endHealth(s.Health)
		if policy || again {
			s.Phase = Restarting
		}
		if policy {
			s.Restarts++
		}
	})
	e.leave(ctx, c, policy || again)
	if !policy && !again {
		e.followLinks(ctx, c) // what leads nowhere any more goes from their files
	}
	e.publish(c, "die", "exitCode", itoa(x.code), "execDuration", itoa(int(time.Since(r.started).Seconds())))
	e.endRun(en, r, x.code)
	switch {
	case policy:
		e.restartLater(en, delay)
	case c.HostConfig.AutoRemove && !again:
		if err := e.remove(ctx, en, true); err != nil {
			e.log.Error("a container is not removed after its end (--rm)", "container", c.Name, "error", err)
		}
	}
}

// drain waits until the output is in the log and with those attached.
func (e *Engine) drain(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	err := e.cfg.Keeper.Drain(ctx, id)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		// A client that reads slowly gets the rest all the same.
		e.log.Debug("output of an ended process is still on its way", "id", id)
	default:
		e.log.Warn("the last output of a process may be missing", "id", id, "error", err)
	}
}

// leave takes the ended process's task and its place in the network away, both
// at once. What fails is found by the next start or sweep.
func (e *Engine) leave(ctx context.Context, c *Container, keep bool) {
	var both sync.WaitGroup
	both.Go(func() {
		if err := e.ctd.deleteTask(ctx, c.ID); err != nil {
			e.log.Warn("an ended task stays in containerd for now", "container", c.Name, "error", err)
		}
	})
	both.Go(func() {
		e.cfg.Hook("network.leave.before")
		err := e.cfg.Network.Leave(ctx, c.ID, keep)
		e.cfg.Hook("network.leave.after")
		if err != nil {
			e.log.Error("an ended container stays in its network for now", "container", c.Name, "error", err)
		}
	})
	both.Wait()
	if !keep {
		e.unmountShm(c.ID)
		e.leaveVolumes(ctx, c)
	}
	e.endExecs(ctx, c.ID)
}

// endRun tells all who wait for the end of a run.
func (e *Engine) endRun(en *entry, r *run, code int) {
	en.mu.Lock()
	en.run = nil
	en.mu.Unlock()
	en.tell(code)
	close(r.done)
}

// tell answers those who wait for the next exit.
func (en *entry) tell(code int) {
	en.mu.Lock()
	waiting := en.nextExit
	en.nextExit = nil
	en.mu.Unlock()
	for _, w := range waiting {
		w <- WaitResult{ExitCode: code}
	}
}

// oomKilled reads from the cgroup, which is there until the task is deleted,
// whether the kernel killed one of its processes for want of memory.
func oomKilled(path string, v2 bool) bool {
	f := filepath.Join("/sys/fs/cgroup/memory", path, "memory.oom_control")
	if v2 {
		f = filepath.Join("/sys/fs/cgroup", path, "memory.events")
	}
	b, err := os.ReadFile(f)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		var key string
		var n int
		if _, err := fmt.Sscan(line, &key, &n); err == nil && key == "oom_kill" {
			return n > 0
		}
	}
	return false
}
