package why

import (
	"fmt"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/diagnose"
)

// fitsHere looks whether the largest packets that A sends from another host pass what is of
// their way here: the wire that they come in by, and the interfaces to B.
func (w *walk) fitsHere(v *dataplane.VXLAN, q Half, x *diagnose.Elsewhere) bool {
	if q.Most == 0 || len(w.carries) < 2 {
		return true
	}
	most, last := q.Most, w.carries[len(w.carries)-1]
	if q.Proto != "udp" && !last.routed {
		most = min(most, last.mtu) // TCP's two ends tell each other (MSS)
	}
	if !w.wireTakes(v, most, q, x) {
		return false
	}
	for _, c := range w.carries[1:] {
		if c.mtu >= most {
			continue
		}
		if c.routed {
			w.aside(c.place, "packet size", "%s carries %d bytes; the host tells who sends more", c.link, c.mtu)
			most = c.mtu
			continue
		}
		why := because(MTU, "packets of more than %d bytes are lost: %s interface %s carries no more, %s sends up to %d, and nobody tells it.", c.mtu, c.of(), c.link, w.a.Name, most)
		o, declared := w.objects["link "+c.link].(dataplane.Veth)
		switch {
		case declared && c.host() && o.MTU != c.mtu && (o.MTU != 0 || c.mtu != 1500):
			why.mend("linkspan reconcile")
		case declared && c.host():
			why.advise("the hosts do not agree how large packets of the network may be: `linkspan mesh check` finds what the way takes, and the networks follow")
		default:
			why.mend("%s", c.cmd(fmt.Sprintf("ip link set %s mtu %d", c.link, most)))
		}
		return w.fail(c.place, "packet size", fmt.Sprintf("%s carries %d bytes", c.link, c.mtu), why)
	}
	w.good(last.place, "packet size", "%d bytes to %s", most, last.link)
	return true
}

// wireTakes looks whether the wire takes packets of that size, with what is around them. Of
// those that are too large a device says nothing to who has sent them.
func (w *walk) wireTakes(v *dataplane.VXLAN, most int, q Half, x *diagnose.Elsewhere) bool {
	r, err := w.live.route("", routeTo(x.Peer.Addr))
	if err != nil || r.Link == "" || x.Path.Kind != q.Path || q.Path == cnm.PathWireGuard {
		return true // what WireGuard sends is taken apart and put together where it must
	}
	dev, err := w.live.link("", r.Link)
	if err != nil || dev == nil || dev.MTU == 0 {
		return true
	}
	size := most
	if v != nil {
		size += around(x.Peer.Addr)
	}
	if size <= dev.MTU {
		return true
	}
	return w.fail(hostPlace, "packet size", fmt.Sprintf("%d bytes come in by %s, which takes %d", size, dev.Name, dev.MTU),
		because(MTU, "packets of more than %d bytes from host %s are lost: they arrive as %d bytes, and %s takes %d.", most-(size-dev.MTU), x.Peer.Name, size, dev.Name, dev.MTU).
			mend("ip link set %s mtu %d", dev.Name, size))
}
