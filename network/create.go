package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/driver"
	"linkspan/events"
	"linkspan/ipam"
	"linkspan/store"
)

// CreateNetwork implements Service.
func (c *Controller) CreateNetwork(ctx context.Context, w NetworkWish) (_ *cnm.Network, warning string, err error) {
	if c.spanning(w.Driver) && !w.ConfigOnly {
		return c.createGlobal(ctx, w)
	}
	c.world.RLock()
	defer c.world.RUnlock()
	n, warning, err := c.wished(w)
	if err != nil {
		return nil, "", err
	}
	if err := c.borrow(ctx, n); err != nil {
		return nil, "", err
	}
	host, err := c.hostUses(ctx)
	if err != nil {
		return nil, "", err
	}
	if err := c.claim(n, host); err != nil {
		return nil, "", err
	}
	if err := c.realize(ctx, n); err != nil {
		c.mu.Lock()
		c.vacate(n)
		c.unname(n)
		c.mu.Unlock()
		return nil, "", err
	}
	c.mu.Lock()
	c.networks[n.ID] = n
	c.mu.Unlock()
	c.redefine(n)
	c.tellNetwork("create", n)
	c.log.Info("network created", "network", n.Name, "driver", n.Driver, "subnets", subnets(n))
	return n, warning, nil
}

// claim takes a network's name, device and subnets, in memory: from now on no one
// else gets them.
func (c *Controller) claim(n *cnm.Network, host *ipam.Space) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.names[n.Name]; taken {
		return cnm.Conflict("network with name %s already exists; choose another name, or remove it with `docker network rm %s`", n.Name, n.Name)
	}
	if d := c.device(n); d != "" && !n.ConfigOnly {
		if id, taken := c.devices[d]; taken {
			return cnm.Errorf(cnm.ErrForbidden, "cannot create network %s (%s): conflicts with network %s (%s): networks have same bridge name; choose another", n.ID, d, id, c.nameOf(id))
		}
	}
	if !n.ConfigOnly {
		for i := range n.Pools {
			if err := c.choosePool(n, i, host); err != nil {
				return err
			}
		}
	}
	c.names[n.Name] = n.ID
	c.occupy(n)
	return nil
}

// nameOf is for errors. The caller holds mu.
func (c *Controller) nameOf(networkID string) string {
	for name, id := range c.names {
		if id == networkID {
			return name
		}
	}
	return networkID
}

// choosePool fills in a pool: its subnet, if none was wished, and its gateway. A
// wished subnet must not overlap. The caller holds mu.
func (c *Controller) choosePool(n *cnm.Network, i int, host *ipam.Space) (err error) {
	p := n.Pools[i]
	if !p.Subnet.IsValid() {
		v4 := i == 0 && !n.NoIPv4
		if p.Subnet, err = ipam.Choose(c.bases(v4), v4, &c.space, host); err != nil {
			return err
		}
	} else {
		with, who, overlaps := c.space.Overlap(p.Subnet)
		if !overlaps && !n.Borrowed {
			with, who, overlaps = host.Overlap(p.Subnet)
			who = "the host (" + who + ")"
		}
		if overlaps {
			return cnm.Errorf(cnm.ErrForbidden, "invalid pool request: Pool overlaps with other one on this address space: subnet %s of network %s overlaps %s of %s; "+
				"choose another subnet, or leave --subnet away to have a free one", p.Subnet, n.Name, with, who)
		}
	}
	if n.Borrowed {
		n.Pools[i] = p
		return nil
	}
	n.Pools[i], err = withGateway(p)
	return err
}

// bases are what subnets of a family are cut from.
func (c *Controller) bases(v4 bool) []ipam.Base {
	for _, b := range c.cfg.AddressPools {
		if b.Prefix.Addr().Is4() == v4 {
			return c.cfg.AddressPools
		}
	}
	if v4 {
		return ipam.DefaultBases()
	}
	return []ipam.Base{ipam.ULA(c.cfg.ID)}
}

// realize makes a claimed network: its pools, one commit, the kernel's objects. On
// an error everything is as before.
func (c *Controller) realize(ctx context.Context, n *cnm.Network) error {
	if !n.ConfigOnly {
		d, err := c.cfg.Drivers.Get(n.Driver)
		if err != nil {
			return err
		}
		if err := d.Check(n); err != nil {
			return err
		}
	}
	if err := c.openPools(n); err != nil {
		return err
	}
	// Of a bridge that is ours, what a crash leaves of the wish and of the making may
	// be either: the start that follows makes or removes all of it.
	stored, err := c.meanwhile(!n.Borrowed,
		func() error { return c.store(ctx, n) },
		func() error { return c.apply(ctx, c.cfg.Env(), n) })
	switch {
	case err != nil && stored == nil:
		err = errors.Join(asked(fmt.Errorf("network %s: %w", n.Name, err)), c.unstore(context.WithoutCancel(ctx), n))
	case err == nil && stored != nil && !n.Borrowed:
		c.unmake(context.WithoutCancel(ctx), n)
	}
	if stored != nil {
		err = stored
	}
	if err != nil {
		c.mu.Lock()
		delete(c.pools, n.ID)
		c.mu.Unlock()
	}
	return err
}

// apply makes a network's fragment, or nothing of it.
func (c *Controller) apply(ctx context.Context, env driver.Env, n *cnm.Network) error {
	if n.ConfigOnly {
		return nil
	}
	if err := c.forwards(ctx, n); err != nil {
		return err
	}
	objs, err := c.networkObjects(env, n, nil)
	if err != nil {
		return err
	}
	err = c.cfg.Kernel.Apply(ctx, diff.Create(objs))
	if err != nil {
		c.unmake(context.WithoutCancel(ctx), n)
	}
	return err
}

// unmake takes away what apply made of a network.
func (c *Controller) unmake(ctx context.Context, n *cnm.Network) {
	objs, err := c.networkObjects(c.cfg.Env(), n, nil)
	if err == nil {
		err = c.cfg.Kernel.Apply(ctx, diff.Delete(objs))
	}
	if err != nil {
		c.log.Warn("something of a network that could not be made is left; the next reconciliation takes it", "network", n.Name, "err", err)
	}
}

// store commits a network.
func (c *Controller) store(ctx context.Context, n *cnm.Network) error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	key := networkKeys + n.ID
	rev, err := c.write(ctx, store.Op{Key: key, Value: b, Guard: true})
	if err != nil {
		return fmt.Errorf("network %s: %w", n.Name, err)
	}
	c.mu.Lock()
	c.revs[key] = rev
	c.mu.Unlock()
	return nil
}

// unstore deletes a network from the store.
func (c *Controller) unstore(ctx context.Context, n *cnm.Network) error {
	key := networkKeys + n.ID
	if _, err := c.write(ctx, store.Op{Key: key, Guard: true}); err != nil {
		return fmt.Errorf("network %s: %w", n.Name, err)
	}
	c.mu.Lock()
	delete(c.revs, key)
	c.mu.Unlock()
	return nil
}

// borrow sees whether a network is to be on a device that a person made: then it is
// used as it is, with its own addresses, and never changed.
func (c *Controller) borrow(ctx context.Context, n *cnm.Network) error {
	name := c.device(n)
	if name == "" || n.ConfigOnly || c.cfg.HostLink == nil {
		return nil
	}
	if driver.CheckLinkName(name) != nil {
		return nil // the driver says what is wrong with it
	}
	l, err := c.cfg.HostLink(ctx, name)
	if err != nil || !l.Exists || l.Ours { // ours: the index of devices tells whose
		return err
	}
	if !l.Bridge {
		return cnm.Conflict("network %s: device %s is there already and is no bridge (%s); choose another name with -o com.docker.network.bridge.name", n.Name, name, l.What)
	}
	n.Borrowed = true
	for i := range n.Pools {
		if err := borrowed(n, i, name, l.Addrs); err != nil {
			return err
		}
	}
	return nil
}

// bridgeAux names the device's own address on a borrowed bridge, when containers
// use another router.
const bridgeAux = "BridgeAddress"

// borrowed fills in the pool of a network on a device that has addresses.
func borrowed(n *cnm.Network, i int, device string, has []netip.Prefix) error {
	p := &n.Pools[i]
	v4 := i == 0 && !n.NoIPv4
	var own netip.Prefix
	for _, a := range has {
		if a.Addr().Is4() == v4 && (!p.Subnet.IsValid() || p.Subnet.Contains(a.Addr())) {
			own = a
			break
		}
	}
	if !p.Subnet.IsValid() {
		if !own.IsValid() {
			family := "IPv4"
			if !v4 {
				family = "IPv6"
			}
			return cnm.Invalid("network %s: bridge %s has no %s address, so there is no telling which addresses its containers may have; "+
				"give it one (ip addr add 10.211.55.1/24 dev %s), or say --subnet and --gateway", n.Name, device, family, device)
		}
		p.Subnet = own.Masked()
	}
	switch {
	case !own.IsValid():
	case !p.Gateway.IsValid():
		p.Gateway = own.Addr()
	case p.Gateway != own.Addr():
		if p.Aux == nil {
			p.Aux = map[string]netip.Addr{}
		}
		p.Aux[bridgeAux] = own.Addr()
	}
	return ipam.Validate(*p)
}

func subnets(n *cnm.Network) (out []string) {
	for _, p := range n.Pools {
		out = append(out, p.Subnet.String())
	}
	return out
}

// tellNetwork publishes Docker's event of a network itself.
func (c *Controller) tellNetwork(action string, n *cnm.Network) {
	if c.cfg.Events != nil {
		c.cfg.Events.Publish(events.Event{Type: "network", Action: action, ID: n.ID, Attributes: map[string]string{"name": n.Name, "type": n.Driver}})
	}
}

// networkObjects are what a network's driver plans.
func (c *Controller) networkObjects(env driver.Env, n *cnm.Network, ready prepared) ([]dataplane.Object, error) {
	if n.ConfigOnly {
		return nil, nil
	}
	if n.Global() {
		return c.spannedObjects(env, n, ready)
	}
	d, err := c.cfg.Drivers.Get(n.Driver)
	if err != nil {
		return nil, err
	}
	return d.Network(env, n)
}
