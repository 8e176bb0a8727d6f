package overlay

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
	if none, ok := segment.Closed(u, p, o.encrypted); ok {
		return none
	}
	path := cnm.Path{Kind: cnm.PathVXLAN, Dev: o.tunnel, MTU: min(o.size(env), u.PeerMTU(p, o.encrypted))}
	wrapped := fmt.Sprintf("VXLAN to %s, UDP port %d, VNI %d", o.end(p), o.udp(u), number(n))
	if o.encrypted {
		path.Kind, path.Dev = cnm.PathWireGuard, u.Secure
		path.Reason = fmt.Sprintf("the network is encrypted: %s is reached by %s inside of WireGuard (%s)", p.Name, wrapped, u.Secure)
		return path
	}
	path.Reason = fmt.Sprintf("overlay networks are wrapped whatever the way: %s is reached by %s", p.Name, wrapped)
	return path
}

// end is the address of a peer's end of the tunnel.
func (o options) end(p cnm.Peer) netip.Addr {
	if o.encrypted {
		return p.SecureAddr
	}
	return p.Addr
}

// toward begins a plan of what leads to a peer; false: there is no way to it.
func toward(env driver.Env, n *cnm.Network, p cnm.Peer) (*segment.Plan, options, bool, error) {
	o, err := decode(n)
	if err != nil {
		return nil, o, false, err
	}
	if _, closed := segment.Closed(env.Underlay, p, o.encrypted); closed {
		return nil, o, false, nil
	}
	return segment.OfNetwork(env, n), o, true, nil
}

// Peer plans that broadcasts and multicasts are copied to the host.
func (Driver) Peer(env driver.Env, n *cnm.Network, peer cnm.Peer, _ []cnm.Block) ([]dataplane.Object, error) {
	p, o, ok, err := toward(env, n, peer)
	if !ok {
		return nil, err
	}
	p.Add(dataplane.FDB{Meta: p.Because("broadcasts and multicasts are copied to %s, which has containers there", peer.Name),
		Dev: o.tunnel, MAC: dataplane.FDBDefault, Dst: o.end(peer)})
	return p.Objects, nil
}

// Remote plans the endpoint's place: behind the tunnel, on its host; and its addresses, so
// that nobody has to ask for them on the wire.
func (Driver) Remote(env driver.Env, n *cnm.Network, peer cnm.Peer, _ []cnm.Block, r cnm.Remote) ([]dataplane.Object, error) {
	p, o, ok, err := toward(env, n, peer)
	if !ok || r.MAC == "" {
		return nil, err
	}
	p.Add(
		dataplane.FDB{Meta: p.Because("%s is on %s", r.ContainerName, peer.Name), Dev: o.tunnel, MAC: r.MAC, Dst: o.end(peer)},
		dataplane.FDB{Meta: p.Because("%s is behind the tunnel", r.ContainerName), Dev: o.tunnel, MAC: r.MAC})
	six := false
	for _, a := range r.Addrs {
		six = six || a.Addr().Is6()
		p.Add(dataplane.Neighbour{Meta: p.Because("%s on %s has the address", r.ContainerName, peer.Name), Link: o.bridge, Addr: a.Addr(), MAC: r.MAC})
	}
	// By its link-local address too it is found without asking.
	if ll := cnm.LinkLocal(r.MAC); six && ll.IsValid() {
		p.Add(dataplane.Neighbour{Meta: p.Because("%s on %s has the link-local address", r.ContainerName, peer.Name), Link: o.bridge, Addr: ll, MAC: r.MAC})
	}
	return p.Objects, nil
}
