package why

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
)

// sysctlName is a parameter as sysctl(8) takes it: dots, and slashes for the dots in
// names.
func sysctlName(path string) string { return strings.NewReplacer("/", ".", ".", "/").Replace(path) }

// number reads a parameter that is one; -1 when it is not there.
func (w *walk) number(at place, name string) int {
	v, err := w.live.sysctl(at.ns, name)
	if err != nil {
		w.missing(at, sysctlName(name), err)
		return -1
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return -1
	}
	return n
}

// forwards looks whether a stack forwards what came in.
func (w *walk) forwards(at place, p packet) bool {
	if c := w.unforwarded(at, p); c != nil {
		return w.fail(at, "forwarding", "off", c)
	}
	return true
}

func (w *walk) unforwarded(at place, p packet) *cause {
	names := []string{"net/ipv4/ip_forward", "net/ipv4/conf/" + p.in + "/forwarding"}
	if p.dst.Is6() {
		names = []string{"net/ipv6/conf/all/forwarding", "net/ipv6/conf/" + p.in + "/forwarding"}
	}
	for i, name := range names {
		if i == 0 && p.dst.Is4() && w.number(at, names[1]) == 1 {
			return nil // what decides is the interface's own
		}
		if w.number(at, name) != 0 {
			continue
		}
		if !at.host() {
			return because(ForwardingOff, "%s is not for %s, and %s does not forward (%s=0).", p.dst, at.name, at.name, sysctlName(name)).
				mend("%s", at.cmd("sysctl -w "+sysctlName(name)+"=1"))
		}
		return because(ForwardingOff, "the host does not forward packets (%s=0), so that nothing passes between its interfaces.", sysctlName(name)).
			mend("sysctl -w %s=1", sysctlName(name))
	}
	return nil
}

// reversePath is the cause when a stack drops a packet because its way back is another
// one (RFC 3704).
func (w *walk) reversePath(at place, p packet) *cause {
	back, err := w.live.route(at.ns, reading.RouteQuery{Dst: p.src})
	way := "nowhere"
	if err == nil && back.Type == "" {
		return because(NoRoute, "%s has no route back to %s, and so drops what comes from there by %s.", w.stack(at), p.src, p.in).
			advise("give it one: %s", at.cmd(fmt.Sprintf("ip route add %s via GATEWAY", p.src)))
	}
	if err == nil && back.Link != "" {
		way = back.Link
		if _, e := w.world.Holder(p.src); e != nil && at.host() {
			if c := w.misled(at, packet{dst: p.src}, back); c != nil {
				return c
			}
		}
	}
	return because(RPFilter, "%s drops what comes from %s by %s, since its own way to %s is by %s (rp_filter=%d).",
		w.stack(at), p.src, p.in, p.src, way, max(w.number(at, "net/ipv4/conf/all/rp_filter"), w.number(at, "net/ipv4/conf/"+p.in+"/rp_filter"))).
		mend("%s", at.cmd("sysctl -w "+sysctlName("net/ipv4/conf/"+p.in+"/rp_filter")+"=2"))
}

// localnet is the cause when a stack refuses 127.0.0.0/8 on a wire: ports that are
// published on 127.0.0.1 need it on our bridges.
func (w *walk) localnet(at place, p packet) *cause {
	if !p.src.Is4() || !p.src.IsLoopback() && !p.dst.IsLoopback() || !at.host() {
		return nil
	}
	for _, n := range w.world.Declared.Networks() {
		name := "net/ipv4/conf/" + device(n) + "/route_localnet"
		if _, wanted := w.objects["sysctl "+name]; !wanted || p.in != device(n) && !n.Pools[0].Subnet.Contains(p.dst) {
			continue
		}
		if w.number(at, name) == 0 && w.number(at, "net/ipv4/conf/all/route_localnet") != 1 {
			return because(SysctlChanged, "the host does not let 127.0.0.1 onto %s (%s=0), which ports published on it need.", device(n), sysctlName(name)).
				mend("sysctl -w %s=1", sysctlName(name))
		}
	}
	return nil
}

// rightful looks whether a stack that takes a packet for its own is the one that has the
// address.
func (w *walk) rightful(at place, p packet, r reading.RouteAnswer) bool {
	s, e := w.world.Holder(p.dst)
	if s == nil || s.Host || s.Path == at.ns {
		return true
	}
	l, _ := w.live.holder(at.ns, p.dst)
	if l == nil {
		return true
	}
	prefix := netip.PrefixFrom(p.dst, p.dst.BitLen())
	for _, a := range l.Addrs {
		if a.Addr() == p.dst {
			prefix = a
		}
	}
	return w.fail(at, "address "+p.dst.String(), "it has it itself, on "+l.Name, because(AddressConflict,
		"%s itself has %s (on %s), which is %s's address on %s.", w.stack(at), p.dst, l.Name, s.OwnerName, e.NetworkName).
		mend("%s", at.cmd("ip addr del "+prefix.String()+" dev "+l.Name)))
}

// connections looks whether the table of connections has room for one more.
func (w *walk) connections(at place) bool {
	if !at.host() {
		return true
	}
	have, room := w.number(at, "net/netfilter/nf_conntrack_count"), w.number(at, "net/netfilter/nf_conntrack_max")
	if have < 0 || room <= 0 || have < room {
		return true
	}
	return w.fail(at, "connections", fmt.Sprintf("%d of %d", have, room), because(ConntrackFull,
		"the host's table of connections is full (%d of %d): new ones are dropped.", have, room).
		mend("sysctl -w net.netfilter.nf_conntrack_max=%d", room*2))
}

// stale finds an old entry of the connection table that decides for this packet
// otherwise than the rules do now. It is a matter of UDP: who keeps sending from one
// port never gets a new entry.
func (w *walk) stale(at place, p packet) bool {
	if !at.host() || p.answer || p.proto != "udp" || p.ct == nil {
		return true
	}
	key := p.ct.Original.Dst
	flows, err := get(w.live, "flows "+key.String(), func() ([]reading.Flow, error) {
		return w.live.k.Flows(w.ctx, at.ns, reading.FlowFilter{Proto: "udp", Addr: key.Addr(), Port: key.Port()})
	})
	if err != nil {
		w.missing(at, "connections", err)
		return true
	}
	any := w.first.src == somewhere4 || w.first.src == somewhere6 || !w.a.Addr.IsValid() && w.placeOf(w.a).host()
	for _, f := range flows {
		if f.Original.Dst != key || !any && f.Original.Src.Addr() != p.ct.Original.Src.Addr() || f.Reply.Src == p.ct.Reply.Src {
			continue
		}
		leads := f.Reply.Src.String()
		if f.Reply.Src == f.Original.Dst {
			leads = "the host itself"
		}
		return w.fail(at, "connections", "an old one from "+f.Original.Src.String(), because(ConntrackStale,
			"an old connection entry sends what comes from %s to %s on to %s, and not to %s.", f.Original.Src, at2(key, "udp"), leads, p.ct.Reply.Src).
			mend("conntrack -D -p udp --orig-src %s --orig-dst %s --orig-port-dst %d", f.Original.Src.Addr(), key.Addr(), key.Port()))
	}
	return true
}

// unmasked looks whether a container's packets leave with the address that they should.
func (w *walk) unmasked(at place, l *reading.Interface, on onward) bool {
	s, e := w.world.Holder(on.p.src)
	if s == nil || on.p.answer || w.blind {
		return true
	}
	n := w.world.NetworkByID(e.NetworkID)
	for _, o := range w.objects {
		el, ok := o.(dataplane.Element)
		if !ok || !strings.HasPrefix(el.Set, "masquerade") && !strings.HasPrefix(el.Set, "snat") {
			continue
		}
		if id := el.About().Owner.ID; id != n.ID && id != e.ID || strings.Contains(el.Set, "4") != on.p.src.Is4() {
			continue
		}
		return w.fail(at, "translation", "it leaves as "+on.p.src.String(), because(OwnPageDamaged,
			"what %s sends leaves the host with its own address %s, which nobody outside can answer: element %s of set %s in Linkspan's table inet %s, or the rule that asks it, is gone.",
			s.OwnerName, on.p.src, el.KeyText, el.Set, w.world.Table).
			mend("linkspan reconcile"))
	}
	w.step(at, Open, "translation", "none: it leaves as %s", on.p.src)
	w.hint = fmt.Sprintf("give %s (or its router) a route to %s by this host, or connect %s to a network that translates", on.p.dst, e.Addrs[0].Masked(), s.OwnerName)
	w.ans.Missing = append(w.ans.Missing, fmt.Sprintf("%s leaves this host with its own address %s (network %s does not translate); whether %s has a route back to it is not to be seen from here", s.OwnerName, on.p.src, n.Name, on.p.dst))
	return true
}

// bridgeNF passes a packet that a bridge switches through the hooks of IP, where the
// kernel does that (bridge-nf-call-iptables).
func (w *walk) bridgeNF(n *cnm.Network, br, from, to string, p *packet) bool {
	name := "net/bridge/bridge-nf-call-iptables"
	if p.dst.Is6() {
		name = "net/bridge/bridge-nf-call-ip6tables"
	}
	own := false
	if o, ok := w.objects["link "+br].(dataplane.Bridge); ok {
		own = o.NFCall
	}
	if l, err := w.live.link("", br); err == nil && l != nil {
		own = l.CallIPTables // what is, not what should be
	}
	if v, err := w.live.sysctl("", name); err != nil || v != "1" && !own {
		return true
	}
	q := *p
	q.in, q.inPort, q.ct = br, from, w.known["bridge "+br]
	var ok bool
	if q, ok = w.hook(hostPlace, "prerouting", q); !ok {
		return false
	}
	q.out, q.outPort = br, to
	if q, ok = w.hook(hostPlace, "forward", q); !ok {
		return false
	}
	if q, ok = w.hook(hostPlace, "postrouting", q); !ok {
		return false
	}
	if !p.answer && w.known["bridge "+br] == nil {
		w.known["bridge "+br] = q.ct
	}
	p.src, p.sport = q.src, q.sport
	return w.connections(hostPlace)
}
