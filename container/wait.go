package container

import (
	"context"
	"slices"

	"linkspan/cnm"
)

// Wait implements Service. It is bound to the container from its creation on.
func (e *Engine) Wait(ctx context.Context, ref string, cond WaitCondition) (<-chan WaitResult, error) {
	en, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	// Room for one result: nobody who tells has to wait for who listens.
	inner := make(chan WaitResult, 1)
	en.mu.Lock()
	c := en.load()
	switch cond {
	case WaitNotRunning, "":
		if en.run == nil && c.State.Phase != Restarting {
			inner <- WaitResult{ExitCode: c.State.ExitCode}
		} else {
			en.nextExit = append(en.nextExit, inner)
		}
	case WaitNextExit:
		en.nextExit = append(en.nextExit, inner)
	case WaitRemoved:
		if en.gone {
			inner <- WaitResult{ExitCode: c.State.ExitCode}
		} else {
			en.removed = append(en.removed, inner)
		}
	default:
		en.mu.Unlock()
		return nil, cnm.Invalid("invalid condition: %q", string(cond))
	}
	if en.gone && len(inner) == 0 {
		// Removed between being found and now: there is no further exit.
		inner <- WaitResult{ExitCode: c.State.ExitCode}
	}
	en.mu.Unlock()
	out := make(chan WaitResult, 1)
	go func() {
		select {
		case r := <-inner:
			out <- r
		case <-ctx.Done():
			en.forget(inner)
			out <- WaitResult{Err: ctx.Err()}
		}
	}()
	return out, nil
}

func (en *entry) forget(c chan WaitResult) {
	en.mu.Lock()
	defer en.mu.Unlock()
	same := func(w chan WaitResult) bool { return w == c }
	en.nextExit = slices.DeleteFunc(en.nextExit, same)
	en.removed = slices.DeleteFunc(en.removed, same)
}
