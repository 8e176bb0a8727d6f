package network

import (
	"cmp"
	"net/netip"
	"slices"

	"linkspan/cnm"
)

// Spanning is a Service that knows of other hosts.
type Spanning interface {
	// HostsOn are the hosts that have containers on a global network, this one included,
	// by name.
	HostsOn(networkID string) []HostOn
	// Spans are all global networks and how this host reaches what is elsewhere on them,
	// by name.
	Spans() []SpanStatus
	// Remotes are the endpoints on other hosts that are known here: those of networks that
	// this host has containers on, by their ids.
	Remotes(networkID string) []cnm.Remote
}

// HostOn is a host that has containers on a network.
type HostOn struct {
	ID, Name string
	Addr     netip.Addr
	// Here is this host.
	Here bool
	// Endpoints is how many it has.
	Endpoints int
}

// SpanStatus is a global network as this host sees it.
type SpanStatus struct {
	Network *cnm.Network
	// Note says why no container of this host can be on it; "": they can.
	Note string
	// Endpoints are this host's own, Blocks its blocks of addresses.
	Endpoints int
	Blocks    []cnm.Block
	// Hosts are the others that have containers on it; they are known while this host has
	// some, too.
	Hosts []SpanHost
}

// SpanHost is another host on a network.
type SpanHost struct {
	Peer      cnm.Peer
	Endpoints int
	Path      cnm.Path
	// Silent: it is not heard of for so long that names of its containers are not answered.
	Silent bool
}

// HostsOn implements Spanning.
func (c *Controller) HostsOn(networkID string) (out []HostOn) {
	if u := c.spans.underlay.Load(); u != nil {
		if here := len(c.On(networkID)); here > 0 {
			out = append(out, HostOn{u.Host, u.Name, u.Addr, true, here})
		}
	}
	for _, h := range c.others(networkID) {
		out = append(out, HostOn{ID: h.Peer.ID, Name: h.Peer.Name, Addr: h.Peer.Addr, Endpoints: h.Endpoints})
	}
	slices.SortFunc(out, func(a, b HostOn) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Spans implements Spanning.
func (c *Controller) Spans() (out []SpanStatus) {
	for _, n := range c.Networks() {
		if !n.Global() {
			continue
		}
		s := SpanStatus{Network: n, Endpoints: len(c.On(n.ID)), Blocks: c.ownBlocks(n.ID), Hosts: c.others(n.ID)}
		if err := c.usable(n); err != nil {
			s.Note = err.Error()
		}
		out = append(out, s)
	}
	return out
}

// others are the other hosts on a network, by name.
func (c *Controller) others(networkID string) (out []SpanHost) {
	n, err := c.Network(networkID)
	if err != nil {
		return nil
	}
	d, ok := c.spanner(n)
	if !ok {
		return nil
	}
	env, peers := c.cfg.Env(), c.knownPeers()
	sp := c.span(n.ID)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for id, h := range sp.hosts {
		if p, known := peers[id]; known && len(h.endpoints) > 0 {
			out = append(out, SpanHost{p, len(h.endpoints), d.Path(env, n, p), c.isSilent(id)})
		}
	}
	slices.SortFunc(out, func(a, b SpanHost) int { return cmp.Compare(a.Peer.Name, b.Peer.Name) })
	return out
}

// Remotes implements Spanning.
func (c *Controller) Remotes(networkID string) (out []cnm.Remote) {
	n, err := c.Network(networkID)
	if err != nil || !n.Global() {
		return nil
	}
	sp := c.span(n.ID)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for _, r := range sp.remotes {
		r.Addrs, r.Names, r.Exposed = slices.Clone(r.Addrs), slices.Clone(r.Names), slices.Clone(r.Exposed)
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b cnm.Remote) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
