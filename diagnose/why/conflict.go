package why

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
)

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
