package why

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/diagnose"
)

// wrapped follows what a VXLAN device makes of a packet: a datagram of this host's own.
func (w *walk) wrapped(v dataplane.VXLAN, l *reading.Interface, x *diagnose.Elsewhere) bool {
	to := peerEnd(v, x)
	outer := packet{proto: "udp", src: v.Local, dst: to, sport: ephemeral, dport: v.UDPPort()}
	if !w.outer(outer, fmt.Sprintf("VXLAN to host %s", x.Peer.Name), func(link string) bool {
		if _, ok := w.objects["link "+link].(dataplane.WireGuard); !ok {
			return true
		}
		secure, err := w.live.link("", link)
		if err != nil || secure == nil {
			return true // routed there, so it is there
		}
		return w.encrypted(secure, x)
	}) {
		return false
	}
	return w.fits(v, l, to, x)
}

// outer follows a datagram of the host's own to where it leaves. It has its own
// connection, and what it meets is told under a heading.
func (w *walk) outer(p packet, what string, by func(link string) bool) bool {
	known, first, carries, reached := w.known, w.first, w.carries, w.reached
	w.known = freshKnown()
	defer func() { w.known, w.first, w.carries, w.reached = known, first, carries, reached }()
	w.first = p
	w.aside(hostPlace, "wrapped", "%s: %s", what, p)
	on, ok := w.leave(hostPlace, p)
	if !ok {
		return false
	}
	if on.local {
		return w.fail(hostPlace, "route to "+p.dst.String(), "it is its own", because(AddressConflict, "this host itself has %s, which is another host's address in the mesh.", p.dst).
			advise("give one of the two another address"))
	}
	l, err := w.live.link("", on.link)
	if err != nil || l == nil {
		w.missing(hostPlace, "interface "+on.link, fmt.Errorf("not found"))
		return true
	}
	if _, ok := w.objects["link "+l.Name].(dataplane.WireGuard); !ok && !w.uplinkSound(hostPlace, l, on) {
		return false
	}
	return by(l.Name)
}

// encrypted looks at the WireGuard device, its session with the other host, and the way
// of its datagrams.
func (w *walk) encrypted(l *reading.Interface, x *diagnose.Elsewhere) bool {
	look := "encrypted tunnel to " + x.Peer.Name
	t := w.world.Mesh.Tunnel(w.ctx, x.Peer.ID)
	switch {
	case t.Err != "":
		return w.fail(hostPlace, look, "none", because(NoTunnel, "this host has no encrypted tunnels: %s.", strings.TrimSuffix(t.Err, ".")).
			advise("`linkspan mesh status` says more"))
	case !l.Up:
		return w.fail(hostPlace, l.Name, "down", because(LinkDown, "the device of the encrypted tunnels, %s, is down.", l.Name).mend("ip link set %s up", l.Name))
	case !t.Key:
		return w.fail(hostPlace, look, "no key", because(NoTunnel, "host %s has published no key: it encrypts nothing.", x.Peer.Name).
			advise("look at host %[1]s: linkspan mesh status, there", x.Peer.Name))
	case !t.Known:
		return w.fail(hostPlace, look, "not a peer of "+l.Name, because(NoTunnel, "the device %s does not know host %s's key.", l.Name, x.Peer.Name).mend("linkspan reconcile"))
	case t.Up:
		w.good(hostPlace, look, "last handshake %s ago", time.Since(t.Handshake).Round(time.Second))
	case t.Handshake.IsZero():
		w.step(hostPlace, Open, look, "no handshake yet")
		w.doubts = append(w.doubts, fmt.Sprintf("there was no handshake with host %s yet: the first packet begins one", x.Peer.Name))
	default:
		w.step(hostPlace, Open, look, "last handshake %s ago", time.Since(t.Handshake).Round(time.Second))
		w.doubts = append(w.doubts, fmt.Sprintf("the last handshake with host %s was %s ago: its sessions are over, and the next packet begins one", x.Peer.Name, time.Since(t.Handshake).Round(time.Second)))
	}
	if !t.Endpoint.IsValid() {
		return true
	}
	var src netip.Addr
	if u := w.world.Mesh.Underlay(); u != nil && u.Addr.Is4() == t.Endpoint.Addr().Is4() {
		src = u.Addr
	}
	p := packet{proto: "udp", src: src, dst: t.Endpoint.Addr(), sport: t.Endpoint.Port(), dport: t.Endpoint.Port()}
	return w.outer(p, "WireGuard to host "+x.Peer.Name, func(string) bool { return true })
}

// around is what VXLAN adds to a packet: the outer IP header, UDP's, VXLAN's, and the inner
// Ethernet header (RFC 7348).
func around(to netip.Addr) int {
	if to.Is6() {
		return 70
	}
	return 50
}

// fits looks whether what a tunnel makes of its largest packets passes.
func (w *walk) fits(v dataplane.VXLAN, l *reading.Interface, to netip.Addr, x *diagnose.Elsewhere) bool {
	r, err := w.live.route("", routeTo(to))
	if err != nil || r.Link == "" || l.MTU == 0 {
		return true
	}
	out, err := w.live.link("", r.Link)
	if err != nil || out == nil {
		return true
	}
	room := out.MTU
	if r.MTU > 0 {
		room = min(room, r.MTU)
	}
	added := around(to)
	if l.MTU+added <= room {
		w.good(hostPlace, "packet size in the tunnel", "%d bytes, with %d around them, and %s takes %d", l.MTU, added, r.Link, room)
		return true
	}
	c := because(MTU, "packets of more than %d bytes are lost on the way to host %s: the tunnel %s takes up to %d, which become %d, and the way takes %d.",
		room-added, x.Peer.Name, v.Name, l.MTU, l.MTU+added, room)
	if u := w.world.Mesh.Underlay(); u != nil && r.Link == u.Dev && out.MTU < u.MTU {
		return w.fail(hostPlace, "packet size in the tunnel", fmt.Sprintf("%d bytes, and %s takes %d", l.MTU+added, r.Link, room), c.mend("ip link set %s mtu %d", u.Dev, u.MTU))
	}
	return w.fail(hostPlace, "packet size in the tunnel", fmt.Sprintf("%d bytes, and %s takes %d", l.MTU+added, r.Link, room),
		c.advise("`linkspan mesh check` finds what the way takes, and the networks follow"))
}
