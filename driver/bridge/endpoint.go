package bridge

import (
	"net/netip"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
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
	p := &plan{table: env.Table, owner: dataplane.Owner{Kind: dataplane.OwnerEndpoint, ID: e.ID, Name: s.OwnerName}}
	p.wire(env, n, s, e, o, len(ports) > 0)
	p.inside(n, s, e, o, eo)
	p.addresses(n, e, o, eo)
	p.holes(n, e, o)
	p.owner = dataplane.Owner{Kind: dataplane.OwnerPort, ID: s.ID, Name: s.OwnerName}
	p.ports(env, s, e, o, ports)
	return p.objs, nil
}

// wire plans the veth pair.
func (p *plan) wire(env driver.Env, n *cnm.Network, s *cnm.Sandbox, e *cnm.Endpoint, o options, publishes bool) {
	bridgedPackets := env.BridgeNF || !o.icc && !n.Borrowed // pass the page
	p.add(
		dataplane.Veth{Meta: p.because("the wire from %s's %s to %s", s.OwnerName, e.IfName, o.name),
			Name: e.HostIf, Master: o.name, Borrowed: n.Borrowed, MTU: o.mtuOr(env.MTU), PeerNS: s.Path, PeerName: e.IfName, PeerMAC: e.MAC,
			// When bridged packets pass the page, a container's way to its own published port
			// is bridged back out of the port it came in by; without hairpin the bridge drops
			// it. Only where it is needed: a hairpin port also hears its own broadcasts.
			Hairpin: bridgedPackets && publishes,
			// A borrowed bridge has no flag of ours: where its packets do not pass the page,
			// isolated ports reach the wire behind it and not each other.
			Isolated: n.Borrowed && !o.icc && !env.BridgeNF},
		dataplane.Up{Meta: p.because("the host's end of the wire"), Link: e.HostIf, Wire: true},
		dataplane.Up{Meta: p.because("the container's end of the wire"), NS: s.Path, Link: e.IfName})
}

// inside plans addresses, routes and parameters in the sandbox.
func (p *plan) inside(n *cnm.Network, s *cnm.Sandbox, e *cnm.Endpoint, o options, eo endpointOptions) {
	no6 := "net/ipv6/conf/" + e.IfName + "/disable_ipv6"
	if _, said := eo.sysctls[no6]; !said && !e.Addr6().IsValid() && !hasLinkLocal6(e) {
		p.add(dataplane.Sysctl{Meta: p.because("the network has no IPv6: its containers have no link-local addresses either, by which they would reach each other"),
			NS: s.Path, Name: no6, Value: "1", Optional: true})
	}
	for _, name := range eo.names() {
		p.add(dataplane.Sysctl{Meta: p.because("asked for with the endpoint's driver option"), NS: s.Path, Name: name, Value: eo.sysctls[name]})
	}
	tell := o.advertise(n, e, eo.shared)
	for _, a := range e.Addrs {
		p.add(dataplane.Addr{Meta: p.because("the container's address on %s", n.Name), NS: s.Path, Link: e.IfName, Prefix: a, Advertise: tell})
	}
	for _, a := range e.LinkLocal {
		bits := 64 // RFC 4291
		if a.Is4() {
			bits = 16 // RFC 3927
		}
		p.add(dataplane.Addr{Meta: p.because("a link-local address, as --link-local-ip says"), NS: s.Path, Link: e.IfName, Prefix: netip.PrefixFrom(a, bits)})
	}
	for _, g := range e.Gateways {
		dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if g.Is6() {
			dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		p.add(dataplane.Route{Meta: p.because("the way out goes through %s", o.name), NS: s.Path, Dst: dst, Via: g, Link: e.IfName})
	}
}

func hasLinkLocal6(e *cnm.Endpoint) bool {
	for _, a := range e.LinkLocal {
		if a.Is6() {
			return true
		}
	}
	return false
}

// addresses plans what the page must know of the endpoint.
func (p *plan) addresses(n *cnm.Network, e *cnm.Endpoint, o options, eo endpointOptions) {
	for _, prefix := range e.Addrs {
		a := prefix.Addr()
		m := o.mode(a.Is4())
		p.add(dataplane.EndpointElement(p.because("a connection from it to a port published by its own network is masqueraded"), p.table, a, o.name))
		own := eo.host(a.Is4())
		switch {
		case n.Internal:
		case own.IsValid():
			p.add(dataplane.SNATEndpointElement(p.because("what leaves carries %s, as the endpoint was told", own), p.table, a, own))
		case !n.Borrowed || !o.masquerade || !m.translates(): // the network's subnet says it
		case o.host(a.Is4()).IsValid():
			p.add(dataplane.SNATEndpointElement(p.because("what leaves carries %s, as the network was told", o.host(a.Is4())), p.table, a, o.host(a.Is4())))
		default:
			p.add(dataplane.MasqueradeElement(p.because("what leaves carries the host's address, so that answers come back"), p.table, netip.PrefixFrom(a, a.BitLen())))
		}
	}
}

// holes plans what links open where containers do not reach each other.
func (p *plan) holes(n *cnm.Network, e *cnm.Endpoint, o options) {
	if o.icc {
		return
	}
	seen := map[string]bool{}
	for _, l := range e.Links {
		for _, exposed := range l.Ports {
			number, proto, _ := strings.Cut(exposed, "/")
			port, err := strconv.ParseUint(number, 10, 16)
			if err != nil || port == 0 {
				continue // the container's definition was checked when it was made
			}
			if proto == "" {
				proto = "tcp"
			}
			for _, to := range l.Addrs {
				for _, from := range e.Addrs {
					if from.Addr().Is4() != to.Is4() {
						continue
					}
					h := dataplane.HoleElement(p.because("linked to %s, which exposes %s", l.Alias, exposed), p.table, from.Addr(), to, proto, uint16(port))
					if !seen[h.Key()] {
						seen[h.Key()] = true
						p.add(h)
					}
				}
			}
		}
	}
}
