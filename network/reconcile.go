package network

import (
	"context"
	"errors"
	"fmt"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// Reconcile implements Service. It also has the keeper hold what it should.
func (c *Controller) Reconcile(ctx context.Context, dryRun bool) (*Report, error) {
	c.world.Lock()
	defer c.world.Unlock()
	return c.reconcile(ctx, dryRun)
}

// reconcile is Reconcile for a caller that has the world to itself.
func (c *Controller) reconcile(ctx context.Context, dryRun bool) (*Report, error) {
	if !dryRun {
		// Before what is wanted is computed: the guard depends on it.
		if err := c.noteForwarding(ctx); err != nil {
			return nil, err
		}
	}
	p, _, err := c.compare(ctx)
	if err != nil {
		return nil, err
	}
	if dryRun {
		return &Report{Ops: p.Ops, Drift: p.Drift}, nil
	}
	return c.bring(ctx, p)
}

// bring does what a comparison asks for, and has the keeper hold what it should.
func (c *Controller) bring(ctx context.Context, p diff.Plan) (*Report, error) {
	r := &Report{Ops: p.Ops, Drift: p.Drift}
	if err := c.cfg.Kernel.Apply(ctx, p.Ops); err != nil {
		r.Failures = split(err)
	}
	c.offloadsBack(ctx)
	for _, hold := range []func(context.Context) error{c.holdPorts, c.holdNames} {
		if err := hold(ctx); err != nil {
			r.Failures = append(r.Failures, err)
		}
	}
	return r, nil
}

// compare plans what brings the whole kernel to what is declared; seen is what there is.
func (c *Controller) compare(ctx context.Context) (p diff.Plan, seen *dataplane.State, err error) {
	want, pins, err := c.desired(ctx)
	if err != nil {
		return p, nil, err
	}
	have, err := c.cfg.Kernel.Observe(ctx, pins)
	if err != nil {
		return p, nil, fmt.Errorf("observe the kernel: %w", err)
	}
	if err := c.askNamed(ctx, want, have); err != nil {
		return p, nil, err
	}
	c.counted(want)
	return diff.Compute(want, have), have, nil
}

// askNamed adds to what was observed what the kernel does not tell by itself: which
// sysctls were set, and who holds a name that we want. Both are asked for one by one.
func (c *Controller) askNamed(ctx context.Context, want, have *dataplane.State) error {
	var ask []dataplane.Object
	for _, o := range want.All() {
		_, there := have.Get(o.Key())
		switch o.(type) {
		case dataplane.Sysctl, dataplane.Offload:
			ask = append(ask, o)
		case dataplane.Bridge, dataplane.Veth, dataplane.VXLAN, dataplane.WireGuard:
			if !there {
				ask = append(ask, o)
			}
		}
	}
	named, err := c.cfg.Kernel.ObserveKeys(ctx, ask)
	if err != nil {
		return fmt.Errorf("observe the kernel: %w", err)
	}
	have.Add(named.All()...)
	return nil
}

// split takes joined errors apart.
func split(err error) []error {
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		if _, one := err.(*dataplane.Failure); !one {
			return many.Unwrap()
		}
	}
	return []error{err}
}

// Hold has the keeper hold exactly the ports, and resolve exactly the names, of the
// living sandboxes: after a keeper's death it holds none, after the daemon's it may
// hold too many.
func (c *Controller) Hold(ctx context.Context) error {
	c.world.Lock() // a start that has reserved and not yet committed is not too many
	defer c.world.Unlock()
	return errors.Join(c.holdPorts(ctx), c.holdNames(ctx))
}

// HoldPorts is Hold.
func (c *Controller) HoldPorts(ctx context.Context) error { return c.Hold(ctx) }
