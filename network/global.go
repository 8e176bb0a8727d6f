package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/driver"
	"linkspan/ipam"
)

// spanning says whether the networks of a driver span hosts.
func (c *Controller) spanning(name string) bool {
	d, err := c.cfg.Drivers.Get(name)
	if err != nil {
		return false
	}
	_, ok := d.(driver.Spanner)
	return ok
}

// meshless says that something needs a mesh, and this host is in none.
func (c *Controller) meshless(n *cnm.Network) error {
	if c.Mesh() != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "network %s spans the hosts of a mesh, and this host is not in it any more: the others have forgotten it; see `linkspan mesh status`, and join it again with `linkspan mesh join`", n.Name)
	}
	return cnm.Errorf(cnm.ErrUnavailable, "network %s: networks of driver %s span the hosts of a mesh, and this host is in none: make one with `linkspan mesh init`, or join one with `linkspan mesh join`", n.Name, n.Driver)
}

// createGlobal makes a network of the whole mesh. It holds no lock while it waits for
// the others.
func (c *Controller) createGlobal(ctx context.Context, w NetworkWish) (*cnm.Network, string, error) {
	n, warning, avoid, bases, err := c.wishedGlobal(ctx, w)
	if err != nil {
		return nil, "", err
	}
	defer func() {
		c.mu.Lock()
		if c.networks[n.ID] == nil {
			c.unname(n)
		}
		c.mu.Unlock()
	}()
	c.spans.note(&c.spans.made, n.ID, true)
	m := c.Mesh()
	if err := m.Create(ctx, n, bases, avoid); err != nil {
		c.spans.note(&c.spans.made, n.ID, false)
		return nil, "", err
	}
	if err := c.admit(ctx, n); err != nil {
		if undone := m.Remove(context.WithoutCancel(ctx), n); undone != nil {
			err = errors.Join(err, fmt.Errorf("and it is left on the other hosts: %w", undone))
		}
		c.spans.note(&c.spans.made, n.ID, false)
		return nil, "", err
	}
	return n, warning, nil
}

// wishedGlobal checks a wish as far as this host can, and takes its name.
func (c *Controller) wishedGlobal(ctx context.Context, w NetworkWish) (n *cnm.Network, warning string, avoid *ipam.Space, bases []ipam.Base, err error) {
	c.world.RLock()
	defer c.world.RUnlock()
	fail := func(err error) (*cnm.Network, string, *ipam.Space, []ipam.Base, error) { return nil, "", nil, nil, err }
	if n, warning, err = c.wished(w); err != nil {
		return fail(err)
	}
	if m := c.Mesh(); m == nil || m.Underlay() == nil {
		return fail(c.meshless(n))
	}
	n.Scope = cnm.ScopeGlobal
	d, err := c.cfg.Drivers.Get(n.Driver)
	if err != nil {
		return fail(err)
	}
	if n.VNIs, err = driver.VNIs(d, n); err != nil {
		return fail(err)
	}
	host, err := c.hostUses(ctx)
	if err != nil {
		return fail(err)
	}
	avoid = &ipam.Space{}
	if c.cfg.HostRoutes != nil {
		routes, err := c.cfg.HostRoutes(ctx)
		if err != nil {
			return fail(err)
		}
		for _, r := range routes {
			if !ipam.DefaultRoute(r.Prefix) {
				avoid.Add(r.Prefix, r.What)
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.names[n.Name]; taken {
		return fail(cnm.Conflict("network with name %s already exists; choose another name, or remove it with `docker network rm %s`", n.Name, n.Name))
	}
	for i, p := range n.Pools {
		if !p.Subnet.IsValid() {
			continue
		}
		if err := c.choosePool(n, i, host); err != nil {
			return fail(err)
		}
	}
	if err := d.Check(n); err != nil {
		return fail(err)
	}
	for _, o := range c.networks {
		for _, p := range o.Pools {
			if !o.ConfigOnly {
				avoid.Add(p.Subnet, "network "+o.Name)
			}
		}
	}
	c.names[n.Name] = n.ID
	return n, warning, avoid, append(slices.Clone(c.bases(true)), c.bases(false)...), nil
}

// note marks a network, or takes the mark away.
func (s *spans) note(in *map[string]bool, network string, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !is {
		delete(*in, network)
		return
	}
	if *in == nil {
		*in = map[string]bool{}
	}
	(*in)[network] = true
}

func (s *spans) noted(in *map[string]bool, network string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return (*in)[network]
}

// admit takes a network of the mesh over: this host's containers can be on it. Admitting
// twice is admitting once.
func (c *Controller) admit(ctx context.Context, n *cnm.Network) error {
	defer c.locks.lock("network " + n.ID)()
	c.world.RLock()
	defer c.world.RUnlock()
	c.mu.RLock()
	_, there := c.networks[n.ID]
	c.mu.RUnlock()
	if there {
		return nil
	}
	d, err := c.cfg.Drivers.Get(n.Driver)
	if err != nil {
		return err
	}
	if _, ok := d.(driver.Spanner); !ok {
		return cnm.Invalid("network %s: networks of driver %s do not span hosts", n.Name, n.Driver)
	}
	if err := d.Check(n); err != nil {
		return err
	}
	if err := c.openPools(n); err != nil {
		return err
	}
	if err := c.store(ctx, n); err != nil {
		c.mu.Lock()
		delete(c.pools, n.ID)
		c.mu.Unlock()
		return err
	}
	c.mu.Lock()
	c.index(n)
	named := c.names[n.Name]
	with, who, overlaps := c.overlaps(n)
	c.mu.Unlock()
	if named != n.ID {
		c.log.Warn("a network of the mesh has the name of one of this host: here the name means this host's own, and the mesh's goes by its id", "network", n.Name, "id", n.ID[:12])
	}
	if overlaps {
		c.log.Warn("a network of the mesh overlaps one of this host: containers of this host cannot be on it, those of other hosts can", "network", n.Name, "subnets", subnets(n), "overlaps", who, "with", with)
	}
	go c.redefine(n) // which may ask the mesh
	c.tellNetwork("create", n)
	c.log.Info("network of the mesh", "network", n.Name, "driver", n.Driver, "subnets", subnets(n), "vnis", n.VNIs)
	return nil
}

// overlaps says which network of this host alone has addresses of a global one. The
// caller holds mu.
func (c *Controller) overlaps(n *cnm.Network) (with netip.Prefix, who string, ok bool) {
	for _, o := range c.networks {
		if o.Global() || o.ConfigOnly {
			continue
		}
		for _, p := range o.Pools {
			for _, q := range n.Pools {
				if p.Subnet.Overlaps(q.Subnet) {
					return p.Subnet, "network " + o.Name, true
				}
			}
		}
	}
	return with, "", false
}

// readmit puts the subnets of global networks in use that a network which went now
// leaves free. The caller holds mu.
func (c *Controller) readmit() {
	for id := range c.outside {
		if n := c.networks[id]; n != nil {
			delete(c.outside, id)
			c.occupy(n)
		}
	}
}

// usable says whether a new endpoint of this host can be on a network.
func (c *Controller) usable(n *cnm.Network) error {
	if !n.Global() {
		return nil
	}
	if m := c.Mesh(); m == nil || c.spans.underlay.Load() == nil {
		return c.meshless(n)
	}
	if c.spans.noted(&c.spans.lone, n.ID) {
		return cnm.Errorf(cnm.ErrUnavailable, "network %s is in the mesh no more: it was removed there while this host was out of it; take the containers of this host off it, and make it anew", n.Name)
	}
	c.mu.RLock()
	with, who, overlaps := c.overlaps(n)
	c.mu.RUnlock()
	if !overlaps {
		host, err := c.hostUses(context.Background())
		if err != nil {
			return err
		}
		for _, p := range n.Pools {
			if with, who, overlaps = host.Overlap(p.Subnet); overlaps {
				who = "the host (" + who + ")"
				break
			}
		}
	}
	if overlaps {
		return cnm.Conflict("network %s has subnet %s, which overlaps %s of %s on this host: its containers could not tell the two apart; it can be used on other hosts, and here once the other is gone",
			n.Name, strings.Join(subnets(n), " and "), with, who)
	}
	return nil
}

// removeGlobal ends a network of the whole mesh. It holds no lock while it waits for
// the others.
func (c *Controller) removeGlobal(ctx context.Context, n *cnm.Network) error {
	m, lone := c.Mesh(), c.spans.noted(&c.spans.lone, n.ID)
	if m == nil && !lone {
		return c.meshless(n)
	}
	if err := c.seclude(n); err != nil {
		return err
	}
	if !lone {
		c.spans.note(&c.spans.removed, n.ID, true)
		if err := m.Remove(ctx, n); err != nil && !errors.Is(err, cnm.ErrNotFound) {
			c.spans.note(&c.spans.removed, n.ID, false)
			c.mu.Lock()
			c.networks[n.ID] = n
			c.mu.Unlock()
			return err
		}
	}
	return c.drop(ctx, n)
}

// drop forgets a network of the mesh that nobody here is on.
func (c *Controller) drop(ctx context.Context, n *cnm.Network) error {
	defer c.locks.lock("network " + n.ID)()
	if err := c.unstore(context.WithoutCancel(ctx), n); err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.networks, n.ID)
	delete(c.pools, n.ID)
	c.unname(n)
	c.vacate(n)
	c.mu.Unlock()
	c.spans.mu.Lock()
	delete(c.spans.of, n.ID)
	delete(c.spans.lone, n.ID)
	delete(c.spans.made, n.ID)
	c.spans.mu.Unlock()
	go c.redefine(n)
	c.tellNetwork("destroy", n)
	c.log.Info("network of the mesh is gone", "network", n.Name)
	return nil
}

// dropLone forgets a network that the mesh has no more, once nobody here is on it.
func (c *Controller) dropLone(ctx context.Context, n *cnm.Network) {
	if !c.spans.noted(&c.spans.lone, n.ID) {
		return
	}
	if err := c.seclude(n); err != nil {
		return // somebody is on it
	}
	if err := c.drop(ctx, n); err != nil {
		c.log.Warn("a network that the mesh has no more is kept", "network", n.Name, "err", err)
	}
}
