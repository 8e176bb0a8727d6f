package segment

import (
	"net/netip"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// Wire plans the veth pair from the endpoint's interface to a bridge: v says of which
// (Master), its MTU, and how its port is.
func (p *Plan) Wire(s *cnm.Sandbox, e *cnm.Endpoint, v dataplane.Veth) {
	v.Meta = p.Because("the wire from %s's %s to %s", s.OwnerName, e.IfName, v.Master)
	v.Name, v.PeerNS, v.PeerName, v.PeerMAC = e.HostIf, s.Path, e.IfName, e.MAC
	p.Add(v,
		dataplane.Up{Meta: p.Because("the host's end of the wire"), Link: e.HostIf, Wire: true},
		dataplane.Up{Meta: p.Because("the container's end of the wire"), NS: s.Path, Link: e.IfName})
}

// Parameters plans the parameters of the interface in the sandbox.
func (p *Plan) Parameters(s *cnm.Sandbox, e *cnm.Endpoint, eo EndpointOptions) {
	no6 := "net/ipv6/conf/" + e.IfName + "/disable_ipv6"
	if _, said := eo.Sysctls[no6]; !said && !e.Addr6().IsValid() && !hasLinkLocal6(e) {
		p.Add(dataplane.Sysctl{Meta: p.Because("the network has no IPv6: its containers have no link-local addresses either, by which they would reach each other"),
			NS: s.Path, Name: no6, Value: "1", Optional: true})
	}
	for _, name := range eo.names() {
		p.Add(dataplane.Sysctl{Meta: p.Because("asked for with the endpoint's driver option"), NS: s.Path, Name: name, Value: eo.Sysctls[name]})
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

// Address plans one address of the endpoint.
func (p *Plan) Address(n *cnm.Network, s *cnm.Sandbox, e *cnm.Endpoint, a netip.Prefix, tell dataplane.Advertise) {
	p.Add(dataplane.Addr{Meta: p.Because("the container's address on %s", n.Name), NS: s.Path, Link: e.IfName, Prefix: a, Advertise: tell})
}

// LinkLocal plans the addresses that --link-local-ip gave.
func (p *Plan) LinkLocal(s *cnm.Sandbox, e *cnm.Endpoint) {
	for _, a := range e.LinkLocal {
		bits := 64 // RFC 4291
		if a.Is4() {
			bits = 16 // RFC 3927
		}
		p.Add(dataplane.Addr{Meta: p.Because("a link-local address, as --link-local-ip says"), NS: s.Path, Link: e.IfName, Prefix: netip.PrefixFrom(a, bits)})
	}
}

// WayOut plans the default routes that the endpoint carries, through a bridge. onLink:
// the gateway is on no subnet of the container's.
func (p *Plan) WayOut(s *cnm.Sandbox, e *cnm.Endpoint, br string, onLink bool) {
	for _, g := range e.Gateways {
		dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if g.Is6() {
			dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		p.Add(dataplane.Route{Meta: p.Because("the way out goes through %s", br), NS: s.Path, Dst: dst, Via: g, Link: e.IfName, OnLink: onLink})
	}
}

// Known tells the page that an address is behind a bridge.
func (p *Plan) Known(a netip.Addr, br string) {
	p.Add(dataplane.EndpointElement(p.Because("a connection from it to a port published by its own network is masqueraded"), p.Table, a, br))
}

// Holes plans what links open where containers do not reach each other.
func (p *Plan) Holes(e *cnm.Endpoint) {
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
					h := dataplane.HoleElement(p.Because("linked to %s, which exposes %s", l.Alias, exposed), p.Table, from.Addr(), to, proto, uint16(port))
					if !seen[h.Key()] {
						seen[h.Key()] = true
						p.Add(h)
					}
				}
			}
		}
	}
}
