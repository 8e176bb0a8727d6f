package why

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"linkspan/dataplane"
	"linkspan/dataplane/reading"
)

// carrier is an interface on the way and the largest packet that it takes.
type carrier struct {
	place
	link   string
	mtu    int
	sender bool // the one that first sends: it knows its own
	routed bool // a router's: it tells the sender (RFC 1191, RFC 8201)
}

// carry notes an interface that the packet passes.
func (w *walk) carry(at place, l *reading.Interface, routed bool) {
	w.filtered(at, l)
	if w.part != There || l.MTU == 0 {
		return
	}
	w.carries = append(w.carries, carrier{place: at, link: l.Name, mtu: l.MTU, sender: len(w.carries) == 0, routed: routed && len(w.carries) > 0})
}

// filtered says of an interface that programs hang there which are not followed (tc, XDP):
// they can drop, redirect and change whatever passes.
func (w *walk) filtered(at place, l *reading.Interface) {
	if len(l.Filters) == 0 {
		return
	}
	what := fmt.Sprintf("%s interface %s has filters that are not read (%s)", at.of(), l.Name, strings.Join(l.Filters, ", "))
	if slices.Contains(w.ans.Missing, what) {
		return
	}
	w.step(at, Open, "filters of "+l.Name, "%s", strings.Join(l.Filters, ", "))
	w.ans.Missing = append(w.ans.Missing, what)
	w.hint = "ask again with --probe: a real packet tells; or look at them: " + at.cmd("tc filter show dev "+l.Name+" ingress")
}

// sizes looks whether large packets pass as well as small ones.
func (w *walk) sizes() bool {
	i := slices.IndexFunc(w.carries, func(c carrier) bool { return c.sender })
	if i < 0 {
		return true
	}
	most := w.carries[i].mtu
	if r, err := w.live.route(w.carries[i].ns, routeTo(w.first.dst)); err == nil && r.MTU > 0 && r.MTU < most {
		most = r.MTU
		w.note("", "", "%s has learned that the way to %s carries packets of %d bytes", w.a.Name, w.first.dst, r.MTU)
	}
	last := w.carries[len(w.carries)-1]
	if w.first.proto != "udp" && !last.routed {
		most = min(most, last.mtu) // TCP's two ends tell each other (MSS)
	}
	for _, c := range w.carries[i+1:] {
		if c.mtu >= most {
			continue
		}
		if c.routed {
			if !w.tooBig(c) {
				return false
			}
			most = c.mtu
			continue
		}
		want, cure := most, c.cmd(fmt.Sprintf("ip link set %s mtu %d", c.link, most))
		if o, ok := w.objects["link "+c.link].(dataplane.Veth); ok && c.host() {
			if want = o.MTU; want == 0 {
				want = 1500
			}
			cure = "linkspan reconcile"
		}
		if want == c.mtu { // it is as it should be: the sender is not
			first := w.carries[i]
			cure = first.cmd(fmt.Sprintf("ip link set %s mtu %d", first.link, want))
		}
		return w.fail(c.place, "packet size", fmt.Sprintf("%s carries %d bytes", c.link, c.mtu), because(MTU,
			"packets of more than %d bytes are lost: %s interface %s carries no more, %s sends up to %d, and nobody tells it.", c.mtu, c.of(), c.link, w.a.Name, most).
			mend("%s", cure))
	}
	w.good(w.carries[i].place, "packet size", "%d bytes all the way", most)
	return true
}

// tooBig looks whether a router's word that a packet is too large reaches the sender.
func (w *walk) tooBig(c carrier) bool {
	router := netip.Addr{}
	from := w.placeOf(w.a)
	if w.a.Kind != "container" || from.host() {
		return true
	}
	if r, err := w.live.route("", routeTo(w.first.src)); err == nil {
		router = r.Src
	}
	if !router.IsValid() {
		return true
	}
	p := packet{src: router, dst: w.first.src, proto: "icmp", answer: true, out: device2(w, w.first.src)}
	for _, h := range []struct {
		at   place
		hook string
	}{{hostPlace, "output"}, {from, "input"}} {
		fw, err := w.fire(h.at.ns)
		if err != nil {
			w.missing(h.at, "firewall, "+h.hook, err)
			return true
		}
		q := p.rules()
		q.State, q.ICMPType, q.ICMPCode, q.CT = "related", 3, 4, nil
		if p.dst.Is6() {
			q.ICMPType, q.ICMPCode = 2, 0
		}
		q.In, q.Out = "", p.out
		if !h.at.host() {
			q.Out = ""
			if e := endpointOf(from.sandbox, w.first.src); e != nil {
				q.In = e.IfName
			}
		}
		t := fw.walk("", h.hook, q)
		if t.Verdict != "drop" && t.Verdict != "reject" {
			continue
		}
		r := w.ruleOf(h.at, fw, *orEmpty(t.Rule))
		cause := because(MTU, "packets of more than %d bytes are lost on %s: the host's word that they are too large is dropped by table %s %s, chain %s: %s",
			c.mtu, c.link, r.Family, r.Table, r.Chain, r.Text)
		cause.rule = r
		match := "icmp type destination-unreachable"
		if p.dst.Is6() {
			match = "icmpv6 type packet-too-big"
		}
		pos := ""
		if t.Rule != nil && !t.Rule.Policy {
			pos = fmt.Sprintf(" handle %d", r.Handle)
		}
		return w.fail(h.at, "packet size", fmt.Sprintf("%s carries %d bytes, and nobody is told", c.link, c.mtu),
			cause.mend("%s", h.at.cmd(fmt.Sprintf("nft insert rule %s %s %s%s %s accept", r.Family, r.Table, r.Chain, pos, match))))
	}
	w.aside(hostPlace, "packet size", "%s carries %d bytes; the host tells who sends more", c.link, c.mtu)
	return true
}

func device2(w *walk, a netip.Addr) string {
	if r, err := w.live.route("", routeTo(a)); err == nil {
		return r.Link
	}
	return ""
}
