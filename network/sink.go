package network

import (
	"context"
	"net/netip"
	"slices"

	"linkspan/cnm"
	"linkspan/dataplane/diff"
	"linkspan/dns"
	"linkspan/mesh"
)

// sink is the controller as the mesh sees it.
type sink Controller

// Sink is who the mesh tells.
func (c *Controller) Sink() mesh.Sink { return (*sink)(c) }

// meet takes a mesh's present facts over. Only New calls it.
func (c *Controller) meet(ctx context.Context, m Mesh) {
	if m == nil {
		c.spans.mesh.Store(nil)
		return
	}
	c.spans.mesh.Store(&m)
	u, completed := c.place(ctx, m)
	c.spans.underlay.Store(u)
	if completed {
		c.placeAgain(ctx)
	}
	c.meetPeers(byID(m.Peers()))
}

func byID(peers []cnm.Peer) map[string]cnm.Peer {
	out := make(map[string]cnm.Peer, len(peers))
	for _, p := range peers {
		out[p.ID] = p
	}
	return out
}

// SetMesh says that the host joined a mesh, or, with nil, left it.
func (c *Controller) SetMesh(ctx context.Context, m Mesh) {
	if m == nil {
		c.spans.mesh.Store(nil)
	} else {
		c.spans.mesh.Store(&m)
	}
	for _, n := range c.Networks() {
		if n.Global() {
			if err := c.restrict(n, c.poolsOf(n.ID)); err != nil {
				c.log.Error("this host's blocks of addresses do not fit a network of the mesh", "network", n.Name, "err", err)
			}
		}
	}
	c.repeer(ctx)
	if m == nil {
		c.spans.mu.Lock()
		c.spans.made, c.spans.removed, c.spans.strays = nil, nil, nil
		c.spans.mu.Unlock()
		c.arrived(ctx, nil)
		return
	}
	for _, n := range c.Networks() {
		if err := c.rehome(ctx, n); err != nil {
			c.log.Error("this host's blocks of addresses are not as they should be; the next reconciliation brings them", "network", n.Name, "err", err)
		}
	}
	lost := c.strays()
	c.outlaw(lost)
	c.followed()
	go c.reclaim(context.WithoutCancel(ctx), m, lost)
}

// Networks implements mesh.Sink.
func (k *sink) Networks(ctx context.Context, all []*cnm.Network) { (*Controller)(k).arrived(ctx, all) }

// arrived takes over which global networks there are.
func (c *Controller) arrived(ctx context.Context, all []*cnm.Network) {
	there := map[string]bool{}
	m := c.Mesh()
	for _, n := range all {
		there[n.ID] = true
		if c.spans.noted(&c.spans.removed, n.ID) {
			continue // its end is on its way
		}
		c.spans.note(&c.spans.made, n.ID, false)
		if c.spans.noted(&c.spans.lone, n.ID) {
			c.spans.note(&c.spans.lone, n.ID, false)
			c.log.Info("a network is in the mesh again", "network", n.Name)
		}
		own := *n // the mesh's copy is the mesh's
		if err := c.admit(ctx, &own); err != nil {
			c.log.Warn("a network of the mesh cannot be used on this host", "network", n.Name, "driver", n.Driver, "err", err)
		} else if m != nil {
			c.refreshBlocks(m, n)
		}
	}
	c.spans.mu.Lock()
	for id := range c.spans.removed {
		if !there[id] {
			delete(c.spans.removed, id)
		}
	}
	c.spans.mu.Unlock()
	for _, n := range c.Networks() {
		if !n.Global() || there[n.ID] || c.spans.noted(&c.spans.made, n.ID) || c.spans.noted(&c.spans.lone, n.ID) {
			continue
		}
		c.spans.note(&c.spans.lone, n.ID, true)
		if c.used(n.ID) {
			c.log.Error("a network is in the mesh no more, and containers of this host are on it: they keep it and reach each other; no other container comes on it, and it goes with the last of them",
				"network", n.Name, "id", n.ID[:12])
			continue
		}
		c.dropLone(ctx, n)
	}
}

// Remote implements mesh.Sink.
func (k *sink) Remote(ctx context.Context, network string, change cnm.RemoteChange) {
	c := (*Controller)(k)
	c.world.RLock()
	defer c.world.RUnlock()
	n, err := c.Network(network)
	if err != nil {
		return
	}
	d, ok := c.spanner(n)
	if !ok {
		return
	}
	if m := c.Mesh(); m != nil && mentions(change, c.self()) {
		c.refreshBlocks(m, n)
		if err := c.rehome(ctx, n); err != nil {
			c.log.Error("this host's blocks of addresses are not as they should be; the next reconciliation brings them", "network", n.Name, "err", err)
		}
	}
	sp := c.span(n.ID)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if !sp.here {
		return // its last container left meanwhile
	}
	env, peers := c.cfg.Env(), c.knownPeers()
	hosts, ids := sp.touched(change, c.self())
	from := c.elsewhere(env, peers, d, n, sp, hosts, ids)
	gone := sp.take(change, c.self())
	to := c.elsewhere(env, peers, d, n, sp, hosts, ids)
	names := doing(func() error { return c.renameRemotes(ctx, n, sp, change, gone) })
	if was, is := secureRoutes(env, from), secureRoutes(env, to); !slices.Equal(was, is) {
		if len(is) >= len(was) {
			c.allow(env, peers, d, n, sp)
		} else {
			defer c.allow(env, peers, d, n, sp)
		}
	}
	if ops := diff.Update(from, to); len(ops) > 0 {
		if err := c.cfg.Kernel.Apply(ctx, ops); err != nil {
			c.log.Error("not all of what is on other hosts is reached; the next reconciliation brings it", "network", n.Name, "err", err)
		}
	}
	if err := <-names; err != nil {
		c.log.Error("not all names of containers on other hosts are known; the next reconciliation brings them", "network", n.Name, "err", err)
	}
	if change.Whole {
		sp.heard()
	}
}

// renameRemotes has the resolver know what a change did to names. The caller holds sp.mu.
func (c *Controller) renameRemotes(ctx context.Context, n *cnm.Network, sp *span, change cnm.RemoteChange, gone []string) error {
	if c.cfg.Resolver == nil || c.spans.underlay.Load() == nil {
		return nil
	}
	var come []dns.Record
	for _, r := range change.Came {
		if now, there := sp.remotes[r.ID]; !there || c.isSilent(now.Host) {
			continue
		}
		if rec, named := remoteRecord(r); named {
			come = append(come, rec)
		} else {
			gone = append(gone, r.ID)
		}
	}
	if len(come) > 0 {
		if err := c.cfg.Ports.SetNames(ctx, n.ID, come, false); err != nil {
			return err
		}
	}
	if len(gone) > 0 {
		return c.cfg.Ports.RemoveNames(ctx, n.ID, gone)
	}
	return nil
}

// rehome brings what this host needs for its own blocks to what they are.
func (c *Controller) rehome(ctx context.Context, n *cnm.Network) error {
	d, ok := c.spanner(n)
	if !ok {
		return nil
	}
	sp := c.span(n.ID)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if !sp.here {
		return nil
	}
	env, own := c.cfg.Env(), c.ownBlocks(n.ID)
	from, err := d.Home(env, n, sp.home)
	if err != nil {
		return err
	}
	to, err := d.Home(env, n, own)
	if err != nil {
		return err
	}
	sp.home = own
	if ops := diff.Update(from, to); len(ops) > 0 {
		return c.cfg.Kernel.Apply(ctx, ops)
	}
	return nil
}

// Ask implements mesh.Sink.
func (k *sink) Ask(_ context.Context, network string, addr netip.Addr, host string) error {
	return (*Controller)(k).lend(network, addr, host)
}

// Unask implements mesh.Sink.
func (k *sink) Unask(_ context.Context, network string, addr netip.Addr) {
	(*Controller)(k).unlend(network, addr)
}
