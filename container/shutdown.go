package container

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

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
