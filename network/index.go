package network

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"linkspan/cnm"
	"linkspan/ipam"
	"linkspan/store"
)

// indexAll puts the stored networks in memory, this host's own first: theirs are their
// names and subnets. Only New calls it.
func (c *Controller) indexAll(all []*cnm.Network) {
	for _, global := range []bool{false, true} {
		for _, n := range all {
			if n.Global() == global {
				c.index(n)
			}
		}
	}
}

// index puts a network in memory. The caller holds mu, or is New.
func (c *Controller) index(n *cnm.Network) {
	c.networks[n.ID] = n
	if _, taken := c.names[n.Name]; !taken {
		c.names[n.Name] = n.ID
	}
	c.occupy(n)
}

// unname frees a network's name: another host's network of that name may have waited for
// it. The caller holds mu.
func (c *Controller) unname(n *cnm.Network) {
	if c.names[n.Name] != n.ID {
		return
	}
	delete(c.names, n.Name)
	for id, other := range c.networks {
		if other.Name == n.Name && id != n.ID {
			c.names[n.Name] = id
			return
		}
	}
}

// occupy puts a network's subnets and device in use; a global network's only where
// nobody here uses them: it may be used on the other hosts all the same. The caller
// holds mu.
func (c *Controller) occupy(n *cnm.Network) {
	if n.ConfigOnly {
		return
	}
	if n.Global() {
		if _, _, taken := c.overlaps(n); taken {
			c.outside[n.ID] = true
			return
		}
	}
	for _, p := range n.Pools {
		c.space.Add(p.Subnet, "network "+n.Name)
	}
	if d := c.device(n); d != "" {
		c.devices[d] = n.ID
	}
}

// vacate undoes occupy. The caller holds mu.
func (c *Controller) vacate(n *cnm.Network) {
	if n.ConfigOnly {
		return
	}
	if c.outside[n.ID] {
		delete(c.outside, n.ID)
		return
	}
	defer c.readmit()
	for _, p := range n.Pools {
		c.space.Remove(p.Subnet)
	}
	if d := c.device(n); d != "" && c.devices[d] == n.ID {
		delete(c.devices, d)
	}
}

// device is the host device that a network's options name.
func (c *Controller) device(n *cnm.Network) string {
	if d, err := c.cfg.Drivers.Get(n.Driver); err == nil && d.Traits().Device != "" {
		return n.Options[d.Traits().Device]
	}
	return ""
}

// openPools makes a network's pools and marks what its endpoints hold.
func (c *Controller) openPools(n *cnm.Network) error {
	if n.ConfigOnly {
		return nil
	}
	var pools []*ipam.Pool
	for _, p := range n.Pools {
		pool, err := c.pool(n, p)
		if err != nil {
			return err
		}
		pools = append(pools, pool)
	}
	if err := c.restrict(n, pools); err != nil {
		return err
	}
	c.mu.Lock()
	c.pools[n.ID] = pools
	c.mu.Unlock()
	return nil
}

// pool makes one pool with everything marked that the sandboxes hold. The caller
// does not hold mu: pools ask describe.
func (c *Controller) pool(n *cnm.Network, p cnm.Pool) (*ipam.Pool, error) {
	pool, err := ipam.New(p, ipam.Options{Network: n.Name, NetworkID: n.ID, Describe: c.describe, Lineage: c.lineage})
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", n.Name, err)
	}
	for _, s := range c.on(n.ID) {
		for _, e := range s.Endpoints {
			if e.NetworkID != n.ID {
				continue
			}
			for _, a := range e.Addrs {
				if p.Subnet.Contains(a.Addr()) {
					if err := pool.MarkUsed(a.Addr(), s.Owner); err != nil {
						return nil, fmt.Errorf("network %s: %w", n.Name, err)
					}
				}
			}
		}
	}
	return pool, nil
}

// poolsOf are a network's, to be used while mu is free.
func (c *Controller) poolsOf(networkID string) []*ipam.Pool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.pools[networkID]
}

// on are the sandboxes on a network, by id.
func (c *Controller) on(networkID string) []*cnm.Sandbox {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []*cnm.Sandbox
	for id := range c.users[networkID] {
		if s, ok := c.sandboxes[id]; ok {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *cnm.Sandbox) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// describe names the holder of an address, a container's id, for errors. Pools
// call it while mu is free.
func (c *Controller) describe(owner string) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if s, ok := c.sandboxes[c.owners[owner]]; ok {
		return "container " + s.OwnerName
	}
	if d, ok := c.defined[owner]; ok {
		return "container " + d.name
	}
	return "a container that is starting"
}

// lineage is what the container that has an address is a version of. Pools call it
// while mu is free.
func (c *Controller) lineage(owner string) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if s, ok := c.sandboxes[c.owners[owner]]; ok {
		return s.Lineage
	}
	return ""
}

// enlist says that a sandbox is on a network, or about to be: the network is not
// removed meanwhile.
func (c *Controller) enlist(n *cnm.Network, s *cnm.Sandbox) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.networks[n.ID] == nil {
		return cnm.NotFound("network %s not found", n.Name)
	}
	c.enlisted(n.ID, s)
	return nil
}

func (c *Controller) enlisted(networkID string, s *cnm.Sandbox) {
	if c.users[networkID] == nil {
		c.users[networkID] = map[string]string{}
	}
	c.users[networkID][s.ID] = s.OwnerName
}

// unlist takes a sandbox off the networks that it was to be on, besides those of
// what it is (nil: nothing).
func (c *Controller) unlist(s, is *cnm.Sandbox) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range s.Endpoints {
		if is == nil || endpointOn(is, e.NetworkID) == nil {
			c.left(e.NetworkID, s.ID)
		}
	}
}

func (c *Controller) left(networkID, sandboxID string) {
	if delete(c.users[networkID], sandboxID); len(c.users[networkID]) == 0 {
		delete(c.users, networkID)
	}
}

// remember puts a committed sandbox in memory. The caller holds mu, or is New.
func (c *Controller) remember(s *cnm.Sandbox) {
	if old, ok := c.sandboxes[s.ID]; ok {
		c.forget(old)
	}
	c.sandboxes[s.ID], c.owners[s.Owner] = s, s.ID
	for _, m := range s.Members {
		c.member[m] = s.ID
	}
	for _, e := range s.Endpoints {
		c.enlisted(e.NetworkID, s)
		for _, l := range e.Links {
			if c.linkers[l.Target] == nil {
				c.linkers[l.Target] = map[string]bool{}
			}
			c.linkers[l.Target][s.Owner] = true
		}
	}
}

// forget undoes remember. The caller holds mu.
func (c *Controller) forget(s *cnm.Sandbox) {
	for _, m := range s.Members {
		delete(c.member, m)
	}
	for _, e := range s.Endpoints {
		c.left(e.NetworkID, s.ID)
		for _, l := range e.Links {
			if delete(c.linkers[l.Target], s.Owner); len(c.linkers[l.Target]) == 0 {
				delete(c.linkers, l.Target)
			}
		}
	}
	if c.owners[s.Owner] == s.ID {
		delete(c.owners, s.Owner)
	}
	delete(c.sandboxes, s.ID)
}

// commit writes a sandbox (nil: deletes the one of that id) and then remembers.
func (c *Controller) commit(ctx context.Context, id string, s *cnm.Sandbox) error {
	return c.commitWith(ctx, id, s, nil)
}

// commitWith is commit, with something of the caller's in it.
func (c *Controller) commitWith(ctx context.Context, id string, s *cnm.Sandbox, with With) error {
	op := store.Op{Key: sandboxKeys + id, Guard: true}
	if s != nil {
		b, err := json.Marshal(s)
		if err != nil {
			return err
		}
		op.Value = b
	}
	var more []store.Op
	done := func(int64, error) {}
	if with != nil {
		with, told, err := with()
		if err != nil {
			return err
		}
		more, done = []store.Op{with}, told
	}
	rev, err := c.write(ctx, op, more...)
	if err != nil {
		done(0, err)
		return fmt.Errorf("sandbox %.12s: %w", id, err)
	}
	c.written(op.Key, id, s, rev)
	done(rev, nil)
	return nil
}

// written takes over what was committed of a sandbox.
func (c *Controller) written(key, id string, s *cnm.Sandbox, rev int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s != nil {
		c.revs[key] = rev
		c.remember(s)
		return
	}
	delete(c.revs, key)
	if old, ok := c.sandboxes[id]; ok {
		c.forget(old)
	}
}

// write commits one op on the revision that we know of, and what comes with it.
func (c *Controller) write(ctx context.Context, op store.Op, more ...store.Op) (rev int64, err error) {
	c.mu.RLock()
	op.IfRev = c.revs[op.Key]
	c.mu.RUnlock()
	return c.cfg.Store.Commit(ctx, append([]store.Op{op}, more...)...)
}

// clone makes a copy that may be handed out or changed.
func clone(s *cnm.Sandbox) *cnm.Sandbox {
	t := *s
	t.Members, t.Ports, t.Endpoints = slices.Clone(s.Members), slices.Clone(s.Ports), slices.Clone(s.Endpoints)
	return &t
}

// endpointOn is the sandbox's on a network, or nil.
func endpointOn(s *cnm.Sandbox, networkID string) *cnm.Endpoint {
	for i := range s.Endpoints {
		if s.Endpoints[i].NetworkID == networkID {
			return &s.Endpoints[i]
		}
	}
	return nil
}

// addresses are the endpoint's without their subnets.
func addresses(e *cnm.Endpoint) []netip.Addr {
	var out []netip.Addr
	for _, a := range e.Addrs {
		out = append(out, a.Addr())
	}
	return out
}
