package network

import (
	"net/netip"
	"slices"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// The encrypted tunnels take nothing from a peer, and lead nothing to it, but addresses
// that are allowed to it (WireGuard's allowed IPs): what routes lead into the device is.

// secureRoutes are where routes lead into the device of the encrypted tunnels, in order.
func secureRoutes(env driver.Env, objs []dataplane.Object) (out []netip.Prefix) {
	for _, o := range objs {
		if p, ok := secureRoute(env, o); ok {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

func secureRoute(env driver.Env, o dataplane.Object) (netip.Prefix, bool) {
	r, ok := o.(dataplane.Route)
	if !ok || env.Underlay == nil || env.Underlay.Secure == "" || r.NS != "" || r.Link != env.Underlay.Secure || r.Unreachable {
		return netip.Prefix{}, false
	}
	return r.Dst, true
}

// allow tells what a network's routes lead to each peer through the encrypted tunnels. The
// caller holds sp.mu.
func (c *Controller) allow(env driver.Env, peers map[string]cnm.Peer, d driver.Spanner, n *cnm.Network, sp *span) {
	if c.cfg.Allow == nil {
		return
	}
	var to map[string][]netip.Prefix
	for host, h := range sp.hosts {
		var ids []string
		for id := range h.endpoints {
			ids = append(ids, id)
		}
		ps := secureRoutes(env, c.elsewhere(env, peers, d, n, sp, []string{host}, ids))
		if len(ps) == 0 {
			continue
		}
		if to == nil {
			to = map[string][]netip.Prefix{}
		}
		to[host] = ps
	}
	c.cfg.Allow(n.ID, to)
}
