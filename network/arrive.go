package network

import (
	"context"
	"errors"
	"fmt"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane/diff"
	"linkspan/dns"
)

// A network that spans hosts is in this host's kernel only while a container here is on
// it: the first one's start makes it, the last one's end takes it away.

// firstNews is how long a container's start waits at most for what is elsewhere on a
// network that it is the first one on here: mostly the mesh answers in a few milliseconds,
// or knows already that it will not.
const firstNews = 250 * time.Millisecond

// arrive makes the networks of a sandbox that are not here yet. The sandbox is enlisted.
func (c *Controller) arrive(ctx context.Context, s *cnm.Sandbox) error {
	for i := range s.Endpoints {
		n, err := c.Network(s.Endpoints[i].NetworkID)
		if err != nil {
			return err
		}
		if _, ok := c.spanner(n); ok {
			if err := c.appear(ctx, n); err != nil {
				return fmt.Errorf("network %s: %w", n.Name, err)
			}
		}
	}
	return nil
}

func (c *Controller) appear(ctx context.Context, n *cnm.Network) error {
	sp := c.span(n.ID)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.here {
		return nil
	}
	m := c.Mesh()
	if m == nil {
		return c.meshless(n)
	}
	if err := c.forwards(ctx, n); err != nil {
		return err
	}
	sp.empty()
	c.recall(n, sp)
	m.Follow(n)
	env := c.cfg.Env()
	objs, err := c.spanObjects(env, n, sp, nil)
	if err == nil {
		if d, ok := c.spanner(n); ok && len(secureRoutes(env, objs)) > 0 {
			c.allow(env, c.knownPeers(), d, n, sp)
		}
		if err = c.cfg.Kernel.Apply(ctx, diff.Create(objs)); err != nil {
			if undone := c.cfg.Kernel.Apply(context.WithoutCancel(ctx), diff.Delete(objs)); undone != nil {
				c.log.Warn("something of a network that could not be made is left; the next reconciliation takes it", "network", n.Name, "err", undone)
			}
		}
	}
	if err != nil {
		m.Unfollow(n.ID)
		sp.empty()
		return err
	}
	sp.here, sp.came = true, time.Now()
	if err := c.nameRemotes(ctx, n, sp); err != nil {
		c.log.Warn("names of containers on other hosts are not known yet; the next reconciliation brings them", "network", n.Name, "err", err)
	}
	return nil
}

// awaitNews waits a moment for the first news of the networks of a sandbox that just
// came, unless there will be none.
func (c *Controller) awaitNews(ctx context.Context, s *cnm.Sandbox) {
	var silent <-chan struct{} // nil: it cannot be known
	if m, ok := c.Mesh().(Silencer); ok {
		silent = m.Silent()
	}
	for i := range s.Endpoints {
		n, err := c.Network(s.Endpoints[i].NetworkID)
		if err != nil {
			continue
		}
		if _, ok := c.spanner(n); !ok {
			continue
		}
		sp := c.span(n.ID)
		sp.mu.Lock()
		told, left := sp.told, firstNews-time.Since(sp.came)
		sp.mu.Unlock()
		if left <= 0 {
			continue
		}
		select {
		case <-told:
		case <-silent:
		case <-time.After(left):
		case <-ctx.Done():
			return
		}
	}
}

// depart takes the networks of a sandbox away that nobody here is on any more.
func (c *Controller) depart(ctx context.Context, networks ...*cnm.Network) {
	for _, n := range networks {
		if n == nil {
			continue
		}
		if _, ok := c.spanner(n); ok {
			c.disappear(ctx, n)
			c.returnSingles(n)
		}
	}
}

func (c *Controller) disappear(ctx context.Context, n *cnm.Network) {
	sp := c.span(n.ID)
	sp.mu.Lock()
	if c.used(n.ID) || !sp.here {
		sp.mu.Unlock()
		return
	}
	if m := c.Mesh(); m != nil {
		m.Unfollow(n.ID)
	}
	env := c.cfg.Env()
	objs, err := c.spanObjects(env, n, sp, nil)
	if err == nil {
		err = c.cfg.Kernel.Apply(ctx, diff.Delete(objs))
		if c.cfg.Allow != nil && len(secureRoutes(env, objs)) > 0 {
			c.cfg.Allow(n.ID, nil)
		}
	}
	err = errors.Join(err, c.unnameRemotes(ctx, n, sp))
	sp.here = false
	sp.empty()
	sp.mu.Unlock()
	if err != nil {
		c.log.Warn("something of a network that nobody here is on any more is left; the next reconciliation takes it", "network", n.Name, "err", err)
	}
	c.offloadsBack(ctx)
	c.dropLone(ctx, n)
}

// nameRemotes has the resolver know the names of all that is elsewhere on a network. The
// caller holds sp.mu.
func (c *Controller) nameRemotes(ctx context.Context, n *cnm.Network, sp *span) error {
	if recs := c.remoteRecords(sp); len(recs) > 0 && c.cfg.Resolver != nil {
		return c.cfg.Ports.SetNames(ctx, n.ID, recs, false)
	}
	return nil
}

func (c *Controller) unnameRemotes(ctx context.Context, n *cnm.Network, sp *span) error {
	var ids []string
	for id := range sp.remotes {
		ids = append(ids, id)
	}
	if len(ids) == 0 || c.cfg.Resolver == nil {
		return nil
	}
	return c.cfg.Ports.RemoveNames(ctx, n.ID, ids)
}

// remoteRecords are the names of all that is elsewhere on a network, but for those of
// hosts that are dead for long, and of any while this host is out of the mesh.
func (c *Controller) remoteRecords(sp *span) (out []dns.Record) {
	if c.spans.underlay.Load() == nil {
		return nil
	}
	for host, h := range sp.hosts {
		if c.isSilent(host) {
			continue
		}
		for id := range h.endpoints {
			if rec, ok := remoteRecord(sp.remotes[id]); ok {
				out = append(out, rec)
			}
		}
	}
	return out
}

// nameSome has the resolver know the names of some that are elsewhere, or not. The
// caller holds sp.mu.
func (c *Controller) nameSome(ctx context.Context, n *cnm.Network, sp *span, some func(cnm.Remote) bool, known bool) error {
	var recs []dns.Record
	var ids []string
	for id, r := range sp.remotes {
		if rec, named := remoteRecord(r); named && some(r) {
			recs, ids = append(recs, rec), append(ids, id)
		}
	}
	switch {
	case len(ids) == 0:
		return nil
	case known:
		return c.cfg.Ports.SetNames(ctx, n.ID, recs, false)
	}
	return c.cfg.Ports.RemoveNames(ctx, n.ID, ids)
}

// remoteRecord is what an endpoint elsewhere is found by.
func remoteRecord(r cnm.Remote) (dns.Record, bool) {
	rec := dns.Record{Endpoint: r.ID, Names: r.Names, Ports: r.Exposed}
	for _, a := range r.Addrs {
		rec.Addrs = append(rec.Addrs, a.Addr())
	}
	return rec, len(r.Names) > 0
}

func (c *Controller) isSilent(host string) bool {
	c.spans.mu.Lock()
	defer c.spans.mu.Unlock()
	return c.spans.silent[host]
}

// published are this host's endpoints on global networks, by network.
func (c *Controller) published() map[string][]cnm.Remote {
	out := map[string][]cnm.Remote{}
	for _, s := range c.Sandboxes() {
		for i := range s.Endpoints {
			if n, err := c.Network(s.Endpoints[i].NetworkID); err == nil && n.Global() && !c.spans.noted(&c.spans.strays, s.Endpoints[i].ID) {
				out[n.ID] = append(out[n.ID], c.remoteOf(s, &s.Endpoints[i]))
			}
		}
	}
	return out
}

// remoteOf is one of this host's endpoints as others see it.
func (c *Controller) remoteOf(s *cnm.Sandbox, e *cnm.Endpoint) cnm.Remote {
	return cnm.Remote{ID: e.ID, Host: c.self(), Container: s.Owner, ContainerName: s.OwnerName,
		Addrs: e.Addrs, MAC: e.MAC, Names: e.Names, Exposed: s.Exposed}
}

// publish tells the other hosts what became of a sandbox; nil: it is not there. It
// waits for nobody.
func (c *Controller) publish(was, now *cnm.Sandbox) {
	m := c.Mesh()
	if m == nil {
		return
	}
	if was != nil {
		for i := range was.Endpoints {
			e := &was.Endpoints[i]
			if n, err := c.Network(e.NetworkID); err == nil && n.Global() && (now == nil || !holds(now, e)) {
				c.spans.note(&c.spans.strays, e.ID, false)
				m.Withdraw(n.ID, e.ID)
			}
		}
	}
	if now == nil {
		return
	}
	for i := range now.Endpoints {
		e := &now.Endpoints[i]
		n, err := c.Network(e.NetworkID)
		if err != nil || !n.Global() || c.spans.noted(&c.spans.strays, e.ID) {
			continue
		}
		r := c.remoteOf(now, e)
		if was != nil {
			if old := endpointOn(was, n.ID); old != nil && old.ID == e.ID && same(c.remoteOf(was, old), r) {
				continue
			}
		}
		m.Publish(n, r)
	}
}
