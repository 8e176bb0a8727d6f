package routed

import (
	"fmt"
	"net/netip"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/driver/segment"
)

// Path implements driver.Spanner.
func (Driver) Path(env driver.Env, n *cnm.Network, p cnm.Peer) cnm.Path {
	o, err := decode(n)
	if err != nil {
		return segment.NoPath("%s", err)
	}
	u := env.Underlay
	if none, closed := segment.Closed(u, p, o.encrypted); closed {
		return none
	}
	size := o.size(env)
	switch {
	case o.encrypted:
		return cnm.Path{Kind: cnm.PathWireGuard, Dev: u.Secure, MTU: size,
			Reason: fmt.Sprintf("the network is encrypted: %s is reached through WireGuard (%s)", p.Name, u.Secure)}
	case p.OnLink:
		if p.MTU != 0 {
			size = min(size, p.MTU)
		}
		path := cnm.Path{Kind: cnm.PathDirect, Dev: device(u, p), MTU: size, Reason: fmt.Sprintf("%s is on the same link (%s)", p.Name, device(u, p))}
		if n.Pool6() != nil && p.Addr.Is4() {
			path.Reason += "; IPv6 goes there by VXLAN, since the hosts know each other on the link by IPv4 alone"
			if o.direct {
				path.Reason = fmt.Sprintf("%s is on the same link (%s); IPv6 does not go there: the hosts know each other on the link by IPv4 alone, and the network wants plain routes", p.Name, device(u, p))
			}
		}
		return path
	case o.direct:
		return segment.NoPath("%s is behind a router, and the network wants plain routes alone (%s): what is on %s is not reached", p.Name, optDirect, p.Name)
	case u.RoutedVNI == 0:
		return segment.NoPath("%s is behind a router, and the mesh has no VNI for routed networks yet", p.Name)
	}
	return cnm.Path{Kind: cnm.PathVXLAN, Dev: driver.RoutedLink(env), MTU: min(size, u.PeerMTU(p, false)),
		Reason: fmt.Sprintf("%s is behind a router: wrapped in VXLAN to %s, UDP port %d, VNI %d", p.Name, p.Addr, u.UDPPort(), u.RoutedVNI)}
}

func device(u *cnm.Underlay, p cnm.Peer) string {
	if p.Dev != "" {
		return p.Dev
	}
	return u.Dev
}

// Peer plans the routes to the peer's blocks.
func (d Driver) Peer(env driver.Env, n *cnm.Network, peer cnm.Peer, blocks []cnm.Block) ([]dataplane.Object, error) {
	p := plan{segment.OfNetwork(env, n)}
	for _, b := range blocks {
		if b.Host == peer.ID {
			if err := p.way(d, env, n, peer, b.Prefix.Masked(), p.Because("%s is %s's", b.Prefix, peer.Name)); err != nil {
				return nil, err
			}
		}
	}
	return p.Objects, nil
}

// Remote plans a route to an endpoint whose address is in none of its host's blocks: one
// that was lent by another host.
func (d Driver) Remote(env driver.Env, n *cnm.Network, peer cnm.Peer, blocks []cnm.Block, r cnm.Remote) ([]dataplane.Object, error) {
	p := plan{segment.OfNetwork(env, n)}
	for _, a := range r.Addrs {
		if within(blocks, peer, a.Addr()) {
			continue
		}
		if err := p.way(d, env, n, peer, alone(a.Addr()), p.Because("%s is on %s, with an address of another host's", r.ContainerName, peer.Name)); err != nil {
			return nil, err
		}
	}
	return p.Objects, nil
}

func within(blocks []cnm.Block, peer cnm.Peer, a netip.Addr) bool {
	for _, b := range blocks {
		if b.Host == peer.ID && b.Prefix.Contains(a) {
			return true
		}
	}
	return false
}

// way plans a route to a peer, by the path that Path chooses; none where there is none.
func (p plan) way(d Driver, env driver.Env, n *cnm.Network, peer cnm.Peer, dst netip.Prefix, why dataplane.Meta) error {
	path, v4 := d.Path(env, n, peer), dst.Addr().Is4()
	if path.Kind == cnm.PathDirect && !v4 && peer.Addr.Is4() {
		// There is no IPv6 next hop on the link.
		o, err := decode(n)
		if err != nil || o.direct || env.Underlay.RoutedVNI == 0 {
			return err
		}
		path = cnm.Path{Kind: cnm.PathVXLAN, Dev: driver.RoutedLink(env), Reason: fmt.Sprintf("the hosts know each other on the link by IPv4 alone: wrapped in VXLAN to %s", peer.Addr)}
	}
	r := dataplane.Route{Meta: why, Dst: dst, Link: path.Dev}
	r.Reason += "; " + path.Reason
	switch path.Kind {
	case cnm.PathDirect:
		r.Via = peer.Addr
	case cnm.PathVXLAN:
		if r.Via, r.OnLink = driver.NextHop(env.Underlay, peer, v4), true; !r.Via.IsValid() {
			return nil
		}
	case cnm.PathWireGuard: // the device knows whose addresses these are
	default:
		return nil
	}
	p.Add(r)
	return nil
}
