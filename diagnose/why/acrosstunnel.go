package why

import (
	"fmt"
	"net/netip"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/diagnose"
)

// tunnelled follows a packet that a bridge hands to the tunnel of an overlay network.
func (w *walk) tunnelled(n *cnm.Network, br, from string, on onward, x *diagnose.Elsewhere) (hop, bool) {
	v, ok := w.declaredTunnel(br)
	if !ok {
		return hop{}, w.fail(hostPlace, "tunnel of "+n.Name, "none", because(NoPath, "network %s has no tunnel on this host: %s.", n.Name, strings.TrimSuffix(x.Path.Reason, ".")).mend("linkspan reconcile"))
	}
	l, ok := w.tunnelSound(v)
	if !ok {
		return hop{}, false
	}
	if l.Master != br {
		return hop{}, w.fail(hostPlace, v.Name, "not a port of "+br, because(WrongMaster, "the tunnel %s of network %s is not a port of its bridge %s.", v.Name, n.Name, br).mend("linkspan reconcile"))
	}
	mac := x.Remote.MAC
	// Who asks for the address is answered from this entry of the bridge's.
	if !w.entryThere(br, on.next, mac, x) {
		return hop{}, false
	}
	if !w.ledTo(br, v.Name, mac, netip.Addr{}, x) || !w.ledTo("", v.Name, mac, peerEnd(v, x), x) {
		return hop{}, false
	}
	w.carry(hostPlace, l, false)
	if from != "" && !w.bridgeNF(n, br, from, v.Name, &on.p) {
		return hop{}, false
	}
	on.p.outPort = v.Name
	hook := "forward"
	if from == "" {
		hook = "output"
	}
	if !w.bridgeRules(from, br, hook, &on.p) {
		return hop{}, false
	}
	return hop{outside: true}, w.wrapped(v, l, x)
}

// declaredTunnel is the VXLAN device that should be a port of a bridge.
func (w *walk) declaredTunnel(br string) (v dataplane.VXLAN, ok bool) {
	for _, o := range w.objects {
		if v, ok = o.(dataplane.VXLAN); ok && v.Master == br {
			return v, true
		}
	}
	return v, false
}

// tunnelSound looks whether a tunnel's device is there and up.
func (w *walk) tunnelSound(v dataplane.VXLAN) (*reading.Interface, bool) {
	l, err := w.live.link("", v.Name)
	switch {
	case err != nil:
		w.missing(hostPlace, "interfaces", err)
		return &reading.Interface{Name: v.Name, Master: v.Master}, true
	case l == nil:
		return nil, w.fail(hostPlace, v.Name, "gone", because(LinkMissing, "the tunnel's device %s (VNI %d) is gone.", v.Name, v.VNI).mend("linkspan reconcile"))
	case !l.Up:
		return nil, w.fail(hostPlace, v.Name, "down", because(LinkDown, "the tunnel's device %s (VNI %d) is down.", v.Name, v.VNI).mend("ip link set %s up", v.Name))
	}
	return l, true
}

// peerEnd is the address that a tunnel's packets to a peer go to.
func peerEnd(v dataplane.VXLAN, x *diagnose.Elsewhere) netip.Addr {
	if x.Peer.SecureAddr.IsValid() && v.Local.Is6() && x.Path.Kind == cnm.PathWireGuard {
		return x.Peer.SecureAddr
	}
	return x.Peer.Addr
}

// entryThere looks whether a link's permanent neighbour entry is there.
func (w *walk) entryThere(link string, a netip.Addr, mac string, x *diagnose.Elsewhere) bool {
	all, err := w.live.neighbours("")
	look := fmt.Sprintf("neighbour %s on %s", a, link)
	if err != nil {
		w.missing(hostPlace, look, err)
		return true
	}
	for _, n := range all {
		if n.Link != link || n.Addr != a || n.State != "permanent" {
			continue
		}
		if strings.EqualFold(n.MAC, mac) {
			w.good(hostPlace, look, "%s, permanent", mac)
			return true
		}
		return w.fail(hostPlace, look, n.MAC, because(TunnelEntry, "the neighbour entry of %s on %s says %s, and %s (on host %s) has %s.", a, link, n.MAC, x.Called(), x.Peer.Name, mac).
			mend("ip neigh replace %s lladdr %s dev %s nud permanent", a, mac, link))
	}
	return w.fail(hostPlace, look, "gone", because(TunnelEntry, "the neighbour entry of %s on %s is gone, so that nobody answers who asks for %s (on host %s).", a, link, x.Called(), x.Peer.Name).
		mend("linkspan reconcile"))
}

// ledTo looks whether the forwarding database leads a MAC to the tunnel (of a bridge), or,
// in the tunnel, to the other host (br is "").
func (w *walk) ledTo(br, dev, mac string, to netip.Addr, x *diagnose.Elsewhere) bool {
	all, err := w.live.fdb("")
	look := "forwarding of " + mac + " by " + dev
	if br != "" {
		look = "bridge " + br
	}
	if err != nil {
		w.missing(hostPlace, look, err)
		return true
	}
	var wrong *reading.FDBEntry
	for i, e := range all {
		if !strings.EqualFold(e.MAC, mac) || e.Dst.IsValid() == (br != "") {
			continue
		}
		switch {
		case br != "" && e.Link == dev, br == "" && e.Link == dev && e.Dst == to:
			if br != "" {
				w.good(hostPlace, look, "%s at port %s", mac, dev)
			} else {
				w.good(hostPlace, look, "to host %s, %s", x.Peer.Name, to)
			}
			return true
		case br != "" && (e.Bridge == br || e.Bridge == "" && w.portOfBridge(e.Link, br)), br == "" && e.Link == dev:
			wrong = &all[i]
		}
	}
	switch {
	case wrong != nil && br != "":
		return w.fail(hostPlace, look, mac+" at port "+wrong.Link, because(FDBWrong, "the bridge %s sends what is for %s (%s) to port %s, and not into the tunnel %s.", br, x.Called(), mac, wrong.Link, dev).
			mend("bridge fdb del %s dev %s master", mac, wrong.Link))
	case wrong != nil:
		return w.fail(hostPlace, look, "to "+wrong.Dst.String(), because(FDBWrong, "the tunnel %s sends what is for %s to %s, and it is on host %s, at %s.", dev, x.Called(), wrong.Dst, x.Peer.Name, to).
			mend("bridge fdb replace %s dev %s dst %s self permanent", mac, dev, to))
	case br != "":
		return w.fail(hostPlace, look, "nothing", because(TunnelEntry, "the bridge %s does not know that %s (%s) is behind the tunnel %s: its entry is gone.", br, x.Called(), mac, dev).mend("linkspan reconcile"))
	}
	return w.fail(hostPlace, look, "nothing", because(TunnelEntry, "the tunnel %s does not know that %s (%s) is on host %s: its entry is gone.", dev, x.Called(), mac, x.Peer.Name).mend("linkspan reconcile"))
}

// leaves follows a packet for another host that a route leads out of this one.
func (w *walk) leaves(at place, l *reading.Interface, on onward, x *diagnose.Elsewhere) (hop, bool) {
	out := hop{outside: true}
	switch o := w.objects["link "+l.Name].(type) {
	case dataplane.VXLAN:
		if _, ok := w.tunnelSound(o); !ok {
			return hop{}, false
		}
		// A tunnel that carries routed packets: the next hop is the other host's end of it.
		if !w.entryThere(l.Name, on.next, x.Peer.MAC, x) || !w.ledTo("", l.Name, x.Peer.MAC, peerEnd(o, x), x) {
			return hop{}, false
		}
		return out, w.wrapped(o, l, x)
	case dataplane.WireGuard:
		return out, w.encrypted(l, x)
	}
	return out, w.uplinkSound(at, l, on)
}
