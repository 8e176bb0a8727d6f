// Package bridge plans networks on a Linux bridge: a switch on this host, an
// address of its own as the containers' gateway, SNAT for what leaves, and
// published ports.
package bridge

import (
	"net/netip"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/driver/segment"
)

// Driver is the bridge driver. The zero value is ready.
type Driver struct{}

// Name implements driver.Driver.
func (Driver) Name() string { return "bridge" }

// Traits implements driver.Driver.
func (Driver) Traits() driver.Traits {
	return driver.Traits{Addresses: true, Publishes: true, IfPrefix: "eth", Device: segment.OptBridge}
}

// Check implements driver.Driver.
func (Driver) Check(n *cnm.Network) error {
	if _, err := decode(n); err != nil {
		return err
	}
	return segment.CheckPools(n)
}

// plan is a bridge network's.
type plan struct{ *segment.Plan }

// Network plans the bridge, its gateway addresses, and the page's elements that
// say what its containers may do.
func (Driver) Network(env driver.Env, n *cnm.Network) ([]dataplane.Object, error) {
	o, err := decode(n)
	if err != nil {
		return nil, err
	}
	p := plan{segment.OfNetwork(env, n)}
	p.device(env, n, o)
	if n.Internal {
		p.Inner(o.name)
	} else {
		p.outside(env, n, o)
	}
	for _, pool := range n.Pools {
		p.pool(n, o, pool)
	}
	return p.Objects, nil
}

// device plans the switch, or what has to be known of one that is borrowed.
func (p plan) device(env driver.Env, n *cnm.Network, o options) {
	br := o.name
	if n.Borrowed {
		p.Add(dataplane.BorrowedElement(p.Because("packets from and to containers on %s are ours to judge, and no others", br), p.Table, br),
			dataplane.FlatElement(p.Because("what comes from the wire behind %s and stays on it is not ours to judge", br), p.Table, br))
	}
	if o.icc {
		p.Connect(br)
	}
	if n.Borrowed {
		return
	}
	// Kept apart, containers' packets must pass the page although they are only switched.
	p.Switch(dataplane.Bridge{Name: br, MTU: o.mtuOr(env.MTU), MAC: segment.Hardware(n), NFCall: !o.icc}, n.Pool6() != nil && o.mode6 != modeIsolated)
	if o.mode6 == modeIsolated {
		p.Add(dataplane.Sysctl{Meta: p.Because("the host has no IPv6 address on an isolated network, not even a link-local one"),
			Name: "net/ipv6/conf/" + br + "/disable_ipv6", Value: "1", Optional: true})
	}
}

// outside plans how the network meets the outside.
func (p plan) outside(env driver.Env, n *cnm.Network, o options) {
	p.Egress(o.name)
	for _, pool := range n.Pools {
		v4 := pool.Subnet.Addr().Is4()
		switch o.mode(v4) {
		case modeUnprotected:
			p.Add(dataplane.InboundElement(p.Because("gateway mode nat-unprotected: every port of the containers is open by their own address"), p.Table, v4, o.name, dataplane.InboundOpen))
		case modeRouted:
			p.Add(dataplane.InboundElement(p.Because("gateway mode routed: published ports are open by the containers' own address"), p.Table, v4, o.name, dataplane.InboundRouted))
		}
	}
	p.Direct(env, o.name)
	for _, link := range o.trusted {
		p.Add(dataplane.TrustedElement(p.Because("%s is trusted with the containers' own addresses", link), p.Table, link, o.name))
	}
}

// pool plans the host's address in one subnet, and SNAT.
func (p plan) pool(n *cnm.Network, o options, pool cnm.Pool) {
	v4 := pool.Subnet.Addr().Is4()
	m, br := o.mode(v4), o.name
	if m == modeIsolated {
		return
	}
	if pool.Gateway.IsValid() && n.Internal {
		p.Visible(pool.Gateway, br)
	}
	if pool.Gateway.IsValid() && !n.Borrowed && !(v4 && o.inhibit4) {
		p.Gateway(netip.PrefixFrom(pool.Gateway, pool.Subnet.Bits()), br)
	}
	if n.Internal {
		return
	}
	// Behind a borrowed bridge others have addresses of the subnet too: there each
	// endpoint has its own.
	if o.masquerade && m.translates() && !n.Borrowed {
		if host := o.host(v4); host.IsValid() {
			p.Add(dataplane.SNATElement(p.Because("what leaves carries %s, as the network was told", host), p.Table, pool.Subnet, host))
		} else {
			p.Masquerade(pool.Subnet)
		}
	}
	if v4 && m.translates() {
		p.Loopback(br, n.Borrowed)
	}
}
