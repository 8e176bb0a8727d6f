package why

import (
	"fmt"
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
