package network

import (
	"context"
	"slices"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/driver"
	"linkspan/events"
)

// Peers implements mesh.Sink.
func (k *sink) Peers(ctx context.Context) { (*Controller)(k).repeer(ctx) }

// repeer takes over which hosts there are and how this one reaches them, and plans
// again what depends on it. It has the world to itself: what is planned with the facts
// of before is in the kernel by then.
func (c *Controller) repeer(ctx context.Context) {
	if underlay, another := c.repeered(ctx); another {
		c.saveFacts(context.WithoutCancel(ctx), underlay)
	}
}

func (c *Controller) repeered(ctx context.Context) (underlay *cnm.Underlay, another bool) {
	c.world.Lock()
	defer c.world.Unlock()
	now := map[string]cnm.Peer{}
	m := c.Mesh()
	if m != nil {
		underlay, _ = c.place(ctx, m)
		now = byID(m.Peers())
	}
	was, before := c.spans.underlay.Load(), c.knownPeers()
	from, to := c.cfg.Env(), c.cfg.Env()
	to.Underlay = underlay
	changed := changedPeers(before, now)
	anew := !same(was, underlay)
	if anew || len(changed) > 0 {
		ops, err := c.replan(from, to, before, now, changed, anew)
		if err != nil {
			c.log.Error("what depends on the hosts of the mesh cannot be planned again", "err", err)
		}
		c.tellPaths(from, to, before, now, changed, anew)
		c.spans.underlay.Store(underlay)
		c.meetPeers(now)
		if len(ops) > 0 {
			if err := c.cfg.Kernel.Apply(ctx, ops); err != nil {
				c.log.Error("not all of what depends on the hosts of the mesh is as it should be; the next reconciliation brings it", "err", err)
			}
		}
	} else {
		c.meetPeers(now)
	}
	if anew {
		c.offloadsBack(ctx)
	}
	c.lives(ctx, before, now)
	if (was == nil) != (underlay == nil) {
		c.fence(ctx, underlay != nil)
	}
	return underlay, anew
}

// changedPeers are those of which something besides their life is another, and those
// that came or went.
func changedPeers(before, now map[string]cnm.Peer) (ids []string) {
	for id, p := range now {
		old, there := before[id]
		old.Alive = p.Alive
		if !there || old != p {
			ids = append(ids, id)
		}
	}
	for id := range before {
		if _, there := now[id]; !there {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// replan are the ops from what was planned with some facts to what others make of it:
// of everything that spans hosts where the underlay is another, else of what is on the
// peers that changed. The caller has the world to itself.
func (c *Controller) replan(from, to driver.Env, before, now map[string]cnm.Peer, changed []string, anew bool) ([]dataplane.Op, error) {
	had, err := c.underlayObjects(from, before)
	if err != nil {
		return nil, err
	}
	want, err := c.underlayObjects(to, now)
	if err != nil {
		return nil, err
	}
	for _, n := range c.Networks() {
		d, ok := c.spanner(n)
		if !ok || !c.used(n.ID) {
			continue
		}
		a, b, err := c.replanSpan(from, to, before, now, d, n, changed, anew)
		if err != nil {
			return nil, err
		}
		had, want = append(had, a...), append(want, b...)
	}
	return diff.Update(had, want), nil
}

func (c *Controller) replanSpan(from, to driver.Env, before, now map[string]cnm.Peer, d driver.Spanner, n *cnm.Network, changed []string, anew bool) (had, want []dataplane.Object, err error) {
	sp := c.span(n.ID)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if !sp.here {
		return nil, nil, nil
	}
	hosts := changed
	if anew {
		hosts = nil
		for id := range sp.hosts {
			hosts = append(hosts, id)
		}
		for _, one := range []struct {
			env  driver.Env
			into *[]dataplane.Object
		}{{from, &had}, {to, &want}} {
			objs, err := d.Network(one.env, n)
			if err != nil {
				return nil, nil, err
			}
			home, err := d.Home(one.env, n, sp.home)
			if err != nil {
				return nil, nil, err
			}
			*one.into = slices.Concat(objs, home)
			for _, s := range c.on(n.ID) {
				e := endpointOn(s, n.ID)
				four, six := c.serving(s)
				i := slices.IndexFunc(s.Endpoints, func(o cnm.Endpoint) bool { return o.ID == e.ID })
				objs, err := d.Endpoint(one.env, n, s, e, portsOf(s, i, four, six))
				if err != nil {
					return nil, nil, err
				}
				*one.into = append(*one.into, objs...)
			}
		}
	}
	var ids []string
	for _, id := range hosts {
		if h := sp.hosts[id]; h != nil {
			for e := range h.endpoints {
				ids = append(ids, e)
			}
		}
	}
	out, in := c.elsewhere(from, before, d, n, sp, hosts, ids), c.elsewhere(to, now, d, n, sp, hosts, ids)
	if !slices.Equal(secureRoutes(from, out), secureRoutes(to, in)) {
		c.allow(to, now, d, n, sp)
	}
	return append(had, out...), append(want, in...), nil
}

// lives takes over who is alive. Names of a host that is dead, or cut off, leave after a
// while, and come back at once. What leads to its containers stays: dead and cut off
// look alike.
func (c *Controller) lives(ctx context.Context, before, now map[string]cnm.Peer) {
	grace := c.cfg.NameGrace
	if grace == 0 {
		grace = nameGrace
	}
	s := &c.spans
	for id, p := range now {
		old, known := before[id]
		s.mu.Lock()
		timer, dying := s.dying[id]
		back := p.Alive && s.silent[id]
		switch {
		case p.Alive:
			if dying {
				timer.Stop()
			}
			delete(s.dying, id)
			delete(s.silent, id)
		case !dying && !s.silent[id]:
			if s.dying == nil {
				s.dying = map[string]*time.Timer{}
			}
			s.dying[id] = time.AfterFunc(grace, func() { c.silence(context.WithoutCancel(ctx), id) })
		}
		s.mu.Unlock()
		if back {
			c.nameHost(ctx, id, true)
		}
		if known && old.Alive != p.Alive {
			what := "alive"
			if !p.Alive {
				what = "dead"
			}
			c.tellPeer(what, p, nil)
			c.log.Info("a host of the mesh is "+what, "host", p.Name, "addr", p.Addr)
		}
	}
	s.mu.Lock()
	for id, timer := range s.dying {
		if _, there := now[id]; !there {
			timer.Stop()
			delete(s.dying, id)
		}
	}
	for id := range s.silent {
		if _, there := now[id]; !there {
			delete(s.silent, id)
		}
	}
	s.mu.Unlock()
}

// silence takes the names of a host away that is dead for long.
func (c *Controller) silence(ctx context.Context, host string) {
	c.world.RLock()
	defer c.world.RUnlock()
	s := &c.spans
	s.mu.Lock()
	p, known := s.peers[host]
	delete(s.dying, host)
	quiet := known && !p.Alive
	if quiet {
		if s.silent == nil {
			s.silent = map[string]bool{}
		}
		s.silent[host] = true
	}
	s.mu.Unlock()
	if quiet {
		c.log.Warn("a host of the mesh is not heard of any more: its containers' names are not answered until it is back; what leads to them stays", "host", p.Name, "addr", p.Addr)
		c.nameHost(ctx, host, false)
	}
}

// nameHost has the resolver know the names of one host's containers, or not.
func (c *Controller) nameHost(ctx context.Context, host string, known bool) {
	c.nameWhere(ctx, func(r cnm.Remote) bool { return r.Host == host }, known)
}

// nameWhere has the resolver know the names of some containers elsewhere, on all
// networks, or not.
func (c *Controller) nameWhere(ctx context.Context, some func(cnm.Remote) bool, known bool) {
	if c.cfg.Resolver == nil {
		return
	}
	for _, n := range c.Networks() {
		if _, ok := c.spanner(n); !ok || !c.used(n.ID) {
			continue
		}
		sp := c.span(n.ID)
		sp.mu.Lock()
		err := c.nameSome(ctx, n, sp, some, known)
		sp.mu.Unlock()
		if err != nil {
			c.log.Error("names of containers on other hosts are not as they should be; the next reconciliation brings them", "network", n.Name, "err", err)
		}
	}
}

// tellPeer publishes an event of a peer.
func (c *Controller) tellPeer(action string, p cnm.Peer, more map[string]string) {
	if c.cfg.Events == nil {
		return
	}
	attrs := map[string]string{"name": p.Name, "addr": p.Addr.String()}
	for k, v := range more {
		attrs[k] = v
	}
	c.cfg.Events.Publish(events.Event{Type: "mesh", Action: action, ID: p.ID, Attributes: attrs})
}

// tellPaths publishes where packets to a peer go another way than before.
func (c *Controller) tellPaths(from, to driver.Env, before, now map[string]cnm.Peer, changed []string, anew bool) {
	if anew {
		changed = nil
		for id := range now {
			changed = append(changed, id)
		}
		slices.Sort(changed)
	}
	for _, n := range c.Networks() {
		d, ok := c.spanner(n)
		if !ok || !c.used(n.ID) {
			continue
		}
		for _, id := range changed {
			old, had := before[id]
			p, has := now[id]
			if !had || !has {
				continue
			}
			was, is := d.Path(from, n, old), d.Path(to, n, p)
			if was.Kind != is.Kind || was.Dev != is.Dev {
				c.tellPeer("path", p, map[string]string{"network": n.Name, "from": string(was.Kind), "to": string(is.Kind), "reason": is.Reason})
				c.log.Info("packets to a host of the mesh go another way", "network", n.Name, "host", p.Name, "from", was.Kind, "to", is.Kind, "because", is.Reason)
			}
		}
	}
}

// fence brings the names of all that is elsewhere to whether this host is in the mesh:
// what leads there went, or came, with the plans.
func (c *Controller) fence(ctx context.Context, in bool) {
	switch {
	case in:
		c.log.Info("this host is in the mesh")
	case c.Mesh() == nil:
		c.log.Info("this host has left the mesh")
	default:
		c.log.Warn("this host is in the mesh no more: containers on its networks reach those of this host alone")
	}
	c.nameWhere(ctx, func(r cnm.Remote) bool { return !in || !c.isSilent(r.Host) }, in)
}
