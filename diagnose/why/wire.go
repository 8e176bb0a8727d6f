package why

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
)

// hop is where a wire leads.
type hop struct {
	place
	link    string // of the place, by which the packet comes in
	port    string // of the bridge that it passed
	outside bool
}

// wire follows a packet from a stack's link to the stack at the other end: through a
// veth pair and a bridge, or out of the host.
func (w *walk) wire(at place, on onward) (hop, bool) {
	l, err := w.live.link(at.ns, on.link)
	if err != nil {
		w.missing(at, "interfaces", err)
		return hop{outside: true}, true
	}
	if l == nil {
		return hop{}, w.fail(at, on.link, "gone", because(LinkMissing, "%s interface %s is gone.", at.of(), on.link).mend("linkspan reconcile"))
	}
	w.carry(at, l, true)
	if at.host() {
		if l.Kind == "bridge" && w.networkOf(l.Name) != nil {
			return w.switched(at, l.Name, "", on)
		}
		if h, ok := w.pairOf(l); ok { // wired by hand, without a bridge
			return h, true
		}
		if x := w.elsewhere(on.p.dst); x != nil {
			return w.leaves(at, l, on, x)
		}
		return hop{outside: true}, w.uplinkSound(at, l, on)
	}
	e := endpointAt(at.sandbox, on.link)
	if e == nil || l.Kind != "veth" {
		w.aside(at, on.link, "an interface that is not Linkspan's: what is behind it is not seen")
		return hop{outside: true}, true
	}
	port, ok := w.hostEnd(at, e, l)
	if !ok {
		return hop{}, false
	}
	w.carry(hostPlace, port, false)
	return w.switched(at, port.Master, port.Name, on)
}

// hostEnd is the host's end of an endpoint's wire, whole.
func (w *walk) hostEnd(at place, e *cnm.Endpoint, inside *reading.Interface) (*reading.Interface, bool) {
	n := w.world.NetworkByID(e.NetworkID)
	if c := w.bridgeSound(n, true); c != nil && c.code != AddressMissing {
		return nil, w.fail(hostPlace, "bridge "+device(n), string(c.code), c)
	}
	links, err := w.live.links("")
	if err != nil {
		w.missing(hostPlace, "interfaces", err)
		return &reading.Interface{Name: e.HostIf, Master: device(n)}, true
	}
	var port *reading.Interface
	for i := range links {
		if links[i].Name == e.HostIf || links[i].Index == inside.Peer && links[i].Peer == inside.Index {
			port = &links[i]
			if links[i].Name == e.HostIf {
				break
			}
		}
	}
	look := "wire of " + at.name
	switch br := device(n); {
	case port == nil:
		return nil, w.fail(hostPlace, look, e.HostIf+" is gone", because(LinkMissing, "the host's end %s of %s wire to network %s is gone.", e.HostIf, at.of(), n.Name).mend("linkspan reconcile"))
	case !port.Up:
		return nil, w.fail(hostPlace, look, port.Name+" is down", because(LinkDown, "the host's end %s of %s wire to network %s is down.", port.Name, at.of(), n.Name).mend("linkspan reconcile"))
	case !inside.Up:
		return nil, w.fail(at, inside.Name, "down", because(LinkDown, "%s interface %s is down.", at.of(), inside.Name).mend("%s", w.upAgain(at, e, true)))
	case port.Master != br:
		of := "no bridge's port"
		if port.Master != "" {
			of = "a port of " + port.Master
		}
		return nil, w.fail(hostPlace, look, port.Name+" is "+of, because(WrongMaster, "the host's end %s of %s wire is %s; it belongs to %s (network %s).", port.Name, at.of(), of, br, n.Name).mend("linkspan reconcile"))
	case port.Port != nil && port.Port.State != "" && port.Port.State != "forwarding":
		return nil, w.fail(hostPlace, look, port.Name+" is "+port.Port.State, because(PortBlocked, "the bridge %s does not forward by port %s (%s wire): it is %s.", br, port.Name, at.of(), port.Port.State).
			mend("bridge link set dev %s state 3", port.Name))
	}
	w.good(hostPlace, look, "%s, a port of %s, up", port.Name, port.Master)
	return port, true
}

// switched follows a packet through a bridge to whose address the next hop is. from is
// the port that it came in by; "" when the host sends.
func (w *walk) switched(at place, br, from string, on onward) (hop, bool) {
	n := w.networkOf(br)
	own, _ := w.live.holder("", on.next)
	if own != nil && own.Name == br {
		if from == "" {
			return hop{}, w.fail(at, "route", "a loop", because(WrongRoute, "the host sends %s to itself.", on.p.dst))
		}
		if !w.neighbour(at, on, hostPlace, own, br) || !w.bridgeRules(from, br, "input", &on.p) {
			return hop{}, false
		}
		return hop{place: hostPlace, link: br, port: from}, true
	}
	if x := w.elsewhere(on.next); x != nil && x.Network.ID == n.ID {
		return w.tunnelled(n, br, from, on, x)
	}
	s, e := w.world.Holder(on.next)
	if e == nil || e.NetworkID != n.ID {
		return w.unowned(at, n, br, on)
	}
	to := place{ns: s.Path, name: s.OwnerName, sandbox: s}
	inside, err := w.live.link(to.ns, e.IfName)
	if err != nil {
		w.missing(to, "interfaces", err)
		return hop{place: to, link: e.IfName}, true
	}
	if c := w.endpointSound(to, e, on.next.Is4()); c != nil {
		return hop{}, w.fail(to, e.IfName, "not whole", c)
	}
	if c := w.conflict(n, to, e, on.next, inside.MAC); c != nil {
		return hop{}, w.fail(to, "address "+on.next.String(), "somebody else has it too", c)
	}
	if c := w.refused(to, e, on.next, inside); c != nil {
		return hop{}, w.fail(to, "address "+on.next.String(), "refused as a duplicate", c)
	}
	port, ok := w.hostEnd(to, e, inside)
	if !ok {
		return hop{}, false
	}
	w.carry(hostPlace, port, false)
	w.carry(to, inside, false)
	if !w.neighbour(at, on, to, inside, br) || !w.forwarded(br, port.Name, inside.MAC, to) || !w.apart(br, from, port) {
		return hop{}, false
	}
	if from != "" && !w.bridgeNF(n, br, from, port.Name, &on.p) {
		return hop{}, false
	}
	hook := "forward"
	if from == "" {
		hook = "output"
	}
	on.p.outPort = port.Name
	if !w.bridgeRules(from, br, hook, &on.p) {
		return hop{}, false
	}
	return hop{place: to, link: e.IfName, port: port.Name}, true
}

// unowned is a next hop on a network of ours that nobody of ours has.
func (w *walk) unowned(at place, n *cnm.Network, br string, on onward) (hop, bool) {
	for _, p := range n.Pools {
		if p.Gateway == on.next && !n.Borrowed {
			if c := w.bridgeSound(n, on.next.Is4()); c != nil {
				return hop{}, w.fail(hostPlace, "bridge "+br, "not whole", c)
			}
		}
	}
	if n.Borrowed || !w.only(br) {
		w.aside(hostPlace, "bridge "+br, "%s is not Linkspan's: it is behind the bridge", on.next)
		return hop{outside: true}, true
	}
	look := "who has " + on.next.String()
	if on.next == on.p.dst {
		return hop{}, w.fail(hostPlace, look, "nobody", because(NoSuchName, "%s is in network %s's subnet, and no container has it.", on.next, n.Name).
			advise("`linkspan network inspect %s` lists who has which address", n.Name))
	}
	c := because(GatewayUnreachable, "%s sends what goes to %s to %s, which nobody on network %s has.", w.stack(at), on.p.dst, on.next, n.Name).
		advise("mend the route: %s", at.cmd("ip route"))
	if e := endpointAt(at.sandbox, on.link); e != nil && e.Gateway(on.next.Is4()).IsValid() {
		c.mend("%s", w.routeAgain(at, e, on.next.Is4()))
	}
	return hop{}, w.fail(hostPlace, look, "nobody", c)
}

// only says that a bridge has no other ports than ours.
func (w *walk) only(br string) bool {
	links, err := w.live.links("")
	if err != nil {
		return false
	}
	for _, l := range links {
		if l.Master == br && w.byHostIf(l.Name) == nil {
			return false
		}
	}
	return true
}

func (w *walk) byHostIf(name string) *cnm.Endpoint {
	for _, s := range w.world.Declared.Sandboxes() {
		for i := range s.Endpoints {
			if s.Endpoints[i].HostIf == name {
				return &s.Endpoints[i]
			}
		}
	}
	return nil
}

// pairOf is the sandbox at the other end of a veth of the host.
func (w *walk) pairOf(l *reading.Interface) (hop, bool) {
	if l.Kind != "veth" {
		return hop{}, false
	}
	for _, s := range w.world.Declared.Sandboxes() {
		for _, e := range s.Endpoints {
			if e.HostIf == l.Name {
				return hop{place: place{ns: s.Path, name: s.OwnerName, sandbox: s}, link: e.IfName}, true
			}
		}
	}
	return hop{}, false
}

// apart says that a bridge does not keep two of its ports from each other.
func (w *walk) apart(br, from string, to *reading.Interface) bool {
	if from == "" || to.Port == nil || !to.Port.Isolated {
		return true
	}
	f, err := w.live.link("", from)
	if err != nil || f == nil || f.Port == nil || !f.Port.Isolated {
		return true
	}
	c := w.declared
	if c == nil {
		c = because(PortBlocked, "the bridge %s keeps its ports %s and %s apart (isolated).", br, from, to.Name).mend("bridge link set dev %s isolated off", to.Name)
	}
	return w.fail(hostPlace, "bridge "+br, from+" and "+to.Name+" are isolated ports", c)
}

// uplinkSound looks at the wire out of the host.
func (w *walk) uplinkSound(at place, l *reading.Interface, on onward) bool {
	switch {
	case !l.Up:
		return w.fail(at, l.Name, "down", because(LinkDown, "the host's interface %s, by which %s is reached, is down.", l.Name, on.p.dst).mend("ip link set %s up", l.Name))
	case !l.Carrier:
		return w.fail(at, l.Name, "no carrier", because(LinkDown, "the host's interface %s, by which %s is reached, has no carrier: the other end is down or unplugged.", l.Name, on.p.dst).
			advise("look at the cable, or at the other end of the wire"))
	}
	all, err := w.live.neighbours("")
	if err != nil {
		w.missing(at, "neighbours", err)
		return true
	}
	for _, n := range all {
		if n.Link != l.Name || n.Addr != on.next {
			continue
		}
		switch n.State {
		case "incomplete":
			return w.fail(at, "neighbour "+on.next.String(), "asked, and no answer", because(GatewayUnreachable, "%s, by which %s is reached, does not answer on %s.", on.next, on.p.dst, l.Name).
				advise("look at the machine %s, or at the wire of %s", on.next, l.Name))
		case "failed":
			if n.Updated > 0 && n.Updated < fresh {
				return w.fail(at, "neighbour "+on.next.String(), "asked, and no answer", because(GatewayUnreachable, "%s, by which %s is reached, does not answer on %s.", on.next, on.p.dst, l.Name).
					advise("look at the machine %s, or at the wire of %s", on.next, l.Name))
			}
			w.step(at, Open, "neighbour "+on.next.String(), "it did not answer when it was last asked")
			w.ans.Steps[len(w.ans.Steps)-1].Code = GatewayUnreachable
			w.ans.Missing = append(w.ans.Missing, fmt.Sprintf("%s on %s did not answer when it was last asked for its hardware address; --probe asks it again", on.next, l.Name))
			return true
		}
	}
	w.good(at, "wire", "it leaves by %s", l.Name)
	if w.elsewhere(on.p.dst) != nil {
		return true // between hosts of the mesh addresses are kept
	}
	return w.unmasked(at, l, on)
}

// fresh is how young the failure of a neighbour is that still counts: it is not asked
// again by itself, and may have come back since.
const fresh = 10 * time.Second

// most sandboxes of a network that are looked into for a doubled address.
const most = 64

// conflict finds somebody else on a network who has an address, or its hardware address.
func (w *walk) conflict(n *cnm.Network, to place, e *cnm.Endpoint, a netip.Addr, mac string) *cause {
	var others []place
	for _, s := range w.world.Declared.Sandboxes() {
		if s.ID != to.sandbox.ID && !s.Host && slices.ContainsFunc(s.Endpoints, func(o cnm.Endpoint) bool { return o.NetworkID == n.ID }) {
			others = append(others, place{ns: s.Path, name: s.OwnerName, sandbox: s})
		}
	}
	if len(others) > most {
		others = others[:most]
	}
	var wg sync.WaitGroup
	for _, o := range others {
		wg.Go(func() { w.live.links(o.ns) })
	}
	wg.Wait()
	for _, o := range others {
		links, err := w.live.links(o.ns)
		if err != nil {
			continue
		}
		for _, l := range links {
			on := endpointAt(o.sandbox, l.Name)
			if on == nil || on.NetworkID != n.ID {
				continue
			}
			for _, p := range l.Addrs {
				if p.Addr() == a {
					return because(AddressConflict, "%s and %s both have %s on network %s: whoever answers first gets the packets.", to.name, o.name, a, n.Name).
						mend("%s", o.cmd("ip addr del "+p.String()+" dev "+l.Name)+" && ip neigh flush dev "+device(n)+flushIn(w, a)+w.takeAgain(to, e, a))
				}
			}
			if l.MAC == mac && mac != "" {
				return because(AddressConflict, "%s and %s have the same hardware address %s on network %s, so that the bridge sends to one of them only.", to.name, o.name, mac, n.Name).
					mend("%s", o.cmd("ip link set "+l.Name+" address "+on.MAC))
			}
		}
	}
	return nil
}

// refused is the cause when IPv6 found that somebody else had the address first (RFC
// 4862): it is there, and not used.
func (w *walk) refused(to place, e *cnm.Endpoint, a netip.Addr, inside *reading.Interface) *cause {
	if !slices.Contains(inside.Tentative, a) {
		return nil
	}
	return because(AddressConflict, "%s address %s on %s is not used: when it came up, somebody else had it (duplicate address detection).", to.of(), a, inside.Name).
		mend("%s", strings.TrimPrefix(w.takeAgain(to, e, a), " && "))
}

// takeAgain makes a refused address anew.
func (w *walk) takeAgain(to place, e *cnm.Endpoint, a netip.Addr) string {
	l, err := w.live.link(to.ns, e.IfName)
	if err != nil || l == nil || !slices.Contains(l.Tentative, a) {
		return ""
	}
	cure := ""
	for _, p := range e.Addrs {
		if p.Addr() == a {
			cure = " && " + to.cmd("ip addr del "+p.String()+" dev "+e.IfName) + " && " + to.cmd("ip addr add "+p.String()+" dev "+e.IfName+" nodad")
			if again := w.routeAgain(to, e, false); again != "" {
				cure += " && " + again
			}
		}
	}
	return cure
}

// flushIn makes A forget who it took for the address.
func flushIn(w *walk, a netip.Addr) string {
	if w.a.Sandbox == nil || w.a.Sandbox.Host || sameSandbox(w.a.Sandbox, w.b.Sandbox) {
		return ""
	}
	return " && " + w.placeOf(w.a).cmd("ip neigh flush to "+a.String())
}
