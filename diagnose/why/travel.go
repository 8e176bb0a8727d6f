package why

import (
	"fmt"
	"net/netip"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
)

// maxHops bounds a walk: more network stacks than that on one host are a loop.
const maxHops = 8

func routeTo(a netip.Addr) reading.RouteQuery { return reading.RouteQuery{Dst: a} }

// onward is a packet that leaves a network stack by a link.
type onward struct {
	p     packet
	link  string
	next  netip.Addr // the next hop
	local bool       // it is for this stack itself
}

// follow goes with a packet from where it starts to where it is delivered, or leaves.
func (w *walk) follow(from start, p packet) (arrival, bool) {
	var on onward
	var ok bool
	at := from.place
	if from.outside {
		p.in = from.link
		if l, err := w.live.link(at.ns, from.link); err == nil && l != nil {
			w.filtered(at, l)
		}
		on, ok = w.receive(at, p)
	} else {
		on, ok = w.leave(at, p)
	}
	return w.onwards(at, on, ok)
}

// onwards goes with a packet from a stack that sends it on, or takes it.
func (w *walk) onwards(at place, on onward, ok bool) (arrival, bool) {
	var p packet
	for range maxHops {
		if !ok {
			return arrival{}, false
		}
		if on.local {
			return arrival{place: at, p: on.p, link: on.p.in}, true
		}
		var next hop
		if next, ok = w.wire(at, on); !ok {
			return arrival{}, false
		}
		if next.outside {
			return arrival{place: at, p: on.p, link: on.link, outside: true}, true
		}
		p = on.p
		at, p.in, p.out, p.inPort = next.place, next.link, "", next.port
		on, ok = w.receive(at, p)
	}
	return arrival{}, w.fail(at, "route", "a loop", because(WrongRoute, "the way to %s goes round in circles through %s.", on.p.dst, at.name).
		advise("look at the routes: ip route get %s", on.p.dst))
}

// leave is what a stack does with a packet of its own: route, output, postrouting.
func (w *walk) leave(at place, p packet) (onward, bool) {
	p.in, p.inPort, p.ct = "", "", w.known[at.ns]
	r, ok := w.routed(at, p, "")
	if !ok {
		return onward{}, false
	}
	if !p.src.IsValid() {
		p.src = r.Src
	}
	if !p.answer && !w.first.src.IsValid() {
		w.first.src = p.src
	}
	p.out = outOf(r)
	was := p
	if p, ok = w.hook(at, "output", p); !ok {
		return onward{}, false
	}
	// What is translated, or marked anew, is routed again (ip_route_me_harder).
	if p.dst != was.dst || p.mark != was.mark {
		again := p
		if r, ok = w.routed(at, again, ""); !ok {
			return onward{}, false
		}
		p.out = outOf(r)
	}
	if p, ok = w.hook(at, "postrouting", p); !ok || !w.stale(at, p) {
		return onward{}, false
	}
	w.ownSource(at, p)
	w.remember(at, p)
	if r.Type == "local" {
		p.in, p.out = "lo", ""
		if p, ok = w.hook(at, "prerouting", p); ok {
			p, ok = w.hook(at, "input", p)
		}
		return onward{p: p, local: true}, ok
	}
	return onward{p: p, link: r.Link, next: hopOf(r, p.dst)}, true
}

// ownSource looks whether a sandbox sends from an address of its own.
func (w *walk) ownSource(at place, p packet) {
	if at.sandbox == nil || p.answer || p.out == "lo" || w.odd != nil {
		return
	}
	e := endpointAt(at.sandbox, p.out)
	if e == nil || has(e, p.src) || endpointOf(at.sandbox, p.src) != nil || !familyOf(e, p.src.Is4()).IsValid() {
		return
	}
	w.odd = because(WrongRoute, "%s sends to %s from %s, which is not its address on %s (%s): the answers do not come back.", at.name, p.dst, p.src, e.NetworkName, familyOf(e, p.src.Is4()))
	for _, a := range e.Addrs {
		if a.Contains(p.dst) {
			w.odd.mend("%s", at.cmd(fmt.Sprintf("ip route change %s dev %s src %s", a.Masked(), e.IfName, a.Addr())))
		}
	}
	if w.odd.cure == "" {
		w.odd.advise("mend the route: %s", at.cmd("ip route get "+p.dst.String()))
	}
}

func outOf(r reading.RouteAnswer) string {
	if r.Type == "local" {
		return "lo"
	}
	return r.Link
}

func hopOf(r reading.RouteAnswer, dst netip.Addr) netip.Addr {
	if r.Gateway.IsValid() {
		return r.Gateway
	}
	return dst
}

// receive is what a stack does with a packet that comes in: prerouting, route, then
// input, or forward and postrouting.
func (w *walk) receive(at place, p packet) (onward, bool) {
	p.ct = w.known[at.ns]
	if !w.ingress(at, p) {
		return onward{}, false
	}
	p, ok := w.hook(at, "prerouting", p)
	if !ok || !w.stale(at, p) {
		return onward{}, false
	}
	r, ok := w.routed(at, p, p.in)
	if !ok {
		return onward{}, false
	}
	if r.Type == "local" {
		p, ok = w.hook(at, "input", p)
		w.remember(at, p)
		return onward{p: p, local: true}, ok
	}
	p.out = r.Link
	if !w.forwards(at, p) {
		return onward{}, false
	}
	if p, ok = w.hook(at, "forward", p); !ok {
		return onward{}, false
	}
	if p, ok = w.hook(at, "postrouting", p); !ok {
		return onward{}, false
	}
	w.remember(at, p)
	return onward{p: p, link: r.Link, next: hopOf(r, p.dst)}, w.connections(at)
}

// remember keeps what a stack did to the connection.
func (w *walk) remember(at place, p packet) {
	if w.known[at.ns] == nil && !p.answer {
		w.known[at.ns] = p.ct
	}
}

// routed asks the kernel for the way.
func (w *walk) routed(at place, p packet, in string) (reading.RouteAnswer, bool) {
	q := reading.RouteQuery{Dst: p.dst, Src: p.src, In: in, Mark: p.mark, Proto: p.proto, SrcPort: p.sport, DstPort: p.dport}
	r, err := w.live.route(at.ns, q)
	look := "route to " + p.dst.String()
	if err != nil {
		w.missing(at, look, err)
		w.verdict(Unsure, because(Unknown, "it cannot be told whether %s reaches %s: the route to %s cannot be asked: %v", w.a.Name, w.target(), p.dst, err))
		return r, false
	}
	switch {
	case r.Type == "local":
		if in == "" {
			w.good(at, look, "it is its own")
		}
		return r, w.rightful(at, p, r)
	case r.Type == "unicast":
		via := ", directly"
		if r.Gateway.IsValid() {
			via = " via " + r.Gateway.String()
		}
		if c := w.misled(at, p, r); c != nil {
			if w.declared != nil && at.host() && !p.answer {
				c = w.declared
			}
			return r, w.fail(at, look, r.Link+via, c)
		}
		w.good(at, look, "%s%s", r.Link, via)
		return r, true
	}
	found := r.Err
	if found == "" {
		found = r.Type
	}
	return r, w.fail(at, look, found, w.noRoute(at, p, r, in))
}

// networkOf is the network whose bridge a link of the host is.
func (w *walk) networkOf(link string) *cnm.Network {
	for _, n := range w.world.Declared.Networks() {
		if bridged(n) && device(n) == link {
			return n
		}
	}
	return nil
}

// bridged says that a network's containers are on a bridge of this host.
func bridged(n *cnm.Network) bool {
	return n.Driver == "bridge" || n.Driver == "overlay" || n.Driver == "routed"
}

// device is the bridge of a network (driver/bridge).
func device(n *cnm.Network) string {
	if name := n.Options["com.docker.network.bridge.name"]; name != "" {
		return name
	}
	return "br-" + n.ID[:min(12, len(n.ID))]
}

// endpointAt is the endpoint of a sandbox behind one of its interfaces.
func endpointAt(s *cnm.Sandbox, ifname string) *cnm.Endpoint {
	if s == nil {
		return nil
	}
	for i := range s.Endpoints {
		if s.Endpoints[i].IfName == ifname {
			return &s.Endpoints[i]
		}
	}
	return nil
}

// joined makes several lines one for a shell.
func joined(lines []string) string { return strings.Join(lines, " && ") }

func sameSandbox(a, b *cnm.Sandbox) bool { return a != nil && b != nil && a.ID == b.ID }
