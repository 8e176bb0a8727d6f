package container

import (
	"context"
	"errors"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
)

// Docker's times: the first restart waits a tenth of a second, each further one
// twice as long up to a minute; a run of ten seconds is taken for a success.
const (
	firstDelay = 100 * time.Millisecond
	maxDelay   = time.Minute
	longRun    = 10 * time.Second
)

// backoff is how long the next restart waits.
type backoff struct{ delay time.Duration }

func (b *backoff) next(ran time.Duration) time.Duration {
	switch {
	case b.delay == 0 || ran >= longRun:
		b.delay = firstDelay
	default:
		b.delay = min(2*b.delay, maxDelay)
	}
	return b.delay
}

// shouldRestart applies a policy to an exit. stopped: a person ended it.
func shouldRestart(p apicontainer.RestartPolicy, code, restarts int, stopped bool) bool {
	if stopped {
		return false
	}
	switch p.Name {
	case apicontainer.RestartPolicyAlways, apicontainer.RestartPolicyUnlessStopped:
		return true
	case apicontainer.RestartPolicyOnFailure:
		return code != 0 && (p.MaximumRetryCount == 0 || restarts < p.MaximumRetryCount)
	}
	return false
}

// shouldBoot applies a policy when the daemon starts. An "always" container
// comes back even if a person had stopped it.
func shouldBoot(c *Container) bool {
	s := &c.State
	if s.StartedAt.IsZero() {
		return false // never started: that is not ours to do
	}
	p := c.HostConfig.RestartPolicy
	return p.IsAlways() || shouldRestart(p, s.ExitCode, s.Restarts, s.ManuallyStopped)
}

// restart is a start that waits for its time.
type restart struct{ cancel context.CancelFunc }

// restartLater starts the container after a delay, unless something else
// happens to it before. The caller has its lock.
func (e *Engine) restartLater(en *entry, delay time.Duration) {
	ctx, cancel := context.WithCancel(e.ctx)
	r := &restart{cancel}
	en.mu.Lock()
	en.pending = r
	en.mu.Unlock()
	e.work.Go(func() {
		defer cancel()
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return
		}
		if en.lock(ctx) != nil {
			return
		}
		defer en.unlock()
		en.mu.Lock()
		mine := en.pending == r
		if mine {
			en.pending = nil
		}
		en.mu.Unlock()
		if !mine || ctx.Err() != nil || en.load().State.Phase != Restarting {
			return
		}
		e.restartNow(en)
	})
}

// restartNow is the policy's start. One that fails for a reason that may pass
// (a port still taken, containerd away) is tried again; one that the runtime
// refuses is given up, as with Docker.
func (e *Engine) restartNow(en *entry) {
	e.awaitLinks(en)
	err := e.start(lasting(e.ctx), en, func(s *State) {})
	if err == nil {
		return
	}
	c := en.load()
	e.log.Warn("a container was not restarted", "container", c.Name, "error", err)
	en.mu.Lock()
	gone := en.gone
	delay := en.backoff.next(0)
	en.mu.Unlock()
	var refused *startError
	if gone || errors.As(err, &refused) || errors.Is(err, cnm.ErrInvalid) || errors.Is(err, cnm.ErrNotFound) ||
		!shouldRestart(c.HostConfig.RestartPolicy, max(c.State.ExitCode, 1), c.State.Restarts, c.State.ManuallyStopped) {
		en.tell(c.State.ExitCode)
		return
	}
	e.observe(en, "restarting", func(c *Container) { c.State.Phase = Restarting; c.State.Restarts++ })
	e.restartLater(en, delay)
}

// cancelRestart takes back a restart that waits. The caller has the lock.
func (e *Engine) cancelRestart(en *entry) {
	en.mu.Lock()
	if en.pending != nil {
		en.pending.cancel()
		en.pending = nil
	}
	en.mu.Unlock()
}
