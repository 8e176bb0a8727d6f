package segment

import (
	"net/netip"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// Connect has the containers of one network reach each other.
func (p *Plan) Connect(br string) {
	p.Add(dataplane.ICCElement(p.Because("containers of one network reach each other"), p.Table, br))
}

// Switch plans a bridge of ours. six: the host has IPv6 addresses on it.
func (p *Plan) Switch(b dataplane.Bridge, six bool) {
	p.Add(dataplane.BridgeElement(p.Because("packets from and to %s are ours to judge", b.Name), p.Table, b.Name))
	b.Meta = p.Because("the switch that connects the network's containers")
	p.Add(b, dataplane.Up{Meta: p.Because("a bridge forwards only while it is up"), Link: b.Name})
	if six {
		// A router asks for neighbours from its link-local address (RFC 4861, 7.2.2). While
		// that is tentative (RFC 4862, 5.4) it asks for none, and what is to be forwarded
		// waits: up to 2 s after the first container started.
		p.Add(dataplane.Sysctl{Meta: p.Because("IPv6 packets reach the first container at once: our bridge's address is nobody else's, it need not be probed for"),
			Name: "net/ipv6/conf/" + b.Name + "/accept_dad", Value: "0", Optional: true})
	}
}

// Span says that the network goes on on other hosts.
func (p *Plan) Span(br string) {
	p.Add(dataplane.SpanElement(p.Because("the path to other hosts may carry less than %s: TCP is told so", br), p.Table, br))
}

// Inner closes the host to the containers of an internal network.
func (p *Plan) Inner(br string) {
	p.Add(dataplane.InternalElement(p.Because("containers of an internal network see nothing of the host but their gateway"), p.Table, br))
}

// Visible is the one address of the host that containers of an internal network see.
func (p *Plan) Visible(gateway netip.Addr, br string) {
	p.Add(dataplane.GatewayElement(p.Because("the host on this network, which its containers may see"), p.Table, gateway, br))
}

// Gateway plans the host's address on the bridge.
func (p *Plan) Gateway(prefix netip.Prefix, br string) {
	p.Add(dataplane.Addr{Meta: p.Because("the containers' default gateway"), Link: br, Prefix: prefix})
}

// Egress lets the containers out.
func (p *Plan) Egress(br string) {
	p.Add(dataplane.EgressElement(p.Because("containers reach the outside"), p.Table, br))
}

// Direct opens published ports to who routes to a container, where the daemon says so.
func (p *Plan) Direct(env driver.Env, br string) {
	if env.DirectRouting {
		p.Add(dataplane.DirectElement(p.Because("--allow-direct-routing: published ports are open by the containers' own address"), p.Table, br))
	}
}

// Masquerade gives what leaves from these addresses the host's own.
func (p *Plan) Masquerade(from netip.Prefix) {
	p.Add(dataplane.MasqueradeElement(p.Because("what leaves carries the host's address, so that answers come back"), p.Table, from))
}

// Loopback has ports that are published on 127.0.0.1 reach containers. shared: the
// bridge is not ours.
func (p *Plan) Loopback(br string, shared bool) {
	p.Add(dataplane.Sysctl{Meta: p.Because("ports published on 127.0.0.1 reach containers; the page keeps containers off the host's loopback"),
		Name: "net/ipv4/conf/" + br + "/route_localnet", Value: "1", Shared: shared})
}

// Outside is what a network that translates both ways, or is internal, needs besides its
// bridge. alone: the gateway's address on the bridge brings no subnet with it.
func (p *Plan) Outside(env driver.Env, n *cnm.Network, br string, masquerade, alone bool) {
	if n.Internal {
		p.Inner(br)
	} else {
		p.Egress(br)
		p.Direct(env, br)
	}
	for _, pool := range n.Pools {
		if pool.Gateway.IsValid() {
			bits := pool.Subnet.Bits()
			if alone {
				bits = pool.Gateway.BitLen()
			}
			if n.Internal {
				p.Visible(pool.Gateway, br)
			}
			p.Gateway(netip.PrefixFrom(pool.Gateway, bits), br)
		}
		if n.Internal {
			continue
		}
		if masquerade {
			p.Masquerade(pool.Subnet)
		}
		if pool.Subnet.Addr().Is4() {
			p.Loopback(br, false)
		}
	}
}
