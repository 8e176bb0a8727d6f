package why

import (
	"net/netip"
	"slices"
	"strconv"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
	"linkspan/diagnose"
)

// Addresses that stand for all others: nobody has them (RFC 5737, RFC 3849).
var (
	somewhere4 = netip.MustParseAddr("203.0.113.1")
	somewhere6 = netip.MustParseAddr("2001:db8::1")
)

func localhost(v4 bool) netip.Addr {
	if v4 {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

var hostPlace = place{name: "host"}

func (w *walk) placeOf(e *diagnose.End) place {
	if e.Sandbox == nil || e.Sandbox.Host {
		return hostPlace
	}
	return place{ns: e.Sandbox.Path, name: e.Name, sandbox: e.Sandbox}
}

// start is where the packet is put on its way.
type start struct {
	place
	outside bool
	link    string // by which it comes in, from outside
}

// aim chooses addresses: what A would send to, and from where. What the definitions say
// of the pair goes into declared.
func (w *walk) aim() (start, packet, bool) {
	p := packet{proto: w.b.Proto, dport: w.b.Port, dst: w.b.Addr, sport: ephemeral}
	if p.proto == "" && p.dport != 0 {
		p.proto, w.b.Proto, w.ans.Proto = "tcp", "tcp", "tcp"
	}
	if p.dport == 0 {
		p.proto, p.sport = "icmp", 0
	}
	var ok bool
	switch {
	case w.a.Kind == diagnose.EndOutside:
		return w.aimOutside(p)
	case w.a.Kind == diagnose.EndContainer && !w.a.Sandbox.Host:
		p, ok = w.aimContainer(p)
	default:
		p, ok = w.aimHost(p)
	}
	return start{place: w.placeOf(w.a)}, p, ok
}

// isHost says that an end is the host's own network stack.
func isHost(e *diagnose.End) bool {
	return e.Kind == diagnose.EndHost || e.Kind == diagnose.EndContainer && e.Sandbox != nil && e.Sandbox.Host
}

// aimContainer is from a container.
func (w *walk) aimContainer(p packet) (packet, bool) {
	a := w.a.Sandbox
	switch {
	case p.dst.IsLoopback() && w.b.Kind == diagnose.EndHost:
		// In A, 127.0.0.1 is A.
		w.note("", "", "in %s, %s is %s itself, not the host", w.a.Name, p.dst, w.a.Name)
		w.b.Kind, w.b.Name, w.b.Sandbox, w.b.Container = diagnose.EndContainer, w.a.Name, a, w.a.Container
	case isHost(w.b):
		if !p.dst.IsValid() {
			p.dst = w.hostFor(a)
		}
		w.declareHost(a, p)
	case w.b.Kind == diagnose.EndElsewhere:
		return w.aimElsewhere(p)
	case w.b.Kind == diagnose.EndOutside:
		if !p.dst.IsValid() {
			p.dst = w.outsideAddr(hasFamily(a, true) || !hasFamily(a, false))
		}
		w.declareOut(a, p)
	case sameSandbox(w.b.Sandbox, a):
		if p.dst = localhost(true); w.b.Addr.IsValid() {
			p.dst = w.b.Addr
		}
		w.good(w.placeOf(w.a), "network", "%s is in the same sandbox", w.b.Name)
	default:
		return w.aimPair(p)
	}
	return p, true
}

// aimPair is from container to container: the network that they share, and its address.
func (w *walk) aimPair(p packet) (packet, bool) {
	a, b := w.a.Sandbox, w.b.Sandbox
	shared := w.shared(a, b, p)
	var best *pair
	for i := range shared {
		s := &shared[i]
		if p.dst.IsValid() && !has(s.b, p.dst) {
			continue
		}
		if best == nil || best.why != nil && s.why == nil {
			best = s
		}
	}
	from := w.placeOf(w.a)
	if best == nil {
		w.declared = w.noNetwork(a, b, p, shared)
		w.step(from, Bad, "network", "none in common with %s", w.b.Name)
		w.ans.Steps[len(w.ans.Steps)-1].Code = w.declared.code
		if !p.dst.IsValid() {
			p.dst = firstAddr(b)
		}
		if !p.dst.IsValid() || firstAddr(a) == (netip.Addr{}) || w.declared.code == NoAddressFamily {
			w.verdict(Blocked, w.declared)
			return p, false
		}
		return p, true
	}
	w.b.Endpoint = best.b
	if !p.dst.IsValid() {
		p.dst = best.dst
	}
	if !p.src.IsValid() && w.a.Addr.IsValid() && w.a.Addr.Is4() == p.dst.Is4() {
		p.src = w.a.Addr
	}
	if w.declared = best.why; best.why != nil {
		w.step(from, Bad, "network", "%s: %s", best.n.Name, reason(best.why.code))
		w.ans.Steps[len(w.ans.Steps)-1].Code = best.why.code
	} else {
		w.good(from, "network", "%s, with %s at %s", best.n.Name, w.b.Name, p.dst)
	}
	return p, true
}

// pair is one network that two sandboxes are on.
type pair struct {
	n    *cnm.Network
	a, b *cnm.Endpoint
	dst  netip.Addr
	why  *cause // the network does not let them
}

// shared are the networks that two sandboxes have in common, in A's order.
func (w *walk) shared(a, b *cnm.Sandbox, p packet) (all []pair) {
	for i := range a.Endpoints {
		for j := range b.Endpoints {
			ea, eb := &a.Endpoints[i], &b.Endpoints[j]
			n := w.world.NetworkByID(ea.NetworkID)
			if ea.NetworkID != eb.NetworkID || n == nil || n.Driver == "null" || n.Driver == "host" {
				continue
			}
			s := pair{n: n, a: ea, b: eb}
			for _, v4 := range []bool{true, false} {
				if !s.dst.IsValid() && familyOf(ea, v4).IsValid() {
					s.dst = familyOf(eb, v4)
				}
			}
			if !s.dst.IsValid() {
				continue
			}
			if !icc(n) && !w.hole(ea, b.Owner, p) {
				s.why = w.iccOff(n)
			}
			all = append(all, s)
		}
	}
	return all
}

func familyOf(e *cnm.Endpoint, v4 bool) netip.Addr {
	if v4 {
		return e.Addr4().Addr()
	}
	return e.Addr6().Addr()
}

func icc(n *cnm.Network) bool {
	v, said := n.Options["com.docker.network.bridge.enable_icc"]
	on, err := strconv.ParseBool(v)
	return !said || err != nil || on
}

// hole says that a link opens the port.
func (w *walk) hole(e *cnm.Endpoint, target string, p packet) bool {
	for _, l := range e.Links {
		if l.Target == target && slices.Contains(l.Ports, strconv.Itoa(int(p.dport))+"/"+p.proto) {
			return true
		}
	}
	return false
}

func has(e *cnm.Endpoint, a netip.Addr) bool {
	return slices.ContainsFunc(e.Addrs, func(p netip.Prefix) bool { return p.Addr() == a })
}

func hasFamily(s *cnm.Sandbox, v4 bool) bool {
	return slices.ContainsFunc(s.Endpoints, func(e cnm.Endpoint) bool { return familyOf(&e, v4).IsValid() })
}

func firstAddr(s *cnm.Sandbox) netip.Addr {
	for i := range s.Endpoints {
		for _, v4 := range []bool{true, false} {
			if a := familyOf(&s.Endpoints[i], v4); a.IsValid() {
				return a
			}
		}
	}
	return netip.Addr{}
}

// hostFor is the host as a sandbox's containers reach it: the bridge's address on the
// network of their default route, else of their first one, else the uplink's.
func (w *walk) hostFor(s *cnm.Sandbox) netip.Addr {
	var first netip.Addr
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		for _, g := range e.Gateways {
			if n := w.world.NetworkByID(e.NetworkID); n != nil {
				for _, pool := range n.Pools {
					if pool.Gateway.Is4() == g.Is4() && pool.Gateway.IsValid() {
						return pool.Gateway
					}
				}
			}
		}
		if n := w.world.NetworkByID(e.NetworkID); n != nil && len(n.Pools) > 0 && !first.IsValid() && !isolated(n, n.Pools[0].Subnet.Addr().Is4()) {
			first = n.Pools[0].Gateway
		}
	}
	if !first.IsValid() {
		_, first, _ = w.uplink(true)
	}
	return first
}

// uplink is the interface by which the host reaches others, its address there, and who
// else could have one: by the default route, or the first wire that is none of ours.
func (w *walk) uplink(v4 bool) (link string, own, other netip.Addr) {
	routes, err := w.live.routes("")
	if err != nil {
		w.missing(hostPlace, "routes", err)
	}
	somewhere := somewhere6
	if v4 {
		somewhere = somewhere4
	}
	links, err := w.live.links("")
	if err != nil {
		w.missing(hostPlace, "interfaces", err)
	}
	addrOn := func(l reading.Interface) netip.Prefix {
		for _, p := range l.Addrs {
			if a := p.Addr(); a.Is4() == v4 && !a.IsLinkLocalUnicast() {
				return p
			}
		}
		return netip.Prefix{}
	}
	for _, r := range routes {
		if r.Type == "unicast" && r.Dst.Bits() == 0 && r.Dst.Addr().Is4() == v4 && r.Link != "" {
			for _, l := range links {
				if l.Name == r.Link {
					return l.Name, addrOn(l).Addr(), somewhere
				}
			}
		}
	}
	for _, l := range links {
		p := addrOn(l)
		if l.Name == "lo" || !p.IsValid() || w.ours(l.Name) || p.IsSingleIP() {
			continue
		}
		a := p.Masked().Addr().Next()
		if a == p.Addr() {
			a = a.Next()
		}
		return l.Name, p.Addr(), a
	}
	return "", netip.Addr{}, somewhere
}

// ours says that a link of the host is one of Linkspan's.
func (w *walk) ours(link string) bool {
	_, made := w.objects["link "+link]
	return made || w.networkOf(link) != nil
}

// outsideAddr stands for the outside where no address was given.
func (w *walk) outsideAddr(v4 bool) netip.Addr {
	_, _, other := w.uplink(v4)
	return other
}
