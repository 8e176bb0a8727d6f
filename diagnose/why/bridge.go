package why

import (
	"linkspan/cnm"
	"linkspan/dataplane/reading"
)

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
	return w.handed(n, br, from, on, s, e, func(to place, inside *reading.Interface) bool { return w.neighbour(at, on, to, inside, br) })
}

// handed follows a packet from a bridge to the sandbox that has the next hop's address.
// known looks whether who sends it knows the hardware address there.
func (w *walk) handed(n *cnm.Network, br, from string, on onward, s *cnm.Sandbox, e *cnm.Endpoint, known func(to place, inside *reading.Interface) bool) (hop, bool) {
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
	if !known(to, inside) || !w.forwarded(br, port.Name, inside.MAC, to) || !w.apart(br, from, port) {
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
