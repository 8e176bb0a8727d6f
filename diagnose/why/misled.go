package why

import (
	"fmt"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
)

// misled says that a stack sends a container's address another way than to its network.
func (w *walk) misled(at place, p packet, r reading.RouteAnswer) *cause {
	s, e := w.world.Holder(p.dst)
	if x := w.elsewhere(p.dst); x != nil {
		return w.misledAcross(at, p, r, x)
	}
	if e == nil {
		if n := w.containing(p.dst); n != nil && at.host() && r.Link != device(n) && !n.Internal {
			return w.otherWay(at, p, r, device(n), "network "+n.Name)
		}
		return nil
	}
	if at.host() {
		n := w.world.NetworkByID(e.NetworkID)
		if n == nil || !bridged(n) || r.Link == device(n) {
			return nil
		}
		return w.otherWay(at, p, r, device(n), "network "+n.Name+", where "+s.OwnerName+" is")
	}
	for i := range at.sandbox.Endpoints {
		own := &at.sandbox.Endpoints[i]
		if own.NetworkID != e.NetworkID || own.IfName == r.Link && (!r.Gateway.IsValid() || w.behindGateway(own)) || !familyOf(own, p.dst.Is4()).IsValid() {
			continue
		}
		if c := w.endpointSound(at, own, p.dst.Is4()); c != nil {
			return c
		}
		return w.otherWay(at, p, r, own.IfName, "network "+own.NetworkName+", where "+s.OwnerName+" is")
	}
	return nil
}

// otherWay names the route that leads elsewhere.
func (w *walk) otherWay(at place, p packet, r reading.RouteAnswer, want, whose string) *cause {
	all, err := w.live.routes(at.ns)
	if err != nil {
		return nil
	}
	var best *reading.Route
	ownThere := false
	for i, x := range all {
		if x.Type != "unicast" || x.Dst.Addr().Is4() != p.dst.Is4() || !x.Dst.Contains(p.dst) {
			continue
		}
		if x.Link == want && !x.Gateway.IsValid() {
			ownThere = true
		}
		if x.Link == r.Link && (best == nil || x.Dst.Bits() > best.Dst.Bits()) && (r.Table == 0 || r.Table == x.Table || x.Table == 0) {
			best = &all[i]
		}
	}
	leads := r.Link
	if r.Gateway.IsValid() {
		leads = r.Gateway.String() + " on " + r.Link
	}
	if !ownThere {
		if at.host() {
			if n := w.containing(p.dst); n != nil {
				return w.hostLost(n, p)
			}
		}
		if c := w.lostSubnet(at, p); c != nil {
			return c
		}
	}
	c := because(WrongRoute, "%s sends what goes to %s to %s, and not to %s (%s).", w.stack(at), p.dst, leads, want, whose)
	if best == nil || best.Dst.Bits() == 0 {
		return c.advise("look at its policy rules and routes: %s, %s", at.cmd("ip rule"), at.cmd("ip route get "+p.dst.String()))
	}
	c.sentence = fmt.Sprintf("%s route %s takes what goes to %s away from %s (%s).", at.of(), routeText(*best), p.dst, want, whose)
	return c.mend("%s", at.cmd(routeCmd(*best, "del")))
}

// lostSubnet is the route of a sandbox's own subnet that is gone.
func (w *walk) lostSubnet(at place, p packet) *cause {
	if at.sandbox == nil {
		return nil
	}
	for i := range at.sandbox.Endpoints {
		e := &at.sandbox.Endpoints[i]
		for _, a := range e.Addrs {
			if a.Contains(p.dst) {
				return because(NoRoute, "%s route to its own subnet %s on %s is gone, so that %s is sought elsewhere.", at.of(), a.Masked(), e.IfName, p.dst).
					mend("%s", at.cmd(fmt.Sprintf("ip route replace %s dev %s src %s", a.Masked(), e.IfName, a.Addr())))
			}
		}
	}
	return nil
}

// hostLost is said when the host has no route to a network of ours.
func (w *walk) hostLost(n *cnm.Network, p packet) *cause {
	if c := w.bridgeSound(n, p.dst.Is4()); c != nil {
		return c
	}
	for _, pool := range n.Pools {
		if pool.Subnet.Contains(p.dst) {
			return because(NoRoute, "the host has no route to network %s: that of %s on %s is gone.", n.Name, pool.Subnet, device(n)).
				mend("ip route replace %s dev %s src %s", pool.Subnet, device(n), pool.Gateway)
		}
	}
	return because(NoRoute, "the host has no route to %s.", p.dst)
}
