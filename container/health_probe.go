package container

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

const (
	// healthStart is how long starting a check may take; it does not count as the
	// check's own time.
	healthStart = 30 * time.Second
	// healthSoon is within which a container that is taken over from an earlier
	// daemon is checked.
	healthSoon = 2 * time.Second
)

// monitor checks a run's health until it ends. The caller has the container's
// lock, or is its exit's.
func (e *Engine) monitor(en *entry, r *run, adopted bool) {
	c := en.load()
	k := healthOf(c.Config)
	if k == nil {
		return
	}
	if c.State.Health == nil {
		e.remember(en, func(c *Container) { c.State.Health = k.begin(nil) })
	}
	e.work.Go(func() {
		next := func() time.Duration { return k.wait(en.load().State.Health, time.Since(r.started)) }
		wait := next()
		if adopted {
			wait = min(wait, rand.N(healthSoon))
		}
		for {
			select {
			case <-time.After(wait):
			case <-r.done:
				return
			case <-e.ctx.Done():
				return
			}
			if en.checkable(r) {
				if res := e.check(en, r, k); res != nil {
					e.judge(en, r, k, res)
				}
			}
			wait = next()
		}
	})
}

// checkable: a check of a container that is frozen or about to end says nothing.
func (en *entry) checkable(r *run) bool {
	en.mu.Lock()
	defer en.mu.Unlock()
	return en.run == r && !r.stopping && !r.restarting && en.load().State.Phase == Running
}

// judge writes a result down, and tells of a change of status. Only such a change
// goes to disk.
func (e *Engine) judge(en *entry, r *run, k *healthCheck, res *apicontainer.HealthcheckResult) {
	was := en.load().State
	next := k.judge(was.Health, r.started, res)
	changed := was.Health == nil || was.Health.Status != next.Status
	stale := false
	put := func(c *Container) {
		if stale = !c.State.Phase.running() || c.State.Pid != r.pid; !stale {
			c.State.Health = next
		}
	}
	if !changed {
		e.remember(en, put)
		return
	}
	if c := e.observe(en, "health", put); !stale {
		e.publish(c, "health_status: "+string(next.Status))
	}
}

// remember changes the record in memory alone; the next commit writes it too.
func (e *Engine) remember(en *entry, f func(*Container)) {
	en.commitMu.Lock()
	defer en.commitMu.Unlock()
	c := *en.load()
	f(&c)
	en.current.Store(&c)
}

// check runs the check once; nil when the container or the daemon ended meanwhile.
func (e *Engine) check(en *entry, r *run, k *healthCheck) *apicontainer.HealthcheckResult {
	res := &apicontainer.HealthcheckResult{Start: time.Now(), ExitCode: -1}
	code, out, err := e.probe(en, r, k)
	res.End = time.Now()
	switch {
	case errors.Is(err, errOver):
		return nil
	case err != nil:
		res.Output = err.Error()
	default:
		res.ExitCode, res.Output = code, out
	}
	return res
}

// errOver: nobody needs the result any more.
var errOver = errors.New("the container or the daemon ended")

// probe runs the check's command as an exec that no client sees and no store
// keeps, and reads what it prints.
func (e *Engine) probe(en *entry, r *run, k *healthCheck) (code int, output string, err error) {
	ours, theirs, err := pair()
	if err != nil {
		return 0, "", err
	}
	defer ours.Close()
	out := &limited{}
	read := make(chan struct{})
	go func() { defer close(read); out.drink(ours) }()

	x := newExecEntry(Exec{ID: newID(), ContainerID: en.id, Config: ExecConfig{Cmd: k.cmd, AttachStdout: true, AttachStderr: true}})
	x.passing = true
	id := x.get().ID
	e.mu.Lock()
	e.execs[id] = x
	e.mu.Unlock()
	ctx := lasting(e.ctx)
	defer e.forgetExec(ctx, x)
	e.publish(en.load(), "exec_create: "+joined(k.cmd), "execID", id)
	begun := make(chan error, 1)
	e.work.Go(func() {
		defer theirs.Close()
		en.entering.RLock()
		defer en.entering.RUnlock()
		c, err := e.claimExec(x)
		if err == nil {
			_, err = e.runExec(ctx, x, c, theirs, nil, false, make(chan struct{}))
		}
		if err != nil {
			e.failExec(ctx, x, err)
		}
		begun <- err
	})
	select {
	case err := <-begun:
		if err != nil {
			if en.checkable(r) {
				return 0, "", err
			}
			return 0, "", errOver
		}
	case <-time.After(healthStart):
		e.work.Go(func() {
			if <-begun == nil {
				e.endProbe(ctx, x, read)
			}
		})
		return 0, "", fmt.Errorf("timed out starting health check for container %s", en.id)
	case <-e.ctx.Done():
		return 0, "", errOver
	}
	if !e.awaitProbe(en, r, x, k.timeout) {
		if e.ctx.Err() != nil || !en.checkable(r) {
			return 0, "", errOver // the next daemon ends it, or the container's end has
		}
		e.endProbe(ctx, x, read)
		text := fmt.Sprintf("Health check exceeded timeout (%v)", k.timeout)
		if got := out.text(); got != "" {
			text += ": " + got
		}
		return 0, "", errors.New(text)
	}
	select {
	case <-x.done: // with all output
	case <-time.After(2 * drainLimit):
	}
	select {
	case <-read:
	case <-time.After(time.Second):
	}
	got := x.get()
	if e.ctx.Err() != nil || got.ExitCode == nil || !en.checkable(r) {
		return 0, "", errOver
	}
	return *got.ExitCode, out.text(), nil
}

// awaitProbe waits for the end of a check; false: its time is up, or the run is
// over. The time during which the container is frozen does not count.
func (e *Engine) awaitProbe(en *entry, r *run, x *execEntry, limit time.Duration) bool {
	for {
		select {
		case <-x.ended:
			return true
		case <-r.done:
			return false
		case <-e.ctx.Done():
			return false
		case <-time.After(limit):
			if en.load().State.Phase != Paused {
				return false
			}
		}
	}
}

// endProbe kills a check that takes too long, so that they do not pile up.
func (e *Engine) endProbe(ctx context.Context, x *execEntry, read <-chan struct{}) {
	got := x.get()
	if err := absent(e.ctd.signal(ctx, got.ContainerID, got.ID, syscall.SIGKILL, false)); err != nil {
		e.log.Warn("a health check that takes too long cannot be killed", "container", got.ContainerID, "error", err)
		return
	}
	x.await(killPatience)
	select {
	case <-read: // what it had printed
	case <-time.After(drainLimit):
	}
}

// dropProbes ends the checks that an earlier daemon left running: no record tells
// of them.
func (e *Engine) dropProbes(ctx context.Context, c *Container) {
	if healthOf(c.Config) == nil {
		return
	}
	ids, err := e.ctd.execs(ctx, c.ID)
	if err != nil {
		e.log.Warn("an earlier daemon's health checks are not looked for", "container", c.Name, "error", err)
		return
	}
	for _, id := range ids {
		if _, err := e.findExec(id); err == nil {
			continue
		}
		err := absent(e.ctd.signal(ctx, c.ID, id, syscall.SIGKILL, false))
		if err == nil {
			e.work.Go(func() {
				if _, err := e.awaitExit(c.ID, id); err == nil {
					_ = e.ctd.deleteExec(lasting(e.ctx), c.ID, id) // it goes with the task at the latest
				}
			})
			continue
		}
		e.log.Warn("an earlier daemon's health check goes on", "container", c.Name, "exec", id, "error", err)
	}
}

// pair is a connection with ourselves: the keeper serves one end like a client's.
func pair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "health"), os.NewFile(uintptr(fds[1]), "health"), nil
}

// limited keeps the first bytes of an output and swallows the rest.
type limited struct {
	mu   sync.Mutex
	kept []byte
	more bool
}

func (l *limited) drink(f *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		l.mu.Lock()
		room := min(n, healthOutput-len(l.kept))
		l.kept = append(l.kept, buf[:room]...)
		l.more = l.more || room < n
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (l *limited) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more {
		return string(l.kept) + "..."
	}
	return string(l.kept)
}
