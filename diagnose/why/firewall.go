package why

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/dataplane/ruleset"
)

// firewall is what the rules of one namespace do with a packet.
type firewall interface {
	// walk passes a packet through one hook of a family ("" for the packet's own).
	walk(family, hook string, p ruleset.Packet) ruleset.Trace
	hasTable(family, name string) bool
	// owners are the chains of a table, by which its maker is recognised.
	chains(family, table string) []string
}

const redirectTable = dataplane.RedirectTable

// liveRules is a namespace's ruleset as the kernel has it.
type liveRules struct {
	l  *live
	ns string
	rs *ruleset.Ruleset
}

func (l *live) ruleset(ns string) (*ruleset.Ruleset, error) {
	return get(l, "rules "+ns, func() (*ruleset.Ruleset, error) { return l.k.Ruleset(l.ctx, ns) })
}

func (l *live) firewall(ns string) (firewall, error) {
	rs, err := l.ruleset(ns)
	if err != nil {
		return nil, err
	}
	return liveRules{l, ns, rs}, nil
}

func (f liveRules) hasTable(family, name string) bool { return f.rs.Table(family, name) != nil }

func (f liveRules) chains(family, table string) (names []string) {
	for _, t := range f.rs.Tables {
		if t.Family == family && t.Name == table {
			for _, c := range t.Chains {
				names = append(names, c.Name)
			}
		}
	}
	return names
}

func (f liveRules) walk(family, hook string, p ruleset.Packet) ruleset.Trace {
	env := ruleset.Env{Route: f.route, AddrType: f.addrType, Link: f.link}
	if family == "" {
		return f.rs.Walk(p, hook, env)
	}
	return f.rs.WalkIn(family, p, hook, env)
}

func (f liveRules) route(p ruleset.Packet) ruleset.Route {
	r, err := f.l.route(f.ns, reading.RouteQuery{Dst: p.Dst, In: p.In, Src: p.Src, Mark: p.Mark, Proto: p.Proto, SrcPort: p.SrcPort, DstPort: p.DstPort})
	switch {
	case err != nil:
		return ruleset.Route{Err: err.Error()}
	case r.Type == "local":
		return ruleset.Route{Local: true, Out: "lo"}
	case r.Type != "unicast":
		return ruleset.Route{Err: r.Err}
	}
	return ruleset.Route{Out: r.Link, Gateway: r.Gateway, Src: r.Src}
}

// addrType is nft's `fib … type` (nft(8), FIB EXPRESSIONS).
func (f liveRules) addrType(a netip.Addr, dev string) string {
	if a.IsMulticast() {
		return "multicast"
	}
	if dev != "" {
		l, _ := f.l.holder(f.ns, a)
		if l != nil && l.Name == dev {
			return "local"
		}
	}
	r, err := f.l.route(f.ns, routeTo(a))
	switch {
	case err != nil || r.Type == "":
		return "unspec"
	case dev != "" && r.Type == "local":
		return "unicast"
	}
	return r.Type
}

func (f liveRules) link(name string) (ruleset.Link, bool) {
	l, err := f.l.link(f.ns, name)
	if err != nil || l == nil {
		return ruleset.Link{}, false
	}
	typ := uint16(1) // ARPHRD_ETHER
	if name == "lo" {
		typ = 772 // ARPHRD_LOOPBACK
	}
	return ruleset.Link{Index: l.Index, Kind: l.Kind, Group: l.Group, Type: typ, Addrs: l.Addrs}, true
}

// rules is the packet as rules see it.
func (p packet) rules() ruleset.Packet {
	q := ruleset.Packet{In: p.in, Out: p.out, Src: p.src, Dst: p.dst, Proto: p.proto, SrcPort: p.sport, DstPort: p.dport, Mark: p.mark,
		State: "new", CT: p.ct, PhysIn: p.inPort, PhysOut: p.outPort}
	if p.proto == "icmp" && p.dst.Is6() {
		q.Proto = "icmpv6"
	}
	if p.answer {
		a := q.Answer(p.in) // for the flags of an answer
		q.State, q.Reply, q.TCPFlags, q.ICMPType = "established", true, a.TCPFlags, a.ICMPType
		if p.ct == nil {
			// Nothing of the question was seen here: an answer alone begins no connection of
			// TCP's (nf_conntrack_proto_tcp).
			q.State = "new"
			if p.proto == "tcp" {
				q.State = "invalid"
			}
		}
	}
	return q
}

func (p packet) after(t ruleset.Trace) packet {
	q := t.Packet
	p.src, p.dst, p.sport, p.dport, p.mark, p.ct = q.Src, q.Dst, q.SrcPort, q.DstPort, q.Mark, q.CT
	if p.proto == "icmp" {
		p.sport, p.dport = 0, 0
	}
	return p
}

// hook passes a packet through one hook of IP.
func (w *walk) hook(at place, name string, p packet) (packet, bool) {
	return w.rules(at, "", name, p)
}

// rules passes a packet through a hook, and says what a rule did to it.
func (w *walk) rules(at place, family, name string, p packet) (packet, bool) {
	look := "firewall, " + name
	fw, err := w.fire(at.ns)
	if err != nil {
		w.missing(at, look, err)
		w.blind = w.blind || at.host()
		return p, true
	}
	t := fw.walk(family, name, p.rules())
	switch t.Verdict {
	case ruleset.Accept:
	case ruleset.Drop, ruleset.Rejected:
		r := w.ruleOf(at, fw, *orEmpty(t.Rule))
		verb := map[string]string{ruleset.Drop: "drops", ruleset.Rejected: "refuses"}[t.Verdict]
		return p, w.fail(at, look, fmt.Sprintf("table %s %s, chain %s, %s it: %s", r.Family, r.Table, r.Chain, verb, r.Text), w.ruled(at, name, p, t, r, verb))
	default:
		what := t.Reason
		if t.Rule != nil {
			what += " (" + t.Rule.String() + ")"
		}
		w.missing(at, look, fmt.Errorf("the rules cannot be followed: %s", what))
		w.blind = w.blind || at.host()
		return p, true
	}
	for _, h := range t.Hits {
		if h.Changed == nil {
			if strings.Contains(h.Text, "notrack") && !p.answer && w.ownerOf(fw, h) != "Linkspan" {
				w.foreign = w.untracked(at, fw, h)
			}
			continue
		}
		if !w.translated(at, fw, h, p) {
			return p, false
		}
	}
	w.passed(at, family, name, t)
	return p.after(t), true
}

// passed tells the rule that let a packet through where one decides: forward and input.
func (w *walk) passed(at place, family, name string, t ruleset.Trace) {
	if family != "" || name != "forward" && name != "input" {
		return
	}
	for _, h := range slices.Backward(t.Hits) {
		if h.Table != redirectTable && h.Verdict == ruleset.Accept && !h.Policy {
			w.good(at, "firewall, "+name, "passes: %s %s, chain %s: %s", h.Family, h.Table, h.Chain, h.Text)
			return
		}
	}
}

func orEmpty(h *ruleset.Hit) *ruleset.Hit {
	if h == nil {
		return &ruleset.Hit{}
	}
	return h
}

// translated says what a rule made of the addresses, and stops at one of others that
// leads away from B.
func (w *walk) translated(at place, fw firewall, h ruleset.Hit, p packet) bool {
	if p.answer {
		return true
	}
	dst := h.Changed.Dst
	r := w.ruleOf(at, fw, h)
	switch {
	case dst.Addr() == p.dst && (dst.Port() == p.dport || p.dport == 0):
		w.good(at, "translation", "it goes on as %s", h.Changed.Src.Addr())
		return true
	case r.Owner == "Linkspan":
		w.good(at, "translation", "to %s", at2(dst, p.proto))
		return true
	}
	mine := w.b.Sandbox
	if all := w.publishedAt(p.proto, p.dport); mine == nil && len(all) > 0 && isHost(w.b) {
		mine = all[0].s
	}
	if mine == nil || mine.Host || endpointOf(mine, dst.Addr()) != nil {
		w.aside(at, "translation", "to %s, by table %s %s, chain %s, which is not Linkspan's", at2(dst, p.proto), r.Family, r.Table, r.Chain)
		w.foreign = w.sentAway(at, h, r, p)
		return true
	}
	return w.fail(at, "translation", "to "+at2(dst, p.proto), w.sentAway(at, h, r, p))
}

// sentAway is the cause when a rule of others sends a packet somewhere else.
func (w *walk) sentAway(at place, h ruleset.Hit, r *Rule, p packet) *cause {
	dst := h.Changed.Dst
	c := because(ForeignNAT, "%s table %s %s, chain %s, sends what goes to %s to %s instead: %s", at.of(), r.Family, r.Table, r.Chain,
		at2(netip.AddrPortFrom(p.dst, p.dport), p.proto), at2(dst, p.proto), r.Text)
	if h.Legacy {
		c.advise("delete the rule: iptables-legacy -t %s -S %s", h.Table, h.Chain)
	} else {
		c.mend("%s", at.cmd(fmt.Sprintf("nft delete rule %s %s %s handle %d", r.Family, r.Table, r.Chain, r.Handle)))
	}
	c.rule = r
	return c
}

// untracked is the cause when a rule keeps the connection from being tracked, and so
// translated.
func (w *walk) untracked(at place, fw firewall, h ruleset.Hit) *cause {
	r := w.ruleOf(at, fw, h)
	c := because(HostFirewall, "%s table %s %s, chain %s, keeps what goes to %s from being tracked, so that its port is not translated: %s", at.of(), r.Family, r.Table, r.Chain, w.b.Name, r.Text)
	c.rule = r
	return c.mend("%s", at.cmd(fmt.Sprintf("nft delete rule %s %s %s handle %d", r.Family, r.Table, r.Chain, r.Handle)))
}

func at2(a netip.AddrPort, proto string) string { return at(a.Addr(), a.Port(), proto) }

// bridgeRules passes a packet through what is hung into bridges: netdev's ingress at the
// port, and the family bridge.
func (w *walk) bridgeRules(from, br, hook string, p *packet) bool {
	q := *p
	q.in, q.out, q.ct = from, p.outPort, nil
	hooks := []string{"prerouting", hook, "postrouting"}
	switch hook {
	case "input":
		hooks = hooks[:2]
	case "output":
		hooks, q.in = hooks[1:], br
	}
	if from != "" {
		if _, ok := w.rules(hostPlace, "netdev", "ingress", q); !ok {
			return false
		}
	}
	for _, h := range hooks {
		if _, ok := w.rules(hostPlace, "bridge", h, q); !ok {
			return false
		}
	}
	return true
}

// ingress is what is hung to the interface itself, before all else.
func (w *walk) ingress(at place, p packet) bool {
	if p.in == "lo" || at.host() && p.inPort != "" {
		p.inPort = ""
	}
	_, ok := w.rules(at, "netdev", "ingress", p)
	return ok
}
