package why

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/diagnose"
)

// theirs is the half of another host's question that this host sees: a packet comes from
// there, and its answer goes back. It begins with what the packet is wrapped in, at this
// host's rules, and ends where the answer leaves.
func theirs(ctx context.Context, world *diagnose.World, peer cnm.Peer, q Half, o Options) (*Answer, error) {
	start := time.Now()
	if !q.Src.IsValid() || !q.Dst.IsValid() || q.Src.Is4() != q.Dst.Is4() || !slices.Contains([]string{"tcp", "udp", "sctp", "icmp"}, q.Proto) ||
		len(q.From)+len(q.To)+len(q.ToContainer) > 3*longest {
		return nil, cnm.Invalid("the packet makes no sense")
	}
	w := newWalk(ctx, world, o)
	w.ans.Question = "why " + q.From + " " + q.To
	w.a = &diagnose.End{Kind: diagnose.EndElsewhere, Text: q.From, Name: q.From, Addr: q.Src}
	w.b = &diagnose.End{Kind: diagnose.EndContainer, Text: q.To, Name: q.To, Addr: q.Dst, Port: q.Port, Proto: q.Proto}
	if err := w.inventory(); err != nil {
		return nil, err
	}
	if n := w.world.NetworkByID(q.Network); n == nil {
		w.fail(place{name: "mesh"}, "network", "not known", because(NoPath, "the network is not known here, or not yet.").advise("`linkspan mesh status` tells whether this host hears the mesh"))
	} else if w.taker(n, q) && w.sender(n, peer, q) {
		w.halfway(n, q)
	}
	w.ans.From, w.ans.To, w.ans.Port, w.ans.Proto, w.ans.Src, w.ans.Dst = *w.a, *w.b, q.Port, q.Proto, q.Src, q.Dst
	w.finish()
	w.sign()
	w.ans.TookMS = float64(time.Since(start).Microseconds()) / 1000
	return w.ans, nil
}

// taker finds who is to get the packet.
func (w *walk) taker(n *cnm.Network, q Half) bool {
	s, e := w.world.Holder(q.Dst)
	if s != nil && e.NetworkID == n.ID && (q.ToContainer == "" || slices.Contains(s.Members, q.ToContainer)) {
		w.b.Sandbox, w.b.Endpoint, w.b.Name = s, e, s.OwnerName
		if c, err := w.world.Container(s.Owner); err == nil {
			w.b.Container, w.b.Name = &c, c.Name
		}
		return w.alive()
	}
	at := place{name: q.To}
	c, err := w.world.Container(q.ToContainer)
	if q.ToContainer == "" || err != nil {
		return w.fail(at, "container", "gone", because(NoSuchName, "%s is no more, and nobody has %s on network %s.", q.To, q.Dst, n.Name).
			advise("`linkspan ps -a` lists all containers; other hosts forget it within a second"))
	}
	w.b.Container, w.b.Name = &c, c.Name
	if w.b.Sandbox, _ = w.world.Sandbox(c.ID); !w.alive() {
		return false
	}
	for _, e := range w.b.Sandbox.Endpoints {
		if e.NetworkID == n.ID {
			return w.fail(at, "address", "another one", because(TunnelEntry, "%s has %s on network %s, and the other host takes it to have %s.", c.Name, firstOf(e.Addrs), n.Name, q.Dst).
				advise("`linkspan mesh status` tells whether the hosts hear each other"))
		}
	}
	return w.fail(at, "network", "not on "+n.Name, because(NoSharedNetwork, "%s is not on network %s (any more): it is on %s.", c.Name, n.Name, onNetworks(w.b.Sandbox)).
		mend("linkspan network connect %s %s", n.Name, c.Name))
}

func firstOf(all []netip.Prefix) string {
	if len(all) == 0 {
		return "no address"
	}
	return all[0].Addr().String()
}

// sender finds who sends the packet, as this host knows it: the answer goes by that.
func (w *walk) sender(n *cnm.Network, peer cnm.Peer, q Half) bool {
	at := place{name: "mesh"}
	if w.world.Mesh.Underlay() == nil {
		return w.fail(at, "this host", "forgotten", because(Forgotten, "this host was forgotten by the mesh, or has left it.").advise("join again: linkspan mesh join"))
	}
	x := w.world.ElsewhereAt(q.Src)
	switch {
	case x == nil && q.Container == "": // the other host itself
		x = &diagnose.Elsewhere{Network: n, Peer: peer, Path: cnm.Path{Kind: cnm.PathDirect},
			Remote: cnm.Remote{Host: peer.ID, ContainerName: q.From, Addrs: []netip.Prefix{netip.PrefixFrom(q.Src, q.Src.BitLen())}}}
	case x == nil:
		return w.fail(at, q.From, "not heard of", because(TunnelEntry, "this host has not heard of %s at %s on network %s, so that no answer leads there.", q.From, q.Src, n.Name).
			advise("`linkspan mesh status` tells whether this host hears the mesh; what is new is heard within a second"))
	case x.Peer.ID != peer.ID:
		return w.fail(at, q.From, "on host "+x.Peer.Name, because(AddressConflict, "%s is taken to be on host %s, and host %s sends from it.", q.Src, x.Peer.Name, peer.Name).
			advise("`linkspan mesh status`, on all three hosts, tells which of them is cut off"))
	}
	w.there, w.a.Elsewhere, w.declared = []diagnose.Elsewhere{*x}, x, w.iccAcross(n)
	if x.Path.Kind == cnm.PathNone || x.Path.Kind == "" {
		return w.fail(at, "path", "none", because(NoPath, "network %s has no way back to host %s: %s.", n.Name, peer.Name, strings.TrimSuffix(x.Path.Reason, ".")).
			advise("`linkspan mesh status` tells of all ways; `linkspan mesh check` tries them"))
	}
	if q.Path != x.Path.Kind {
		w.note("", "", "packets come from host %s %s, and the answers go %s (%s)", peer.Name, pathWord(q.Path), pathWord(x.Path.Kind), x.Path.Reason)
	}
	return true
}

// halfway follows the packet from the wire to B, and the answer back to the wire.
func (w *walk) halfway(n *cnm.Network, q Half) {
	w.live.warm(w.namespaces()...)
	x := w.a.Elsewhere
	p := packet{proto: q.Proto, src: q.Src, dst: q.Dst, dport: q.Port, sport: ephemeral}
	if q.Proto == "icmp" {
		p.sport, p.dport = 0, 0
	}
	w.part, w.first = There, p
	if q.Most > 0 {
		w.carries = []carrier{{place: place{name: q.From}, mtu: q.Most, sender: true}}
	}
	end, v, ok := w.comesIn(n, p, q, x)
	if !ok || !w.arrived(end) || !w.fitsHere(v, q, x) {
		return
	}
	w.part = Back
	ans := packet{src: w.reached.dst, dst: w.reached.src, sport: w.reached.dport, dport: w.reached.sport, proto: p.proto, answer: true}
	got, ok := w.follow(start{place: end.place}, ans)
	if ok && got.outside {
		w.tryWire(w.ctx, x, w.carries[len(w.carries)-1].mtu)()
	} else if ok {
		w.fail(got.place, "answer", "it ends at "+w.stack(got.place), because(WrongRoute, "the answers of %s to %s do not leave the host: they end at %s.", w.b.Name, w.a.Name, w.stack(got.place)).
			advise("look at the way back: %s", end.place.cmd("ip route get "+ans.dst.String())))
	}
}

// comesIn follows the packet from the wire: through the tunnel that it is wrapped in, if it
// is, to the bridge that the tunnel is a port of, or by the host's routes. What it returns
// besides is the tunnel.
func (w *walk) comesIn(n *cnm.Network, p packet, q Half, x *diagnose.Elsewhere) (end arrival, v *dataplane.VXLAN, ok bool) {
	br := device(n)
	if t, bridged := w.declaredTunnel(br); bridged {
		l, ok := w.tunnelSound(t)
		if !ok || !w.portOf(t, l, n, br) || !w.unwrapped(t, x) {
			return end, &t, false
		}
		w.good(hostPlace, t.Name, "VNI %d, a port of %s, up", t.VNI, br)
		on := onward{p: p, link: br, next: p.dst}
		h, ok := w.handed(n, br, t.Name, on, w.b.Sandbox, w.b.Endpoint, func(to place, inside *reading.Interface) bool { return w.knownAs(to, inside, q.MAC, n) })
		if !ok {
			return end, &t, false
		}
		p.in, p.inPort = h.link, h.port
		into, ok := w.receive(h.place, p)
		end, ok = w.onwards(h.place, into, ok)
		return end, &t, ok
	}
	link := ""
	switch q.Path {
	case cnm.PathVXLAN:
		for _, o := range w.objects {
			if t, is := o.(dataplane.VXLAN); is && t.Master == "" {
				v, link = &t, t.Name
			}
		}
		if v == nil {
			return end, nil, w.fail(hostPlace, "tunnel of routed networks", "none", because(NoPath, "this host has no tunnel for routed networks, and host %s sends through one.", x.Peer.Name).mend("linkspan reconcile"))
		}
		if _, ok := w.tunnelSound(*v); !ok || !w.unwrapped(*v, x) {
			return end, v, false
		}
	case cnm.PathWireGuard:
		for _, o := range w.objects {
			if t, is := o.(dataplane.WireGuard); is {
				link = t.Name
			}
		}
		if link == "" {
			return end, nil, w.fail(hostPlace, "encrypted tunnel to "+x.Peer.Name, "none", because(NoTunnel, "this host has no encrypted tunnels, and host %s sends through one.", x.Peer.Name).
				advise("`linkspan mesh status` says more"))
		}
		if !w.decrypted(x) {
			return end, nil, false
		}
	default:
		if r, err := w.live.route("", routeTo(x.Peer.Addr)); err == nil {
			link = r.Link
		}
	}
	if link == "" {
		w.missing(hostPlace, "the wire to host "+x.Peer.Name, fmt.Errorf("not found"))
		return end, v, false
	}
	end, ok = w.follow(start{place: hostPlace, outside: true, link: link}, p)
	return end, v, ok
}

// portOf looks whether a tunnel is a port of its network's bridge.
func (w *walk) portOf(v dataplane.VXLAN, l *reading.Interface, n *cnm.Network, br string) bool {
	if l.Master == br {
		return true
	}
	return w.fail(hostPlace, v.Name, "not a port of "+br, because(WrongMaster, "the tunnel %s of network %s is not a port of its bridge %s.", v.Name, n.Name, br).mend("linkspan reconcile"))
}

// knownAs looks whether B has the hardware address that the other hosts send to.
func (w *walk) knownAs(to place, inside *reading.Interface, mac string, n *cnm.Network) bool {
	if mac == "" || strings.EqualFold(mac, inside.MAC) {
		return true
	}
	return w.fail(to, inside.Name, inside.MAC, because(StaleNeighbour, "%s interface %s has the hardware address %s, and the other hosts of network %s send to %s.", to.of(), inside.Name, inside.MAC, n.Name, mac).
		mend("%s", to.cmd("ip link set "+inside.Name+" address "+mac)))
}
