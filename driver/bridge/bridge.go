// Package bridge plans networks on a Linux bridge: a switch on this host, an
// address of its own as the containers' gateway, SNAT for what leaves, and
// published ports.
package bridge

import (
	"fmt"
	"net/netip"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// Driver is the bridge driver. The zero value is ready.
type Driver struct{}

// Name implements driver.Driver.
func (Driver) Name() string { return "bridge" }

// Traits implements driver.Driver.
func (Driver) Traits() driver.Traits {
	return driver.Traits{Addresses: true, Publishes: true, IfPrefix: "eth", Device: optName}
}

// Check implements driver.Driver.
func (Driver) Check(n *cnm.Network) error {
	if _, err := decode(n); err != nil {
		return err
	}
	if len(n.Pools) == 0 {
		return cnm.Invalid("network %s: the bridge driver needs a subnet; give one with --subnet", n.Name)
	}
	return nil
}

// plan collects objects of one owner.
type plan struct {
	table string
	owner dataplane.Owner
	objs  []dataplane.Object
}

func (p *plan) add(o ...dataplane.Object) { p.objs = append(p.objs, o...) }

func (p *plan) because(format string, args ...any) dataplane.Meta {
	return dataplane.Meta{Owner: p.owner, Reason: fmt.Sprintf(format, args...)}
}

// Network plans the bridge, its gateway addresses, and the page's elements that
// say what its containers may do.
func (Driver) Network(env driver.Env, n *cnm.Network) ([]dataplane.Object, error) {
	o, err := decode(n)
	if err != nil {
		return nil, err
	}
	p := &plan{table: env.Table, owner: dataplane.Owner{Kind: dataplane.OwnerNetwork, ID: n.ID, Name: n.Name}}
	p.device(env, n, o)
	if n.Internal {
		p.add(dataplane.InternalElement(p.because("containers of an internal network see nothing of the host but their gateway"), p.table, o.name))
	} else {
		p.outside(env, n, o)
	}
	for _, pool := range n.Pools {
		p.pool(n, o, pool)
	}
	return p.objs, nil
}

// device plans the switch, or what has to be known of one that is borrowed.
func (p *plan) device(env driver.Env, n *cnm.Network, o options) {
	br := o.name
	if n.Borrowed {
		p.add(dataplane.BorrowedElement(p.because("packets from and to containers on %s are ours to judge, and no others", br), p.table, br),
			dataplane.FlatElement(p.because("what comes from the wire behind %s and stays on it is not ours to judge", br), p.table, br))
	}
	if o.icc {
		p.add(dataplane.ICCElement(p.because("containers of one network reach each other"), p.table, br))
	}
	if n.Borrowed {
		return
	}
	p.add(dataplane.BridgeElement(p.because("packets from and to %s are ours to judge", br), p.table, br),
		// Kept apart, containers' packets must pass the page although they are only
		// switched.
		dataplane.Bridge{Meta: p.because("the switch that connects the network's containers"), Name: br, MTU: o.mtuOr(env.MTU), MAC: hardware(n), NFCall: !o.icc},
		dataplane.Up{Meta: p.because("a bridge forwards only while it is up"), Link: br})
	if o.mode6 == modeIsolated {
		p.add(dataplane.Sysctl{Meta: p.because("the host has no IPv6 address on an isolated network, not even a link-local one"),
			Name: "net/ipv6/conf/" + br + "/disable_ipv6", Value: "1", Optional: true})
	}
}

// outside plans how the network meets the outside.
func (p *plan) outside(env driver.Env, n *cnm.Network, o options) {
	p.add(dataplane.EgressElement(p.because("containers reach the outside"), p.table, o.name))
	for _, pool := range n.Pools {
		v4 := pool.Subnet.Addr().Is4()
		switch o.mode(v4) {
		case modeUnprotected:
			p.add(dataplane.InboundElement(p.because("gateway mode nat-unprotected: every port of the containers is open by their own address"), p.table, v4, o.name, dataplane.InboundOpen))
		case modeRouted:
			p.add(dataplane.InboundElement(p.because("gateway mode routed: published ports are open by the containers' own address"), p.table, v4, o.name, dataplane.InboundRouted))
		}
	}
	if env.DirectRouting {
		p.add(dataplane.DirectElement(p.because("--allow-direct-routing: published ports are open by the containers' own address"), p.table, o.name))
	}
	for _, link := range o.trusted {
		p.add(dataplane.TrustedElement(p.because("%s is trusted with the containers' own addresses", link), p.table, link, o.name))
	}
}

// pool plans the host's address in one subnet, and SNAT.
func (p *plan) pool(n *cnm.Network, o options, pool cnm.Pool) {
	v4 := pool.Subnet.Addr().Is4()
	m, br := o.mode(v4), o.name
	if m == modeIsolated {
		return
	}
	if pool.Gateway.IsValid() && n.Internal {
		p.add(dataplane.GatewayElement(p.because("the host on this network, which its containers may see"), p.table, pool.Gateway, br))
	}
	if pool.Gateway.IsValid() && !n.Borrowed && !(v4 && o.inhibit4) {
		p.add(dataplane.Addr{Meta: p.because("the containers' default gateway"), Link: br, Prefix: netip.PrefixFrom(pool.Gateway, pool.Subnet.Bits())})
	}
	if n.Internal {
		return
	}
	// Behind a borrowed bridge others have addresses of the subnet too: there each
	// endpoint has its own.
	if o.masquerade && m.translates() && !n.Borrowed {
		if host := o.host(v4); host.IsValid() {
			p.add(dataplane.SNATElement(p.because("what leaves carries %s, as the network was told", host), p.table, pool.Subnet, host))
		} else {
			p.add(dataplane.MasqueradeElement(p.because("what leaves carries the host's address, so that answers come back"), p.table, pool.Subnet))
		}
	}
	if v4 && m.translates() {
		p.add(dataplane.Sysctl{Meta: p.because("ports published on 127.0.0.1 reach containers; the page's raw chain keeps containers off the host's loopback"),
			Name: "net/ipv4/conf/" + br + "/route_localnet", Value: "1", Shared: n.Borrowed})
	}
}

// hardware pins the bridge's MAC address: 02:42 and the gateway's address, as
// containers' are made. A bridge without one takes the lowest of its ports' and
// changes it as containers come and go, under its neighbours' ARP caches.
func hardware(n *cnm.Network) string {
	p := n.Pool4()
	if p == nil || !p.Gateway.Is4() {
		return ""
	}
	return cnm.MACFor(p.Gateway)
}
