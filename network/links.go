package network

import (
	"context"
	"maps"
	"slices"

	"linkspan/cnm"
	"linkspan/dataplane/diff"
)

// links fills in where the targets of links are on a network now.
func (c *Controller) links(n *cnm.Network, wishes []cnm.Link) []cnm.Link {
	if len(wishes) == 0 {
		return nil
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := slices.Clone(wishes)
	for i := range out {
		out[i].Addrs = nil
		if s := c.sandboxes[c.owners[out[i].Target]]; s != nil {
			if e := endpointOn(s, n.ID); e != nil {
				out[i].Addrs = addresses(e)
			}
		}
	}
	return out
}

// relink brings the links to a container, and its own, to where their targets are
// now. What fails is told and put right by the next reconciliation: a container does
// not fail to start because of those that link to it. The caller holds no lock.
func (c *Controller) relink(ctx context.Context, containerID string) {
	c.mu.RLock()
	owners := slices.Sorted(maps.Keys(c.linkers[containerID]))
	if s := c.sandboxes[c.owners[containerID]]; s != nil {
		for i := range s.Endpoints {
			if len(s.Endpoints[i].Links) > 0 {
				owners = append(owners, containerID) // a target may have come while it did
				break
			}
		}
	}
	c.mu.RUnlock()
	for _, owner := range owners {
		if err := c.relinkOne(context.WithoutCancel(ctx), owner); err != nil {
			c.log.Warn("links do not lead to where their targets are now", "container", owner, "err", err)
		}
	}
}

func (c *Controller) relinkOne(ctx context.Context, owner string) error {
	defer c.locks.lock(owner)()
	c.world.RLock()
	defer c.world.RUnlock()
	was, ok := c.owned(owner)
	if !ok {
		return nil
	}
	now := clone(was)
	for i := range now.Endpoints {
		e := &now.Endpoints[i]
		if n, err := c.Network(e.NetworkID); err == nil {
			e.Links = c.links(n, e.Links)
		}
	}
	if same(was, now) {
		return nil
	}
	if err := c.commit(ctx, now.ID, now); err != nil {
		return err
	}
	env := c.cfg.Env()
	from, err := c.sandboxObjects(env, was)
	if err != nil {
		return err
	}
	to, err := c.sandboxObjects(env, now)
	if err != nil {
		return err
	}
	return c.cfg.Kernel.Apply(ctx, diff.Update(from, to))
}
