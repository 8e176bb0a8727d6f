package daemon

import (
	"context"

	"linkspan/dataplane/linux"
)

// beside has work done until the engine closes; the close waits for its end.
func (e *engine) beside(work func(ctx context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		work(ctx)
	}()
	e.later(func() error { stop(); <-done; return nil })
}

// listen opens the watch over the kernel, until the engine closes.
func (e *engine) listen() (*linux.Watch, error) {
	ctx, stop := context.WithCancel(context.Background())
	watch, err := e.kernel.Watch(ctx)
	if err != nil {
		stop()
		return nil, err
	}
	e.later(func() error { stop(); return nil })
	return watch, nil
}

// follow acts upon what the watch tells: bridge-nf fits the bridges of others, the
// host's routes need not be read for every network, and what somebody took away of
// ours comes back. Ports that were lost are tried again.
func (e *engine) follow(watch *linux.Watch) {
	e.beside(func(ctx context.Context) {
		for range until(ctx, watch.Bridges) {
			if err := e.network.BridgesChanged(ctx); err != nil && ctx.Err() == nil {
				e.log.Error("a bridge came or went, and bridge-nf could not be set to fit", "err", err)
			}
		}
	})
	e.beside(func(ctx context.Context) { e.network.HostWatched(until(ctx, watch.Routes)) })
	e.beside(e.network.Run)
	e.beside(e.kernel.KeepHooks)
	if e.cfg.Repair {
		e.beside(func(ctx context.Context) { e.network.Repair(ctx, watch) })
	}
}

// until passes news on while the context lives.
func until(ctx context.Context, news <-chan struct{}) <-chan struct{} {
	out := make(chan struct{})
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case _, open := <-news:
				if !open {
					return
				}
				select {
				case out <- struct{}{}:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}
