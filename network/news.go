package network

import (
	"net/netip"
	"slices"

	"linkspan/cnm"
)

// What the mesh's news change in what this host remembers of a network elsewhere.

// mentions says whether a change is of this host's own blocks.
func mentions(c cnm.RemoteChange, self string) bool {
	return slices.ContainsFunc(c.Blocks, func(b cnm.Block) bool { return b.Host == self })
}

// touched are the hosts and endpoints whose objects a change may change.
func (sp *span) touched(change cnm.RemoteChange, self string) (hosts, ids []string) {
	inHosts, inIDs := map[string]bool{}, map[string]bool{}
	one := func(r cnm.Remote) {
		inHosts[r.Host], inIDs[r.ID] = true, true
		for _, a := range r.Addrs {
			if other := sp.holder[a.Addr()]; other != "" {
				inIDs[other] = true
			}
		}
	}
	both := func(id string) {
		if r, ok := sp.remotes[id]; ok {
			one(r)
		}
	}
	block := func(p netip.Prefix, host string) {
		if host == "" || host == self || sp.hosts[host] == nil {
			return
		}
		inHosts[host] = true
		for id := range sp.hosts[host].endpoints {
			if slices.ContainsFunc(sp.remotes[id].Addrs, func(a netip.Prefix) bool { return p.Contains(a.Addr()) }) {
				both(id)
			}
		}
	}
	if change.Whole {
		for id := range sp.remotes {
			both(id)
		}
		for id := range sp.hosts {
			inHosts[id] = true
		}
	}
	for _, r := range change.Came {
		both(r.ID)
		one(r)
	}
	for _, id := range change.Gone {
		both(id)
	}
	for _, b := range change.Blocks {
		block(b.Prefix, b.Host)
		block(b.Prefix, sp.blockOf(b.Prefix))
	}
	for _, p := range change.FreeBlocks {
		block(p, sp.blockOf(p))
	}
	return sorted(inHosts), sorted(inIDs)
}

func sorted(set map[string]bool) (out []string) {
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// blockOf is the peer whose a block is.
func (sp *span) blockOf(p netip.Prefix) string {
	for id, h := range sp.hosts {
		if slices.ContainsFunc(h.blocks, func(b cnm.Block) bool { return b.Prefix == p }) {
			return id
		}
	}
	return ""
}

// take takes a change over in memory; gone are the endpoints that are no more.
func (sp *span) take(change cnm.RemoteChange, self string) (gone []string) {
	sp.news++
	leave := change.Gone
	if change.Whole {
		stay := map[string]bool{}
		for _, r := range change.Came {
			stay[r.ID] = true
		}
		leave = nil
		for id := range sp.remotes {
			if !stay[id] {
				leave = append(leave, id)
			}
		}
		for _, h := range sp.hosts {
			h.blocks = nil
		}
	}
	for _, id := range leave {
		if sp.remove(id) {
			gone = append(gone, id)
		}
	}
	for _, r := range change.Came {
		if r.Host == self {
			continue
		}
		sp.remove(r.ID)
		sp.remotes[r.ID] = r
		sp.host(r.Host).endpoints[r.ID] = true
		for _, a := range r.Addrs {
			sp.holder[a.Addr()] = r.ID
		}
	}
	for _, p := range change.FreeBlocks {
		sp.unblock(p)
	}
	for _, b := range change.Blocks {
		sp.unblock(b.Prefix)
		if b.Host == self || b.Host == "" {
			continue
		}
		h := sp.host(b.Host)
		h.blocks = append(h.blocks, b)
		slices.SortFunc(h.blocks, func(a, b cnm.Block) int { return a.Prefix.Compare(b.Prefix) })
	}
	for id, h := range sp.hosts {
		if len(h.endpoints) == 0 && len(h.blocks) == 0 {
			delete(sp.hosts, id)
		}
	}
	return gone
}

func (sp *span) remove(id string) bool {
	r, there := sp.remotes[id]
	if !there {
		return false
	}
	delete(sp.remotes, id)
	delete(sp.host(r.Host).endpoints, id)
	for _, a := range r.Addrs {
		if sp.holder[a.Addr()] == id {
			delete(sp.holder, a.Addr())
		}
	}
	return true
}

func (sp *span) unblock(p netip.Prefix) {
	if h := sp.hosts[sp.blockOf(p)]; h != nil {
		// Not in place: who plans has the old ones.
		h.blocks = slices.DeleteFunc(slices.Clone(h.blocks), func(b cnm.Block) bool { return b.Prefix == p })
	}
}
