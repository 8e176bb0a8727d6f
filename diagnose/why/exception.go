package why

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"linkspan/dataplane/ruleset"
	"linkspan/diagnose"
)

// exception lets in what was asked for, and no more, before the rule that stops it: this
// protocol and port between these addresses, and the answers where the same chain stops
// them too.
func (w *walk) exception(at place, hook string, p packet, t ruleset.Trace, r *Rule) string {
	lines := []string{w.allow(at, hook, p, t, r)}
	if !p.answer && w.stopsAnswers(at, hook, p, t, r) {
		back := p
		back.src, back.dst, back.sport, back.dport, back.answer = p.dst, p.src, p.dport, p.sport, true
		lines = append(lines, w.allow(at, hook, back, t, r))
	}
	return joined(lines)
}

// through are the hooks that question and answer both pass in one stack.
var through = []string{"prerouting", "forward", "postrouting"}

// stopsAnswers says that the chain that stops the question would stop the answer too.
func (w *walk) stopsAnswers(at place, hook string, p packet, t ruleset.Trace, r *Rule) bool {
	fw, err := w.fire(at.ns)
	if err != nil || !slices.Contains(through, hook) {
		return false
	}
	q := p.rules()
	q.In, q.Out, q.PhysIn, q.PhysOut = p.out, p.in, p.outPort, p.inPort
	if hook == "prerouting" && q.In == "" {
		if to, err := w.live.route(at.ns, routeTo(p.dst)); err == nil {
			q.In = to.Link
		}
	}
	q.CT = t.Packet.CT
	a := q.Answer(q.In)
	a.Out, a.PhysIn, a.PhysOut = q.Out, q.PhysIn, q.PhysOut
	family := ""
	if r.Family == "bridge" || r.Family == "netdev" {
		family = r.Family
	}
	back := fw.walk(family, hook, a)
	return (back.Verdict == ruleset.Drop || back.Verdict == ruleset.Rejected) && back.Rule != nil && back.Rule.Table == r.Table && back.Rule.Chain == r.Chain
}

// anybody says that an address stands for whoever is outside.
func (w *walk) anybody(a netip.Addr) bool {
	return !a.IsValid() || a == somewhere4 || a == somewhere6 || w.a.Kind == diagnose.EndOutside && !w.a.Addr.IsValid() && a == w.first.src
}

// allow is the one rule that accepts a packet, as the table's own program writes it.
func (w *walk) allow(at place, hook string, p packet, t ruleset.Trace, r *Rule) string {
	legacy := t.Rule != nil && t.Rule.Legacy
	if tool := w.iptables(at, p, r, legacy); tool != "" {
		table := ""
		if r.Table != "filter" {
			table = " -t " + r.Table
		}
		return at.cmd(fmt.Sprintf("%s%s -I %s %s-j ACCEPT", tool, table, r.Chain, w.matchIptables(p)))
	}
	fam := "ip"
	if p.dst.Is6() {
		fam = "ip6"
	}
	var match []string
	if !w.anybody(p.src) {
		match = append(match, fam+" saddr "+p.src.String())
	}
	if !w.anybody(p.dst) {
		match = append(match, fam+" daddr "+p.dst.String())
	}
	switch {
	case p.proto == "icmp" && p.dst.Is6():
		match = append(match, "meta l4proto ipv6-icmp")
	case p.proto == "icmp":
		match = append(match, "meta l4proto icmp")
	case p.answer && p.sport != 0:
		match = append(match, fmt.Sprintf("%s sport %d", p.proto, p.sport))
	case p.dport != 0:
		match = append(match, fmt.Sprintf("%s dport %d", p.proto, p.dport))
	}
	// Before conntrack, and below IP, a packet has no state.
	if p.answer && hook != "prerouting" && (r.Family == "ip" || r.Family == "ip6" || r.Family == "inet") {
		match = append(match, "ct state established")
	}
	place := ""
	if t.Rule != nil && !t.Rule.Policy && r.Handle != 0 {
		place = fmt.Sprintf(" handle %d", r.Handle)
	}
	return at.cmd(fmt.Sprintf("nft insert rule %s %s %s%s %s accept", r.Family, r.Table, r.Chain, place, strings.Join(match, " ")))
}

// iptables is the program that a table is iptables's of: nft's rules in it would keep
// iptables from listing it. "" for the tables of others.
func (w *walk) iptables(at place, p packet, r *Rule, legacy bool) string {
	tool := "iptables"
	if p.dst.Is6() {
		tool = "ip6tables"
	}
	if legacy {
		return tool + "-legacy"
	}
	if r.Family != "ip" && r.Family != "ip6" || !slices.Contains([]string{"filter", "nat", "mangle", "raw", "security"}, r.Table) {
		return ""
	}
	fw, err := w.fire(at.ns)
	if err != nil {
		return ""
	}
	for _, c := range append(fw.chains(r.Family, r.Table), r.Chain) {
		if slices.Contains([]string{"INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"}, c) {
			return tool + "-nft"
		}
	}
	return ""
}

// matchIptables writes the packet as iptables does (iptables-extensions(8)).
func (w *walk) matchIptables(p packet) string {
	m := ""
	if !w.anybody(p.src) {
		m += "-s " + p.src.String() + " "
	}
	if !w.anybody(p.dst) {
		m += "-d " + p.dst.String() + " "
	}
	switch {
	case p.proto == "icmp" && p.dst.Is6():
		m += "-p ipv6-icmp "
	case p.proto != "":
		m += "-p " + p.proto + " "
	}
	switch {
	case p.answer && p.sport != 0:
		m += fmt.Sprintf("--sport %d ", p.sport)
	case p.dport != 0:
		m += fmt.Sprintf("--dport %d ", p.dport)
	}
	if p.answer {
		m += "-m conntrack --ctstate ESTABLISHED "
	}
	return m
}
