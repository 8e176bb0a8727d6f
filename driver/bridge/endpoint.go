package bridge

import (
	"net/netip"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/driver/segment"
)

// Endpoint plans the veth pair, what is inside the sandbox, what the page must
// know of it, and the published ports.
func (Driver) Endpoint(env driver.Env, n *cnm.Network, s *cnm.Sandbox, e *cnm.Endpoint, ports []cnm.PublishedPort) ([]dataplane.Object, error) {
	o, err := decode(n)
	if err != nil {
		return nil, err
	}
	eo, err := decodeEndpoint(n, o, e)
	if err != nil {
		return nil, err
	}
	p := plan{segment.OfEndpoint(env, s, e)}
	p.wire(env, n, s, e, o, len(ports) > 0)
	p.inside(n, s, e, o, eo)
	p.addresses(n, e, o, eo)
	if !o.icc {
		p.Holes(e)
	}
	p.Ports(s, e, ports, func(v4 bool) segment.Publishing {
		m := o.mode(v4)
		return segment.Publishing{Translated: m.translates(), Open: m == modeRouted || m.translates() && (env.DirectRouting || len(o.trusted) > 0)}
	})
	return p.Objects, nil
}

// wire plans the veth pair.
func (p plan) wire(env driver.Env, n *cnm.Network, s *cnm.Sandbox, e *cnm.Endpoint, o options, publishes bool) {
	bridgedPackets := env.BridgeNF || !o.icc && !n.Borrowed // pass the page
	p.Wire(s, e, dataplane.Veth{Master: o.name, Borrowed: n.Borrowed, MTU: o.mtuOr(env.MTU),
		// When bridged packets pass the page, a container's way to its own published port
		// is bridged back out of the port it came in by; without hairpin the bridge drops
		// it. Only where it is needed: a hairpin port also hears its own broadcasts.
		Hairpin: bridgedPackets && publishes,
		// A borrowed bridge has no flag of ours: where its packets do not pass the page,
		// isolated ports reach the wire behind it and not each other.
		Isolated: n.Borrowed && !o.icc && !env.BridgeNF})
}

// inside plans addresses, routes and parameters in the sandbox.
func (p plan) inside(n *cnm.Network, s *cnm.Sandbox, e *cnm.Endpoint, o options, eo endpointOptions) {
	p.Parameters(s, e, eo.EndpointOptions)
	tell := o.advertise(n, e, eo.shared)
	for _, a := range e.Addrs {
		p.Address(n, s, e, a, tell)
	}
	p.LinkLocal(s, e)
	p.WayOut(s, e, o.name, false)
}

// addresses plans what the page must know of the endpoint.
func (p plan) addresses(n *cnm.Network, e *cnm.Endpoint, o options, eo endpointOptions) {
	for _, prefix := range e.Addrs {
		a := prefix.Addr()
		m := o.mode(a.Is4())
		p.Known(a, o.name)
		own := eo.host(a.Is4())
		switch {
		case n.Internal:
		case own.IsValid():
			p.Add(dataplane.SNATEndpointElement(p.Because("what leaves carries %s, as the endpoint was told", own), p.Table, a, own))
		case !n.Borrowed || !o.masquerade || !m.translates(): // the network's subnet says it
		case o.host(a.Is4()).IsValid():
			p.Add(dataplane.SNATEndpointElement(p.Because("what leaves carries %s, as the network was told", o.host(a.Is4())), p.Table, a, o.host(a.Is4())))
		default:
			p.Masquerade(netip.PrefixFrom(a, a.BitLen()))
		}
	}
}
