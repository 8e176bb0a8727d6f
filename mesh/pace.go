package mesh

import (
	"context"
	"math/rand/v2"
	"time"
)

// retry is how long to wait after the n-th attempt in vain: from a few milliseconds to
// two seconds, never the same for two.
func retry(n int) time.Duration {
	d := 4 * time.Millisecond << min(n, 9)
	return d/2 + rand.N(d/2)
}

// pause waits, or errs when ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// bell wakes one waiter; ringing twice is ringing once.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}
