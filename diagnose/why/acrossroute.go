package why

import (
	"net/netip"

	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/diagnose"
)

// routeAcross is the declared route of this host that leads to an address on another.
func (w *walk) routeAcross(a netip.Addr) (best dataplane.Route, ok bool) {
	for _, o := range w.objects {
		r, is := o.(dataplane.Route)
		if !is || r.NS != "" || r.Unreachable || r.Link == "" || r.Dst.Addr().Is4() != a.Is4() || !r.Dst.Contains(a) {
			continue
		}
		if !ok || r.Dst.Bits() > best.Dst.Bits() {
			best, ok = r, true
		}
	}
	return best, ok
}

// misledAcross says that a stack sends what is for another host another way than declared.
func (w *walk) misledAcross(at place, p packet, r reading.RouteAnswer, x *diagnose.Elsewhere) *cause {
	if !at.host() {
		for i := range at.sandbox.Endpoints {
			own := &at.sandbox.Endpoints[i]
			if own.NetworkID != x.Network.ID || own.IfName == r.Link || !familyOf(own, p.dst.Is4()).IsValid() {
				continue
			}
			if c := w.endpointSound(at, own, p.dst.Is4()); c != nil {
				return c
			}
			return w.otherWay(at, p, r, own.IfName, "network "+own.NetworkName+", where "+x.Called()+" is")
		}
		return nil
	}
	want, ok := w.routeAcross(p.dst)
	if !ok || want.Link == r.Link {
		return nil
	}
	all, err := w.live.routes("")
	if err != nil {
		return nil
	}
	there := false
	var other *reading.Route
	for i, have := range all {
		there = there || have.Dst == want.Dst && have.Link == want.Link
		if have.Type == "unicast" && have.Link == r.Link && have.Dst.Contains(p.dst) && (other == nil || have.Dst.Bits() > other.Dst.Bits()) {
			other = &all[i]
		}
	}
	switch {
	case !there:
		return w.lostAcross(p, x)
	case other == nil || other.Dst.Bits() < want.Dst.Bits():
		return because(WrongRoute, "the host sends what goes to %s by %s, and not by %s, the way to host %s.", p.dst, r.Link, want.Link, x.Peer.Name).
			advise("look at its policy rules and routes: ip rule, ip route get %s", p.dst)
	}
	return because(WrongRoute, "the host's route %s takes what goes to %s away from %s, the way to host %s.", routeText(*other), p.dst, want.Link, x.Peer.Name).
		mend("%s", routeCmd(*other, "del"))
}

// lostAcross is said when the host's route to another host's addresses is gone.
func (w *walk) lostAcross(p packet, x *diagnose.Elsewhere) *cause {
	want, ok := w.routeAcross(p.dst)
	if !ok {
		return because(NoPath, "this host has no route to %s, which is %s's on host %s: %s.", p.dst, x.Called(), x.Peer.Name, x.Path.Reason).mend("linkspan reconcile")
	}
	if l, err := w.live.link("", want.Link); err == nil && l == nil {
		return because(LinkMissing, "the host's interface %s, which leads to host %s, is gone.", want.Link, x.Peer.Name).mend("linkspan reconcile")
	} else if err == nil && !l.Up {
		return because(LinkDown, "the host's interface %s, which leads to host %s, is down.", want.Link, x.Peer.Name).mend("ip link set %s up", want.Link)
	}
	return because(NoRoute, "the host's route to %s on host %s is gone: %s by %s.", x.Called(), x.Peer.Name, want.Dst, want.Link).mend("linkspan reconcile")
}
