package why

import (
	"fmt"
	"net/netip"
	"strings"

	"linkspan/cnm"
	"linkspan/diagnose"
)

// reason is a declared cause in a few words, for the step.
func reason(c Code) string {
	switch c {
	case ICCOff:
		return "keeps its containers apart (icc=false)"
	case Internal:
		return "is internal"
	case Isolated:
		return "is isolated from the host"
	}
	return strings.ReplaceAll(string(c), "-", " ")
}

// iccOff is said of a network that keeps its containers apart.
func (w *walk) iccOff(n *cnm.Network) *cause {
	c := because(ICCOff, "network %s keeps its containers apart (icc=false), and no link from %s to %s opens %s.", n.Name, w.a.Name, w.b.Name, portOf(w.b.Port, w.b.Proto))
	own := w.a.Name + "-" + w.b.Name
	if _, err := w.world.Network(own); err == nil {
		own += "-2"
	}
	c.mend("linkspan network create %[1]s && linkspan network connect %[1]s %[2]s && linkspan network connect %[1]s %[3]s", own, w.a.Name, w.b.Name)
	if n.HasNames() { // or the name would go on leading to the address there
		c.cure += fmt.Sprintf(" && linkspan network disconnect %s %s", n.Name, w.a.Name)
	}
	return c
}

// noNetwork is said of two that share none, or none with an address family in common.
func (w *walk) noNetwork(a, b *cnm.Sandbox, p packet, shared []pair) *cause {
	for i := range a.Endpoints {
		for j := range b.Endpoints {
			if ea, eb := &a.Endpoints[i], &b.Endpoints[j]; ea.NetworkID == eb.NetworkID && len(ea.Addrs) > 0 && len(eb.Addrs) > 0 &&
				(!p.dst.IsValid() || has(eb, p.dst)) {
				return because(NoAddressFamily, "on network %s, %s has %s and %s has %s: no address family in common.",
					ea.NetworkName, w.a.Name, families(ea), w.b.Name, families(eb)).
					advise("make a network that has the family that %s needs (--ipv6), and connect both", w.b.Name)
			}
		}
	}
	if p.dst.IsValid() && !hasFamily(a, p.dst.Is4()) {
		fam := map[bool]string{true: "IPv4", false: "IPv6"}[p.dst.Is4()]
		return because(NoAddressFamily, "%s has no %s address, and %s, of %s, is one.", w.a.Name, fam, p.dst, w.b.Name).
			mend("linkspan network connect %s %s", networkName(b, p.dst), w.a.Name)
	}
	if p.dst.IsValid() && len(shared) > 0 {
		return because(NoSharedNetwork, "%s's address %s is on network %s, which %s is not on; on %s it has %s.",
			w.b.Name, p.dst, networkName(b, p.dst), w.a.Name, shared[0].n.Name, shared[0].dst).
			mend("linkspan network connect %s %s", networkName(b, p.dst), w.a.Name)
	}
	c := because(NoSharedNetwork, "%s (on %s) and %s (on %s) are on no network in common.", w.a.Name, onNetworks(a), w.b.Name, onNetworks(b))
	for _, own := range []bool{true, false} {
		for _, side := range []struct {
			s    *cnm.Sandbox
			join string
		}{{b, w.a.Name}, {a, w.b.Name}} {
			for _, n := range w.networksOf(side.s) {
				if n.Driver == "bridge" && n.Predefined != own && icc(n) && !isolatedMode(w.a) && !isolatedMode(w.b) {
					return c.mend("linkspan network connect %s %s", n.Name, side.join)
				}
			}
		}
	}
	return c.advise("a container with --network none is on no network; run it again on one of %s's", w.b.Name)
}

// isolatedMode is --network none, which no other network goes with.
func isolatedMode(e *diagnose.End) bool { return e.Container != nil && e.Container.Mode == "none" }

func onlyNone(s *cnm.Sandbox) bool { return !firstAddr(s).IsValid() }

func networkName(s *cnm.Sandbox, a netip.Addr) string {
	if e := endpointOf(s, a); e != nil {
		return e.NetworkName
	}
	return "another"
}

func onNetworks(s *cnm.Sandbox) string {
	var names []string
	for _, e := range s.Endpoints {
		names = append(names, e.NetworkName)
	}
	return orNone(names)
}

func families(e *cnm.Endpoint) string {
	switch four, six := e.Addr4().IsValid(), e.Addr6().IsValid(); {
	case four && six:
		return "both"
	case six:
		return "IPv6 only"
	}
	return "IPv4 only"
}

func isolated(n *cnm.Network, v4 bool) bool {
	key := "com.docker.network.bridge.gateway_mode_ipv6"
	if v4 {
		key = "com.docker.network.bridge.gateway_mode_ipv4"
	}
	return n.Options[key] == "isolated"
}

// routedOnly says that a sandbox is on networks only whose gateway mode is routed: its
// ports are not translated, and open at its own addresses.
func (w *walk) routedOnly(s *cnm.Sandbox) bool {
	nets := w.networksOf(s)
	for _, n := range nets {
		for _, p := range n.Pools {
			key := "com.docker.network.bridge.gateway_mode_ipv6"
			if p.Subnet.Addr().Is4() {
				key = "com.docker.network.bridge.gateway_mode_ipv4"
			}
			if n.Options[key] != "routed" {
				return false
			}
		}
	}
	return len(nets) > 0
}

// routedAt is the cause when a port is asked at the host that is open at its container's
// own address.
func (w *walk) routedAt(m mapping, port uint16) *cause {
	if !w.routedOnly(m.s) {
		return nil
	}
	own := at(firstAddr(m.s), m.leads(port), m.port.Proto)
	return because(PublishedElsewhere, "%s is on a routed network (gateway mode routed): its port is at its own address, %s, and not at the host's.", m.s.OwnerName, own).
		advise("ask %s; who asks needs a route to it through this host", own)
}

// declareOut is said of a container on its way out of the host.
func (w *walk) declareOut(s *cnm.Sandbox, p packet) {
	at := w.placeOf(w.a)
	if p.dst.Is6() && !hasFamily(s, false) {
		w.declared = because(NoAddressFamily, "%s has no IPv6 address, and %s is one.", w.a.Name, p.dst).
			advise("connect it to a network with IPv6 (linkspan network create --ipv6 …), or ask for an IPv4 address")
		return
	}
	nets := w.networksOf(s)
	out := false
	for _, n := range nets {
		out = out || n.Driver != "null" && !n.Internal
	}
	switch {
	case out:
		w.good(at, "network", "%s leads outside", onNetworks(s))
	case onlyNone(s):
		w.declared = because(NoRoute, "%s is on no network (--network none): it has a loopback interface only.", w.a.Name).
			advise("run it again with a network: linkspan run --network bridge …")
		w.step(at, Bad, "network", "none")
	default:
		w.declared = w.internal(nets[0], "reaches the outside")
		w.step(at, Bad, "network", "%s: internal", nets[0].Name)
	}
}

// internal is said of a network that leads nowhere.
func (w *walk) internal(n *cnm.Network, what string) *cause {
	c := because(Internal, "network %s is internal: nobody on it %s, and %s is on no other.", n.Name, what, w.a.Name).
		mend("linkspan network connect bridge %s", w.a.Name)
	// A default route of somebody's own keeps the other network's from being made.
	at := w.placeOf(w.a)
	routes, err := w.live.routes(at.ns)
	for _, r := range routes {
		if err == nil && !at.host() && r.Type == "unicast" && r.Dst.Bits() == 0 && r.Dst.Addr().Is4() {
			c.cure = at.cmd(routeCmd(r, "del")) + " && " + c.cure
		}
	}
	return c
}

// declareHost is said of a container that asks the host.
func (w *walk) declareHost(s *cnm.Sandbox, p packet) {
	if onlyNone(s) {
		w.declared = because(NoRoute, "%s is on no network (--network none): it has a loopback interface only.", w.a.Name).
			advise("run it again with a network: linkspan run --network bridge …")
		return
	}
	nets := w.networksOf(s)
	closed := true
	for _, n := range nets {
		closed = closed && (n.Internal || n.Driver == "null")
		for _, pool := range n.Pools {
			if pool.Gateway == p.dst && !isolated(n, p.dst.Is4()) {
				closed = false
			}
		}
	}
	if closed {
		n := nets[0]
		if isolated(n, p.dst.Is4()) {
			w.declared = because(Isolated, "network %s is isolated: the host has no address on it, and %s is on no other.", n.Name, w.a.Name).
				mend("linkspan network connect bridge %s", w.a.Name)
		} else {
			w.declared = w.internal(n, fmt.Sprintf("reaches %s", p.dst))
		}
		w.step(w.placeOf(w.a), Bad, "network", "%s %s", n.Name, reason(w.declared.code))
		return
	}
	w.declarePublished(p, false)
}

// declarePublished is said of who asks a port of the host's.
func (w *walk) declarePublished(p packet, outside bool) {
	if p.dport == 0 || !isHost(w.b) {
		return
	}
	all := w.publishedAt(p.proto, p.dport)
	for _, m := range all {
		if w.onlyInternal(m) != nil {
			continue
		}
		if w.declared = w.routedAt(m, p.dport); w.declared != nil {
			return
		}
		if m.on(p.dst) || p.dst.IsLoopback() && m.port.HostIP == localhost(p.dst.Is4()) {
			w.good(hostPlace, "published", "%s leads to port %d of %s", m, m.leads(p.dport), m.s.OwnerName)
			return
		}
	}
	for _, proto := range []string{"tcp", "udp", "sctp"} {
		for _, m := range w.publishedAt(proto, p.dport) {
			if len(all) == 0 && proto != p.proto && m.on(p.dst) {
				w.declared = because(PublishedElsewhere, "%s leads to %s, but port %d/%s is not published.", m, m.s.OwnerName, p.dport, p.proto).
					advise("ask by %s: %s:%d/%[1]s", proto, w.b.Text[:max(0, strings.LastIndexByte(w.b.Text, ':'))], p.dport)
				w.step(hostPlace, Aside, "published", "%s only", m)
				return
			}
		}
	}
	if len(all) > 0 {
		m := all[0]
		c := because(PublishedElsewhere, "%s leads to %s there only, and not on %s.", m, m.s.OwnerName, p.dst)
		if m.port.HostIP.IsLoopback() && (outside || w.a.Kind == diagnose.EndContainer) {
			c.advise("only the host itself reaches %s: start %s with -p %d:%d/%s, so that it is published on every address", m.port.HostIP, m.s.OwnerName, m.port.HostPort, m.port.Port, p.proto)
		} else {
			c.advise("ask %s instead", netip.AddrPortFrom(m.port.HostIP, p.dport))
		}
		w.declared = c
		w.step(hostPlace, Aside, "published", "%s only", m)
	}
}

// unpublished is said of a port that is closed to the outside.
func (w *walk) unpublished() *cause {
	c := because(Unpublished, "%s does not publish port %s, so that it is closed to the outside.", w.b.Name, portOf(w.b.Port, w.b.Proto))
	if w.b.Port == 0 {
		return because(Unpublished, "%s publishes no port, so that it is closed to the outside.", w.b.Name).
			advise("run it again with -p HOSTPORT:PORT")
	}
	c.advise("run %s again with -p %d:%[2]d/%s; a running container's ports cannot be changed", w.b.Name, w.b.Port, w.b.Proto)
	if len(w.b.Sandbox.Ports) > 0 {
		var all []string
		for _, p := range w.b.Sandbox.Ports {
			all = append(all, fmt.Sprintf("%s (as %s)", portOf(p.Port, p.Proto), mapping{w.b.Sandbox, p}))
		}
		c.sentence = strings.TrimSuffix(c.sentence, ".") + "; it publishes " + strings.Join(all, ", ") + "."
	}
	return c
}
