package network

import (
	"context"
	"maps"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane/diff"
)

// RemoveNetwork implements Service.
func (c *Controller) RemoveNetwork(ctx context.Context, ref string) error {
	n, err := c.Network(ref)
	if err == nil && n.Global() {
		return c.removeGlobal(ctx, n)
	}
	c.world.RLock()
	defer c.world.RUnlock()
	if n, err = c.Network(ref); err != nil {
		return err
	}
	if n.Predefined {
		return cnm.Errorf(cnm.ErrForbidden, "%s is a pre-defined network and cannot be removed", n.Name)
	}
	objs, err := c.networkObjects(c.cfg.Env(), n, nil)
	if err != nil {
		return err
	}
	if err := c.seclude(n); err != nil {
		return err
	}
	if err := c.unstore(ctx, n); err != nil {
		c.mu.Lock()
		c.networks[n.ID] = n
		c.mu.Unlock()
		return err
	}
	ops := diff.Delete(objs)
	if n.Borrowed {
		ops = append(c.returning(), ops...)
	}
	if err := c.cfg.Kernel.Apply(context.WithoutCancel(ctx), ops); err != nil {
		c.log.Warn("something of a removed network is left; the next reconciliation takes it", "network", n.Name, "err", err)
	}
	c.mu.Lock()
	delete(c.pools, n.ID)
	c.unname(n)
	c.vacate(n)
	c.mu.Unlock()
	c.redefine(n)
	c.tellNetwork("destroy", n)
	c.log.Info("network removed", "network", n.Name)
	return nil
}

// seclude takes a network that nobody is on out of everyone's sight, so that
// nobody joins it any more; its name and subnets stay taken until it is gone.
func (c *Controller) seclude(n *cnm.Network) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.networks[n.ID] != n {
		return cnm.NotFound("network %s not found", n.Name)
	}
	if users := c.users[n.ID]; len(users) > 0 {
		names := slices.Sorted(maps.Values(users))
		if len(names) > 10 {
			names = append(names[:10], "…")
		}
		return cnm.Conflict("error while removing network: network %s id %s has active endpoints: %s; "+
			"stop these containers, or take them off with `docker network disconnect %s CONTAINER`", n.Name, n.ID, strings.Join(names, ", "), n.Name)
	}
	if n.ConfigOnly {
		for _, other := range c.networks {
			if other.ConfigFrom == n.Name {
				return cnm.Errorf(cnm.ErrForbidden, "configuration network %q is in use: network %s has its settings; remove that first", n.Name, other.Name)
			}
		}
	}
	delete(c.networks, n.ID)
	return nil
}
