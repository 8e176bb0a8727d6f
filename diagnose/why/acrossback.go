package why

import (
	"fmt"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/diagnose"
)

// backAcross follows the answer of a container on another host from where it comes into
// this one: first what it is wrapped in, through the rules of the host, then itself.
func (w *walk) backAcross(end arrival) bool {
	x := w.elsewhere(w.reached.dst)
	if x == nil {
		return true
	}
	if v, ok := w.declaredTunnel(device(x.Network)); ok {
		return w.unwrapped(v, x) && w.bridgedBack(v, x)
	}
	link := end.link
	switch v := w.objects["link "+link].(type) {
	case dataplane.VXLAN:
		if !w.unwrapped(v, x) {
			return false
		}
	case dataplane.WireGuard:
		if !w.decrypted(x) {
			return false
		}
	}
	p := w.reached
	ans := packet{src: p.dst, dst: p.src, sport: p.dport, dport: p.sport, proto: p.proto, answer: true}
	got, ok := w.follow(start{place: hostPlace, outside: true, link: link}, ans)
	if !ok {
		return false
	}
	if home := w.placeOf(w.a); got.outside || got.place.ns != home.ns {
		return w.fail(got.place, "answer", "it ends at "+w.stack(got.place), because(WrongRoute, "the answers of %s do not come back to %s: they end at %s.", w.b.Name, w.a.Name, w.stack(got.place)).
			advise("look at the way back: ip route get %s", ans.dst))
	}
	return true
}

// bridgedBack follows the answer from the tunnel over its bridge to A.
func (w *walk) bridgedBack(v dataplane.VXLAN, x *diagnose.Elsewhere) bool {
	r := w.reached
	s, e := w.world.Holder(r.src)
	if e == nil || e.NetworkID != x.Network.ID {
		return true
	}
	ans := packet{src: r.dst, dst: r.src, sport: r.dport, dport: r.sport, proto: r.proto, answer: true}
	h, ok := w.handed(x.Network, v.Master, v.Name, onward{p: ans, link: v.Master, next: ans.dst}, s, e, func(place, *reading.Interface) bool { return true })
	if !ok {
		return false
	}
	ans.in, ans.inPort = h.link, h.port
	_, ok = w.receive(h.place, ans)
	return ok
}

// unwrapped looks whether the host takes the tunnel's datagrams of the other host.
func (w *walk) unwrapped(v dataplane.VXLAN, x *diagnose.Elsewhere) bool {
	from := peerEnd(v, x)
	p := packet{proto: "udp", src: from, dst: v.Local, sport: ephemeral, dport: v.UDPPort(), in: w.wayTo(x, v)}
	if p.in == "" {
		return true
	}
	if _, secure := w.objects["link "+p.in].(dataplane.WireGuard); secure && !w.decrypted(x) {
		return false
	}
	return w.taken4(p, fmt.Sprintf("VXLAN from host %s", x.Peer.Name))
}

// decrypted looks whether the host takes WireGuard's datagrams of the other host.
func (w *walk) decrypted(x *diagnose.Elsewhere) bool {
	t := w.world.Mesh.Tunnel(w.ctx, x.Peer.ID)
	u := w.world.Mesh.Underlay()
	if !t.Endpoint.IsValid() || u == nil {
		return true
	}
	r, err := w.live.route("", routeTo(t.Endpoint.Addr()))
	if err != nil || r.Link == "" {
		return true
	}
	return w.taken4(packet{proto: "udp", src: t.Endpoint.Addr(), dst: u.Addr, sport: t.Endpoint.Port(), dport: t.Endpoint.Port(), in: r.Link}, "WireGuard from host "+x.Peer.Name)
}

// wayTo is the link by which a tunnel's datagrams come in.
func (w *walk) wayTo(x *diagnose.Elsewhere, v dataplane.VXLAN) string {
	r, err := w.live.route("", reading.RouteQuery{Dst: peerEnd(v, x)})
	if err != nil {
		return ""
	}
	return r.Link
}

// taken4 passes a datagram for the host itself through its rules.
func (w *walk) taken4(p packet, what string) bool {
	known, first, reached := w.known, w.first, w.reached
	w.known = freshKnown()
	defer func() { w.known, w.first, w.reached = known, first, reached }()
	w.aside(hostPlace, "wrapped", "%s: %s", what, p)
	on, ok := w.receive(hostPlace, p)
	if !ok {
		return false
	}
	if !on.local {
		return w.fail(hostPlace, "route to "+p.dst.String(), "not its own", because(AddressMissing, "the host does not have the address %s, by which the mesh knows it (any more).", p.dst).
			advise("give it back: ip addr add %s/PREFIX dev %s", p.dst, p.in))
	}
	return true
}

func pathWord(k cnm.PathKind) string {
	switch k {
	case cnm.PathDirect:
		return "a direct route"
	case cnm.PathVXLAN:
		return "through VXLAN"
	case cnm.PathWireGuard:
		return "encrypted by WireGuard"
	}
	return string(k)
}
