package trust

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"linkspan/cnm"
)

// Renewer renews this host's certificate when two thirds of its life are over, which
// leaves a month to reach a gate.
type Renewer struct {
	Identity *Identity
	// Gates are those known now; the order is the caller's.
	Gates func() []string
	// Renewed hears what a gate answered: endpoints and gates may be others than before.
	Renewed func(*Answer)
	// Renew does it; nil: Identity.Renew with Gates.
	Renew func(ctx context.Context) (*Answer, error)
	Log   *slog.Logger
}

const (
	firstRetry = time.Minute
	lastRetry  = time.Hour
	// longest is how long it sleeps in one go: a clock that is set meanwhile, or a host
	// that was suspended, is noticed then.
	longest = time.Hour
)

// Run renews until ctx ends. A host that was off for longer than its certificate's life
// cannot be helped by it: that is said once an hour, with the way back.
func (r *Renewer) Run(ctx context.Context) error {
	log := r.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("host", r.Identity.Name(), "mesh", r.Identity.CA().Name())
	retry := firstRetry
	for {
		wait := r.wait(time.Now())
		if wait <= 0 {
			a, err := r.renew(ctx)
			switch {
			case err == nil:
				retry = firstRetry
				log.Info("mesh: the certificate was renewed", "until", r.Identity.Certificate().NotAfter)
				if r.Renewed != nil && a != nil {
					r.Renewed(a)
				}
				wait = 0
				if r.wait(time.Now()) <= 0 {
					wait = lastRetry // it was due again at once: a gate whose clock is far off
				}
			case ctx.Err() != nil:
				return nil
			default:
				log.Warn("mesh: the certificate was not renewed", "error", err, "ends", r.Identity.Certificate().NotAfter, "again in", retry)
				wait, retry = retry, min(2*retry, lastRetry)
				if errors.Is(err, cnm.ErrForbidden) { // forgotten, or expired: not for us to change
					wait = lastRetry
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(wait, longest)):
		}
	}
}

// wait is how long until the certificate is due. Hosts that joined together do not renew
// together: each waits up to a thirtieth of the life more, the same each time.
func (r *Renewer) wait(now time.Time) time.Duration {
	c := r.Identity.Certificate()
	if now.After(c.NotAfter) {
		return 0
	}
	spread := c.NotAfter.Sub(c.NotBefore) / 30
	seed := uint64(0)
	for _, b := range c.SerialNumber.Bytes() {
		seed = seed*31 + uint64(b)
	}
	late := time.Duration(rand.New(rand.NewPCG(seed, 0)).Int64N(int64(spread) + 1))
	return due(c).Add(late).Sub(now)
}

func (r *Renewer) renew(ctx context.Context) (*Answer, error) {
	if r.Renew != nil {
		return r.Renew(ctx)
	}
	return r.Identity.Renew(ctx, r.Gates(), nil)
}
