package network

import (
	"context"
	"errors"

	"linkspan/cnm"
	"linkspan/keeper"
	"linkspan/publish"
)

// ports is the keeper as the controller uses it: what is released is not tried any
// more.
type ports struct {
	keeper.Keeper
	lost *keeper.Holder
}

func (p ports) Release(ctx context.Context, owner string) error {
	p.lost.Forget(owner)
	return p.Keeper.Release(ctx, owner)
}

// watchPorts puts a Holder before the keeper.
func (c *Controller) watchPorts() {
	c.lost = keeper.NewHolder(c.cfg.Ports, c.log)
	c.cfg.Ports = ports{c.cfg.Ports, c.lost}
}

// Run tries, until ctx ends, to have ports again that another program took while no
// keeper was there.
func (c *Controller) Run(ctx context.Context) { c.lost.Run(ctx) }

// holdPorts has the keeper hold the ports of the living sandboxes and no others. All
// are offered each time, since one may be held in part.
func (c *Controller) holdPorts(ctx context.Context) error {
	held, err := c.cfg.Ports.Ports(ctx)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var errs []error
	for _, h := range held {
		if seen[h.Owner] {
			continue
		}
		seen[h.Owner] = true
		c.mu.RLock()
		_, alive := c.sandboxes[h.Owner]
		c.mu.RUnlock()
		if !alive {
			errs = append(errs, c.cfg.Ports.Release(ctx, h.Owner))
		}
	}
	for _, s := range c.Sandboxes() {
		if len(s.Ports) == 0 {
			continue
		}
		err := (*reserver)(c).take(ctx, s, s.Ports)
		if taken := (*publish.TakenError)(nil); errors.As(err, &taken) {
			reqs, _ := portRequests(s.ID, c.targets(s), s.Ports, !c.noSix.Load())
			err = c.lost.Hold(ctx, s.ID, s.OwnerName, reqs)
		}
		if err != nil {
			errs = append(errs, cnm.Errorf(cnm.ErrUnavailable, "the host ports of %s cannot be reserved again: %w; its published ports go on working, since the kernel translates them", s.OwnerName, err))
		}
	}
	return errors.Join(errs...)
}

// dryReserver tells whether ports could be reserved for a sandbox.
type dryReserver struct {
	c *Controller
	s *cnm.Sandbox
	publish.Dry
}

// Reserve implements publish.Reserver.
func (r dryReserver) Reserve(ctx context.Context, owner string, ports []cnm.PublishedPort) error {
	if reqs, _ := portRequests(owner, r.c.targets(r.s), ports, true); len(reqs) == 0 {
		return nil // no port of the host leads there
	}
	return r.Dry.Reserve(ctx, owner, ports)
}
