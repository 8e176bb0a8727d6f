package why

import (
	"fmt"
	"net/netip"

	"linkspan/cnm"
	"linkspan/diagnose"
)

// aimHost is from the host's own programs.
func (w *walk) aimHost(p packet) (packet, bool) {
	p.src = w.a.Addr
	switch {
	case w.b.Kind == diagnose.EndElsewhere:
		return w.aimElsewhere(p)
	case p.dst.IsValid():
	case isHost(w.b):
		p.dst = localhost(true)
		if m := w.publishedAt(p.proto, p.dport); len(m) > 0 && m[0].port.HostIP.IsValid() && !m[0].port.HostIP.IsUnspecified() {
			p.dst = m[0].port.HostIP
		}
		if p.src.IsLoopback() {
			p.src = netip.Addr{}
		}
	case w.b.Kind == diagnose.EndOutside:
		p.dst = w.outsideAddr(true)
	default:
		p.dst = firstAddr(w.b.Sandbox)
	}
	if !p.dst.IsValid() {
		c := because(NoAddressFamily, "%s has no address: it is on no network that gives one.", w.b.Name)
		w.verdict(Blocked, c.mend("linkspan network connect bridge %s", w.b.Name))
		return p, false
	}
	if p.src.IsValid() && p.src.Is4() != p.dst.Is4() {
		p.src = netip.Addr{}
	}
	w.b.Endpoint = endpointOf(w.b.Sandbox, p.dst)
	if e := w.b.Endpoint; e != nil {
		if n := w.world.NetworkByID(e.NetworkID); n != nil && isolated(n, p.dst.Is4()) {
			w.declared = because(Isolated, "network %s is isolated: the host has no address on it, and reaches nobody there.", n.Name).
				mend("linkspan network connect bridge %s", w.b.Name)
			w.step(hostPlace, Bad, "network", "%s %s", n.Name, reason(Isolated))
		}
	}
	w.declarePublished(p, false)
	return p, true
}

func endpointOf(s *cnm.Sandbox, a netip.Addr) *cnm.Endpoint {
	if s == nil {
		return nil
	}
	for i := range s.Endpoints {
		if has(&s.Endpoints[i], a) {
			return &s.Endpoints[i]
		}
	}
	return nil
}

// mapping is one published port, with whose it is.
type mapping struct {
	s    *cnm.Sandbox
	port cnm.PublishedPort
}

// leads is the container's port that a host port leads to.
func (m mapping) leads(hostPort uint16) uint16 { return m.port.Port + hostPort - m.port.HostPort }

// on says whether the mapping holds for a host's address.
func (m mapping) on(a netip.Addr) bool {
	return !m.port.HostIP.IsValid() || m.port.HostIP == a || m.port.HostIP.IsUnspecified() && m.port.HostIP.Is4() == a.Is4()
}

func (m mapping) String() string {
	host := "every address"
	if m.port.HostIP.IsValid() && !m.port.HostIP.IsUnspecified() {
		host = m.port.HostIP.String()
	}
	number := fmt.Sprint(m.port.HostPort)
	if m.port.Count() > 1 {
		number += fmt.Sprintf("-%d", m.port.HostPortEnd)
	}
	return fmt.Sprintf("port %s/%s on %s", number, m.port.Proto, host)
}

// publishedAt are the mappings of a host port.
func (w *walk) publishedAt(proto string, port uint16) (all []mapping) {
	for _, s := range w.world.Declared.Sandboxes() {
		for _, p := range s.Ports {
			if !s.Host && p.Proto == proto && port >= p.HostPort && port <= p.HostPortEnd {
				all = append(all, mapping{s, p})
			}
		}
	}
	return all
}

// publishedOf are the mappings that lead to a container's port; 0: to any.
func publishedOf(s *cnm.Sandbox, proto string, port uint16) (all []mapping) {
	for _, p := range s.Ports {
		if port == 0 || p.Proto == proto && port >= p.Port && int(port) < int(p.Port)+p.Count() {
			all = append(all, mapping{s, p})
		}
	}
	return all
}

// aimOutside is from another machine: it reaches containers by the host's ports.
func (w *walk) aimOutside(p packet) (start, packet, bool) {
	v4 := true
	for _, a := range []netip.Addr{w.a.Addr, w.b.Addr} {
		if a.IsValid() {
			v4 = a.Is4()
		}
	}
	link, own, other := w.uplink(v4)
	from := start{place: hostPlace, outside: true, link: link}
	p.src = w.a.Addr
	if !p.src.IsValid() {
		p.src = other
	} else if r, err := w.live.route("", routeTo(p.src)); err == nil && r.Link != "" {
		from.link = r.Link
		if r.Src.IsValid() {
			own = r.Src
		}
	}
	if from.link == "" {
		w.verdict(Blocked, because(NoRoute, "the host has no interface to the outside: nobody reaches it from there.").
			advise("give the host an address and a route (ip addr add …, ip route add default via …)"))
		return from, p, false
	}
	switch {
	case p.dst.IsValid() && isHost(w.b) && !p.dst.IsLoopback():
		if l, err := w.live.holder("", p.dst); err == nil && l == nil {
			w.verdict(Blocked, because(AddressMissing, "the host does not have the address %s (any more).", p.dst).
				advise("give it back: ip addr add %s/PREFIX dev %s", p.dst, from.link))
			w.step(hostPlace, Bad, "address "+p.dst.String(), "no interface has it")
			return from, p, false
		}
	case p.dst.IsValid() && w.b.Kind != diagnose.EndOutside:
	case isHost(w.b) && !p.dst.IsValid():
		p.dst = own
	case w.b.Kind == diagnose.EndOutside:
		w.verdict(Unsure, because(Unknown, "both ends are outside: that way does not pass this host."))
		return from, p, false
	default:
		return w.aimPublished(from, p, own)
	}
	w.b.Endpoint = endpointOf(w.b.Sandbox, p.dst)
	if w.b.Endpoint != nil {
		w.declared = w.unpublished() // its own address is closed, unless the network is routed
	}
	w.declarePublished(p, true)
	return from, p, true
}

// aimPublished is from outside to a container: by the host's port that leads to the
// asked one.
func (w *walk) aimPublished(from start, p packet, own netip.Addr) (start, packet, bool) {
	b := w.b.Sandbox
	all, byHost := publishedOf(b, p.proto, p.dport), false
	switch {
	case len(all) > 0 && p.dport == 0: // "why outside web": by what it publishes
		m := all[0]
		p.proto, p.dport, p.sport = m.port.Proto, m.port.Port, ephemeral
		w.b.Proto, w.b.Port, w.ans.Proto, w.ans.Port = p.proto, p.dport, p.proto, p.dport
		all = publishedOf(b, p.proto, p.dport)
	case len(all) == 0: // the host's number was meant
		for _, m := range w.publishedAt(p.proto, p.dport) {
			if sameSandbox(m.s, b) {
				all, byHost = append(all, m), true
				w.note("", "", "%d/%s is the host's port; in %s it is %d", p.dport, p.proto, w.b.Name, m.leads(p.dport))
			}
		}
	}
	at := place{name: w.b.Name}
	for _, m := range all {
		if m.port.HostIP.IsLoopback() {
			continue
		}
		if own := firstFamilyOf(b, p.src.Is4()); w.routedOnly(b) && own.IsValid() && !byHost {
			p.dst = own
			w.good(at, "published", "at its own address %s (gateway mode routed)", own)
			return from, p, true
		}
		if m.port.HostIP.IsValid() && !m.port.HostIP.IsUnspecified() {
			if p.src.Is4() != m.port.HostIP.Is4() {
				continue
			}
			own = m.port.HostIP
		}
		if !own.IsValid() {
			continue
		}
		if p.dst = own; !byHost {
			p.dport = m.port.HostPort + (p.dport - m.port.Port)
		}
		w.good(at, "published", "at %s port %d/%s", own, p.dport, p.proto)
		return from, p, true
	}
	if len(all) > 0 && w.onlyInternal(all[0]) != nil {
		w.verdict(Blocked, w.onlyInternal(all[0]))
		return from, p, false
	}
	if len(all) > 0 {
		m := all[0]
		w.step(at, Bad, "published", "%s only", m)
		w.declared = because(PublishedElsewhere, "%s's port %s is published as %s only, which is not reached from outside.", w.b.Name, portOf(w.b.Port, w.b.Proto), m).
			advise("start %s with -p %d:%d/%s, so that it is published on every address", w.b.Name, m.port.HostPort, m.port.Port, m.port.Proto)
		w.verdict(Blocked, w.declared)
		return from, p, false
	}
	w.declared = w.unpublished()
	for _, n := range w.networksOf(b) {
		if reachable := firstFamily(b, n.ID, p.src.Is4()); reachable.IsValid() {
			p.dst = reachable // by its own address: closed, unless the network is routed
			w.step(at, Aside, "published", "%s is not", portOf(w.b.Port, w.b.Proto))
			return from, p, true
		}
	}
	w.step(at, Bad, "published", "%s is not", portOf(w.b.Port, w.b.Proto))
	w.verdict(Blocked, w.declared)
	return from, p, false
}

func (w *walk) networksOf(s *cnm.Sandbox) (all []*cnm.Network) {
	for _, e := range s.Endpoints {
		if n := w.world.NetworkByID(e.NetworkID); n != nil {
			all = append(all, n)
		}
	}
	return all
}

func firstFamilyOf(s *cnm.Sandbox, v4 bool) netip.Addr {
	for i := range s.Endpoints {
		if a := familyOf(&s.Endpoints[i], v4); a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}

func firstFamily(s *cnm.Sandbox, network string, v4 bool) netip.Addr {
	for i := range s.Endpoints {
		if e := &s.Endpoints[i]; e.NetworkID == network {
			return familyOf(e, v4)
		}
	}
	return netip.Addr{}
}
