package why

import (
	"context"
	"fmt"
	"net/netip"

	"linkspan/cnm"
	"linkspan/diagnose"
)

// tryWire has the mesh probe the wire to another host with packets as large as the largest
// of the way: what a router there drops without a word is not to be seen in either host's
// kernel. It begins at once; the function that it returns waits, and says whether they pass.
func (w *walk) tryWire(ctx context.Context, x *diagnose.Elsewhere, most int) func() bool {
	size := w.onWire(x, most)
	if w.hosts == nil || size == 0 {
		return func() bool { return true }
	}
	type result struct{ passes, known bool }
	done := make(chan result, 1)
	go func() {
		passes, known := w.hosts.Passes(ctx, x.Peer, size)
		done <- result{passes, known}
	}()
	return func() bool {
		r := <-done
		look := "wire to host " + x.Peer.Name
		switch {
		case !r.known:
			w.aside(hostPlace, look, "whether packets of %d bytes pass could not be tried", size)
			return true
		case r.passes:
			w.good(hostPlace, look, "a probe of %d bytes passes", size)
			return true
		}
		return w.fail(hostPlace, look, fmt.Sprintf("probes of %d bytes are lost, small ones pass", size),
			because(MTU, "large packets are lost on the wire to host %s: of %d bytes, which a packet of %d on network %s becomes, none arrives, and nobody tells who sends it; small ones pass.", x.Peer.Name, size, most, x.Network.Name).
				advise("a router or switch between the hosts carries less than they do, and is silent: raise its MTU, or lower that of both hosts' devices; `linkspan mesh check` measures what passes, and the networks follow within a minute"))
	}
}

// onWire is how large a packet of a container is on the wire to another host; 0: not known.
func (w *walk) onWire(x *diagnose.Elsewhere, most int) int {
	if x.Path.MTU > 0 {
		most = min(most, x.Path.MTU)
	}
	if most <= 0 {
		return 0
	}
	switch x.Path.Kind {
	case cnm.PathDirect:
		return most
	case cnm.PathVXLAN:
		return most + around(x.Peer.Addr)
	case cnm.PathWireGuard:
		if v, ok := w.declaredTunnel(device(x.Network)); ok {
			most += around(peerEnd(v, x))
		}
		return most + wireguard(x.Peer.Addr)
	}
	return 0
}

// wireguard is what WireGuard adds to a packet: the outer IP header, UDP's, its own of 16
// bytes, and the tag of 16 (the protocol's paper, section 5.4.6).
func wireguard(to netip.Addr) int {
	if to.Is6() {
		return 40 + 8 + 16 + 16
	}
	return 20 + 8 + 16 + 16
}
