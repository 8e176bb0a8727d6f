package why

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/diagnose"
)

// What follows is the way to containers on other hosts of the mesh, as far as this host
// goes: which path was chosen and why, whether the other host is there, whether each
// entry that leads there is in the kernel, and whether what wraps the packets gets out
// of the host and its answers in.

// elsewhere is the endpoint of another host that a walk goes to, or comes from; nil: none,
// or not this address.
func (w *walk) elsewhere(a netip.Addr) *diagnose.Elsewhere {
	for _, x := range w.there {
		if slices.ContainsFunc(x.Remote.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return &x
		}
	}
	return nil
}

// aimElsewhere chooses the network that A shares with B, and B's address there.
func (w *walk) aimElsewhere(p packet) (packet, bool) {
	x, dst := w.pairElsewhere(p.dst)
	if x == nil {
		return p, w.fail(w.placeOf(w.a), "network", "none in common", w.noNetworkThere(p))
	}
	p.dst, w.b.Elsewhere = dst, x
	w.good(w.placeOf(w.a), "network", "%s, with %s at %s", x.Network.Name, w.b.Name, dst)
	w.declared = w.iccAcross(x.Network)
	return p, w.toPeer(x)
}

// pairElsewhere finds the endpoint of B's that A can send to.
func (w *walk) pairElsewhere(asked netip.Addr) (*diagnose.Elsewhere, netip.Addr) {
	for i := range w.there {
		x := &w.there[i]
		for _, v4 := range []bool{true, false} {
			for _, a := range x.Remote.Addrs {
				if a.Addr().Is4() != v4 || asked.IsValid() && a.Addr() != asked {
					continue
				}
				if w.a.Sandbox == nil || w.a.Sandbox.Host { // the host itself
					return x, a.Addr()
				}
				for j := range w.a.Sandbox.Endpoints {
					if e := &w.a.Sandbox.Endpoints[j]; e.NetworkID == x.Network.ID && familyOf(e, v4).IsValid() {
						return x, a.Addr()
					}
				}
			}
		}
	}
	return nil, netip.Addr{}
}

func (w *walk) noNetworkThere(p packet) *cause {
	var names []string
	for _, x := range w.there {
		names = append(names, x.Network.Name)
		for _, e := range w.a.Sandbox.Endpoints {
			if e.NetworkID == x.Network.ID {
				return because(NoAddressFamily, "%s and %s (on host %s) are both on %s, and have no address family in common there.", w.a.Name, w.b.Name, x.Peer.Name, x.Network.Name).
					advise("make a network that has the family that is needed (--ipv6), and connect both")
			}
		}
	}
	return because(NoSharedNetwork, "%s (on %s) and %s (on %s, on host %s) are on no network in common.", w.a.Name, onNetworks(w.a.Sandbox), w.b.Name, orNone(names), w.there[0].Peer.Name).
		mend("linkspan network connect %s %s", names[0], w.a.Name)
}

// toPeer tells what is known of the other host, and which path leads there.
func (w *walk) toPeer(x *diagnose.Elsewhere) bool {
	at := place{name: "mesh"}
	host := fmt.Sprintf("%s (%s)", x.Peer.Name, x.Peer.Addr)
	if w.world.Mesh.Underlay() == nil {
		return w.fail(at, "this host", "forgotten", because(Forgotten, "this host was forgotten by the mesh, or has left it: it reaches no other host, and none reaches it.").
			advise("join again: linkspan mesh join HOST:2380 --token TOKEN (linkspan mesh token, on another host, makes one)"))
	}
	if away := w.world.Mesh.Away(); away != "" {
		w.aside(at, "store", "away: %s", away)
		w.note("", "", "what is known of other hosts is of before: %s", away)
	}
	switch {
	case x.Peer.Alive:
		w.good(at, "host "+host, "is heard of")
	default:
		w.step(at, Open, "host "+host, "is not heard of")
		w.ans.Steps[len(w.ans.Steps)-1].Code = PeerSilent
		w.silent = x
	}
	if x.Path.Kind == cnm.PathNone || x.Path.Kind == "" {
		return w.fail(at, "path", "none", because(NoPath, "network %s has no way to host %s: %s.", x.Network.Name, x.Peer.Name, strings.TrimSuffix(x.Path.Reason, ".")).
			advise("`linkspan mesh status` tells of all ways; `linkspan mesh check` tries them"))
	}
	w.good(at, "path", "%s by %s, packets of up to %d bytes: %s", x.Path.Kind, orNone(some(x.Path.Dev)), x.Path.MTU, x.Path.Reason)
	return true
}

// iccAcross is the cause when a network keeps its containers apart, wherever they are; nil:
// it does not. It counts where Linkspan's own rules drop the packet.
func (w *walk) iccAcross(n *cnm.Network) *cause {
	if icc(n) {
		return nil
	}
	return because(ICCOff, "network %s keeps its containers apart (icc=false), on this host and between hosts.", n.Name).
		advise("connect %s and %s to another network of the mesh, each on its host (linkspan network create -d overlay NAME)", w.a.Name, w.b.Name)
}

// namedThere says that a name is B's on a network that A is on too.
func (w *walk) namedThere(name string) bool {
	return slices.ContainsFunc(w.there, func(x diagnose.Elsewhere) bool {
		return slices.ContainsFunc(w.a.Sandbox.Endpoints, func(e cnm.Endpoint) bool { return e.NetworkID == x.Network.ID }) &&
			slices.ContainsFunc(x.Remote.Names, func(n string) bool { return strings.EqualFold(n, name) })
	})
}

func some(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
