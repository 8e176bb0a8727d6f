package ruleset

import (
	"cmp"
	"net/netip"
	"slices"
)

// track gives the packet its connection (nf_conntrack_in).
func (w *walker) track() {
	if w.tracked || w.untracked || w.p.State == "untracked" || w.p.State == "invalid" {
		return
	}
	w.tracked = true
	if w.p.CT == nil {
		t := w.p.tuple()
		w.p.CT = &Conntrack{Original: t, Reply: mirror(t)}
		w.fresh = w.p.State == "new"
		if w.p.Reply {
			w.p.CT = &Conntrack{Original: mirror(t), Reply: t}
		}
	}
}

// translate is the NAT's one place in a hook: for a new connection the nat chains are
// asked, until one has decided (nf_nat_inet_fn); the packets of others are rewritten as
// the first one was.
func (w *walker) translate(chains []*Chain, dest bool) bool {
	if !w.tracked || w.p.CT == nil {
		return true
	}
	done := &w.sourceDone
	if dest {
		done = &w.destDone
	}
	if !w.fresh {
		w.rewrite(dest)
		return true
	}
	if *done {
		return true
	}
	order := slices.Clone(chains)
	slices.Reverse(order) // the last to register is asked first, see hook
	slices.SortStableFunc(order, func(a, b *Chain) int { return cmp.Compare(a.Priority, b.Priority) })
	for _, c := range order {
		if !w.base(c) {
			return false
		}
		if *done {
			break
		}
	}
	*done = true
	return true
}

// rewrite does to a later packet of a connection what was decided at its first
// (nf_nat_packet).
func (w *walker) rewrite(dest bool) {
	c := w.p.CT
	one, other := c.Original, c.Reply
	if w.p.Reply {
		one, other = c.Reply, c.Original
	}
	if one == mirror(other) {
		return
	}
	to := mirror(other)
	if dest {
		w.p.Dst, w.p.DstPort = to.Dst.Addr(), to.Dst.Port()
	} else {
		w.p.Src, w.p.SrcPort = to.Src.Addr(), to.Src.Port()
	}
	w.build()
}

// translation is what a rule asks for.
type translation struct {
	dest      bool
	low, high netip.Addr // zero: the address stays
	port, end uint16
	hasPort   bool
	netmap    bool
}

// setup decides a new connection's translation, once for each end (nf_nat_setup_info).
func (w *walker) setup(t translation) (note string) {
	done := &w.sourceDone
	if t.dest {
		done = &w.destDone
	}
	c := w.p.CT
	if *done || c == nil || !w.fresh {
		return "has no effect here: the connection's translation is decided already"
	}
	*done = true
	was := mirror(c.Reply)
	now := was
	end := &now.Src
	if t.dest {
		end = &now.Dst
	}
	if t.low.IsValid() {
		ip := t.low
		switch {
		case t.netmap:
			ip = mapped(end.Addr(), t.low, t.high)
		case t.high.IsValid() && t.high != t.low:
			note = "one of " + t.low.String() + "-" + t.high.String()
		}
		*end = netip.AddrPortFrom(ip, end.Port())
	}
	if t.hasPort && w.p.hasPorts() && (end.Port() < t.port || end.Port() > max(t.port, t.end)) {
		// A destination's port is the range's first; a source's is any.
		*end = netip.AddrPortFrom(end.Addr(), t.port)
		if !t.dest && t.end > t.port {
			note = "some port of the range"
		}
	}
	if now == was {
		return note // nothing changes, and conntrack says so
	}
	c = w.own()
	c.Reply = mirror(now)
	if t.dest {
		c.DNAT = true
		w.p.Dst, w.p.DstPort = now.Dst.Addr(), now.Dst.Port()
	} else {
		c.SNAT = true
		w.p.Src, w.p.SrcPort = now.Src.Addr(), now.Src.Port()
	}
	w.build()
	return note
}

// mapped keeps the host part: the bits in which both ends of the range agree are the
// network's (nf_nat_core.c, nf_nat_range with NETMAP).
func mapped(a, low, high netip.Addr) netip.Addr {
	x, l, h := a.AsSlice(), low.AsSlice(), high.AsSlice()
	if len(x) != len(l) || len(l) != len(h) {
		return low
	}
	for i := range x {
		mask := ^(l[i] ^ h[i])
		x[i] = x[i]&^mask | l[i]&mask
	}
	out, _ := netip.AddrFromSlice(x)
	return out
}

// masquerade is snat to the address of the interface.
func (w *walker) masquerade(t translation) (note, cannot string) {
	if w.env.Link == nil {
		return "", "the addresses of " + w.p.Out + " are not known"
	}
	l, ok := w.env.Link(w.p.Out)
	next := w.p.Dst
	if w.env.Route != nil {
		if to := w.env.Route(Packet{Dst: w.p.Dst, Proto: w.p.Proto, DstPort: w.p.DstPort, Mark: w.p.Mark}); to.Gateway.IsValid() && to.Out == w.p.Out {
			next = to.Gateway
		}
	}
	t.low = l.source(next)
	switch {
	case t.low.IsValid():
	case w.env.First != nil:
		t.low = w.env.First(next.Is6())
	case w.p.Out == "lo" && !w.p.Src.IsLoopback():
		t.low = w.p.Src
	}
	if !ok || !t.low.IsValid() {
		return "", "interface " + w.p.Out + " has no address to masquerade with: the kernel drops it"
	}
	t.high = t.low
	return w.setup(t), ""
}

// redirect is dnat to this host.
func (w *walker) redirect(t translation) (note, cannot string) {
	switch {
	case w.at == "output" && w.p.Family() == "ip":
		t.low = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case w.at == "output":
		t.low = netip.IPv6Loopback()
	default:
		if w.env.Link == nil {
			return "", "the addresses of " + w.p.In + " are not known"
		}
		l, _ := w.env.Link(w.p.In)
		for _, a := range l.Addrs {
			if a.Addr().Is4() == w.p.Dst.Is4() && (a.Addr().Is4() || a.Addr().IsLinkLocalUnicast() == w.p.Src.IsLinkLocalUnicast()) {
				t.low = a.Addr()
				break
			}
		}
		if !t.low.IsValid() {
			return "", "interface " + w.p.In + " has no address to redirect to: the kernel drops it"
		}
	}
	t.high = t.low
	return w.setup(t), ""
}
