package mesh

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
)

// telling is what the sink is to hear. It holds what changed, not the changes: what
// comes faster than it is heard is heard once, as it is then.
type telling struct {
	networks, peers bool
	remotes         map[string]*pendingRemote // by network
	jobs            []func(ctx context.Context, s Sink)
	cached          bool // all that New knew was told
}

type pendingRemote struct {
	whole     bool
	endpoints map[string]bool // keys; each is made with the first: mostly one endpoint changed
	blocks    map[netip.Prefix]bool
}

func (p *pendingRemote) endpoint(key string) {
	if p.endpoints == nil {
		p.endpoints = map[string]bool{}
	}
	p.endpoints[key] = true
}

func (p *pendingRemote) block(b netip.Prefix) {
	if p.blocks == nil {
		p.blocks = map[netip.Prefix]bool{}
	}
	p.blocks[b] = true
}

// pend is what is to be told of a network. The caller holds mu.
func (m *Mesh) pend(network string) *pendingRemote {
	p := m.telling.remotes[network]
	if p == nil {
		p = &pendingRemote{}
		m.telling.remotes[network] = p
	}
	return p
}

func (m *Mesh) tellPeers() {
	m.telling.peers = true
	m.tellBell.ring()
}

// job has the sink called, in turn. The caller holds mu.
func (m *Mesh) job(f func(ctx context.Context, s Sink)) {
	m.telling.jobs = append(m.telling.jobs, f)
	m.tellBell.ring()
}

// tell calls the sink, one call at a time, until ctx ends.
func (m *Mesh) tell(ctx context.Context) {
	for {
		for {
			next := m.next()
			if next == nil || ctx.Err() != nil {
				break
			}
			m.mu.Lock()
			s := m.sink
			m.mu.Unlock()
			if s == nil {
				s = deaf{}
			}
			next(ctx, s)
		}
		m.mu.Lock()
		if !m.telling.cached {
			m.telling.cached = true
			close(m.ready)
		}
		m.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-m.tellBell:
		}
	}
}

// next is one thing to tell, or nil.
func (m *Mesh) next() func(context.Context, Sink) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := &m.telling
	switch {
	case len(t.jobs) > 0:
		j := t.jobs[0]
		t.jobs = slices.Delete(t.jobs, 0, 1)
		return j
	case t.peers:
		t.peers = false
		m.lookWays()
		hear := slices.Clone(m.onHosts)
		return func(ctx context.Context, s Sink) {
			for _, f := range hear {
				f()
			}
			s.Peers(ctx)
		}
	case t.networks:
		// An empty list is told only by a store that was listed: no one's network is gone
		// because nothing is known yet.
		t.networks = false
		all := m.allNetworks()
		if len(all) > 0 || m.base[networkKeys].known {
			return func(ctx context.Context, s Sink) { s.Networks(ctx, all) }
		}
	}
	for network, p := range t.remotes {
		f := m.follows[network]
		if f == nil || !f.active {
			delete(t.remotes, network)
			continue
		}
		if !f.known() && m.fenced == "" {
			continue // the other half of the first listing is on its way
		}
		delete(t.remotes, network)
		c := m.changeOf(f, p)
		if !c.Whole && len(c.Came)+len(c.Gone)+len(c.Blocks)+len(c.FreeBlocks) == 0 {
			continue
		}
		return func(ctx context.Context, s Sink) { s.Remote(ctx, network, c) }
	}
	return nil
}

// changeOf is what changed, as it is now. The caller holds mu.
func (m *Mesh) changeOf(f *follow, p *pendingRemote) cnm.RemoteChange {
	if m.fenced != "" || m.left {
		return cnm.RemoteChange{Whole: true}
	}
	if p.whole {
		return m.wholeOf(f)
	}
	var c cnm.RemoteChange
	for key := range p.endpoints {
		it, ok := f.endpoints.items[key]
		if !ok {
			c.Gone = append(c.Gone, key[strings.LastIndexByte(key, '/')+1:])
		} else if r, ok := m.remoteOf(key, it.value); ok {
			c.Came = append(c.Came, r)
		}
	}
	for b := range p.blocks {
		if it, ok := f.blocks.items[f.blocks.prefix+b.String()]; ok {
			c.Blocks = append(c.Blocks, cnm.Block{Prefix: b, Host: string(it.value)})
		} else {
			c.FreeBlocks = append(c.FreeBlocks, b)
		}
	}
	sortChange(&c)
	return c
}

// allNetworks are the store's, and those that are gone from it while this host has
// endpoints on them: they are put back. The caller holds mu.
func (m *Mesh) allNetworks() []*cnm.Network {
	var all []*cnm.Network
	for _, n := range m.networks {
		all = append(all, n)
	}
	for id, o := range m.own {
		if m.networks[id] == nil && len(o.endpoints) > 0 {
			all = append(all, o.Network)
		}
	}
	slices.SortFunc(all, func(a, b *cnm.Network) int { return strings.Compare(a.ID, b.ID) })
	for i, n := range all {
		c := *n // the sink's to keep
		all[i] = &c
	}
	return all
}

// deaf is the sink of a mesh that nobody listens to. It grants nothing.
type deaf struct{}

func (deaf) Networks(context.Context, []*cnm.Network)         {}
func (deaf) Peers(context.Context)                            {}
func (deaf) Remote(context.Context, string, cnm.RemoteChange) {}
func (deaf) Unask(context.Context, string, netip.Addr)        {}
func (deaf) Ask(context.Context, string, netip.Addr, string) error {
	return cnm.Errorf(cnm.ErrUnavailable, "the daemon there is starting; try again")
}
