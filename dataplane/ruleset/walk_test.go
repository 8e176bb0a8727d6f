package ruleset_test

import (
	"net/netip"
	"strings"
	"testing"

	"linkspan/dataplane/ruleset"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// router is a host with two interfaces: 10.1.0.1 at "lan", 10.2.0.1 at "wan".
var router = ruleset.Env{
	Route: func(p ruleset.Packet) ruleset.Route {
		switch {
		case p.Dst == ip("10.1.0.1") || p.Dst == ip("10.2.0.1") || p.Dst.IsLoopback():
			return ruleset.Route{Local: true, Src: p.Dst}
		case netip.MustParsePrefix("10.1.0.0/24").Contains(p.Dst):
			return ruleset.Route{Out: "lan", Src: ip("10.1.0.1")}
		case netip.MustParsePrefix("203.0.113.0/24").Contains(p.Dst):
			return ruleset.Route{Err: "network is unreachable"}
		}
		return ruleset.Route{Out: "wan", Src: ip("10.2.0.1"), Gateway: ip("10.2.0.254")}
	},
	AddrType: func(a netip.Addr, _ string) string {
		if a == ip("10.1.0.1") || a == ip("10.2.0.1") || a.IsLoopback() {
			return "local"
		}
		return "unicast"
	},
	Link: func(name string) (ruleset.Link, bool) {
		l, ok := map[string]ruleset.Link{"lo": {Index: 1, Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
			"lan": {Index: 2, Type: 1, Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}},
			"wan": {Index: 3, Type: 1, Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("10.2.0.1/24")}}}[name]
		return l, ok
	},
}

// build makes a ruleset of one table with one chain for each hook.
func build(family string, chains ...*ruleset.Chain) *ruleset.Ruleset {
	rs := &ruleset.Ruleset{Tables: []*ruleset.Table{{Family: family, Name: "t", Chains: chains}}}
	rs.Link()
	return rs
}

func chain(name, hook, policy string, rules ...[]ruleset.Expr) *ruleset.Chain {
	c := &ruleset.Chain{Name: name, Hook: hook, Type: "filter", Policy: policy}
	for i, r := range rules {
		c.Rules = append(c.Rules, &ruleset.Rule{Handle: uint64(i + 1), Exprs: r})
	}
	return c
}

func rule(e ...ruleset.Expr) []ruleset.Expr { return e }

func says(code string, to ...string) ruleset.Expr {
	return ruleset.Immediate{Verdict: &ruleset.Verdict{Code: code, Chain: strings.Join(to, "")}}
}

var (
	accept  = says("accept")
	drop    = says("drop")
	mystery = ruleset.Unknown{Name: "mystery"}
	never   = ruleset.Cmp{From: 1, Op: 0, Value: []byte{9}} // of an empty register
	syn     = ruleset.Packet{In: "lan", Src: ip("10.1.0.2"), Dst: ip("198.51.100.1"), Proto: "tcp", DstPort: 80}
)

// TestUnknown: what is not understood matters only where it changes the end.
func TestUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		chains []*ruleset.Chain
		want   string
	}{
		"nothing":              {nil, "accept"},
		"it decides":           {[]*ruleset.Chain{chain("f", "forward", "accept", rule(mystery, drop))}, "unknown"},
		"both ways drop":       {[]*ruleset.Chain{chain("f", "forward", "drop", rule(mystery, drop))}, "drop"},
		"both ways accept":     {[]*ruleset.Chain{chain("f", "forward", "accept", rule(mystery, accept))}, "accept"},
		"it only counts":       {[]*ruleset.Chain{chain("f", "forward", "accept", rule(mystery, ruleset.Counter{}))}, "accept"},
		"it does not match":    {[]*ruleset.Chain{chain("f", "forward", "accept", rule(mystery, never, drop))}, "accept"},
		"later drop":           {[]*ruleset.Chain{chain("f", "forward", "accept", rule(mystery, says("return")), rule(drop))}, "unknown"},
		"jump to nothing":      {[]*ruleset.Chain{chain("f", "forward", "accept", rule(mystery, says("jump", "x"))), chain("x", "", "")}, "accept"},
		"jump to drop":         {[]*ruleset.Chain{chain("f", "forward", "accept", rule(mystery, says("jump", "x"))), chain("x", "", "", rule(drop))}, "unknown"},
		"many, all alike":      {[]*ruleset.Chain{chain("f", "forward", "drop", rule(mystery, drop), rule(mystery, drop), rule(mystery, drop))}, "drop"},
		"missing chain":        {[]*ruleset.Chain{chain("f", "forward", "accept", rule(says("jump", "none")))}, "unknown"},
		"circle":               {[]*ruleset.Chain{chain("f", "forward", "accept", rule(says("jump", "x"))), chain("x", "", "", rule(says("jump", "x")))}, "unknown"},
		"missing set":          {[]*ruleset.Chain{chain("f", "forward", "accept", rule(ruleset.Lookup{Set: "none", From: 1}, drop))}, "unknown"},
		"random":               {[]*ruleset.Chain{chain("f", "forward", "accept", rule(ruleset.Numgen{To: 1, Modulus: 2}, ruleset.Cmp{From: 1, Op: 0, Value: []byte{0, 0, 0, 0}}, drop))}, "unknown"},
		"random, overwritten":  {[]*ruleset.Chain{chain("f", "forward", "accept", rule(ruleset.Numgen{To: 1, Modulus: 2}, ruleset.Immediate{To: 1, Value: []byte{1, 0, 0, 0}}, ruleset.Cmp{From: 1, Op: 0, Value: []byte{0, 0, 0, 0}}, drop))}, "accept"},
		"queue":                {[]*ruleset.Chain{chain("f", "forward", "accept", rule(ruleset.Queue{}))}, "queue"},
		"tproxy":               {[]*ruleset.Chain{chain("f", "prerouting", "accept", rule(ruleset.TProxy{}))}, "unknown"},
		"xt":                   {[]*ruleset.Chain{chain("f", "forward", "accept", rule(ruleset.Match{Name: "recent"}, drop))}, "unknown"},
		"xt target":            {[]*ruleset.Chain{chain("f", "forward", "accept", rule(ruleset.Target{Name: "NEW"}))}, "unknown"},
		"a limit is not hit":   {[]*ruleset.Chain{chain("f", "forward", "drop", rule(ruleset.Limit{Rate: 1, Unit: 1}, accept))}, "accept"},
		"nor one beyond":       {[]*ruleset.Chain{chain("f", "forward", "accept", rule(ruleset.Limit{Rate: 1, Unit: 1, Over: true}, drop))}, "accept"},
		"a quota that is used": {[]*ruleset.Chain{chain("f", "forward", "accept", rule(ruleset.Quota{Bytes: 10, Consumed: 11, Over: true}, drop))}, "drop"},
	} {
		t.Run(name, func(t *testing.T) {
			tr := build("inet", c.chains...).Forwarded(syn, router)
			if tr.Verdict != c.want {
				t.Errorf("%s (%s), not %s: %+v", tr.Verdict, tr.Reason, c.want, tr.Rule)
			}
			if tr.Verdict == ruleset.Unclear && tr.Reason == "" {
				t.Error("unknown without a reason")
			}
		})
	}
}

// TestExplosion: many unknown rules that come to nothing.
func TestExplosion(t *testing.T) {
	c := chain("f", "forward", "accept")
	for i := range 200 {
		c.Rules = append(c.Rules, &ruleset.Rule{Handle: uint64(i), Exprs: rule(mystery, says("jump", "x"))})
	}
	tr := build("ip", c, chain("x", "", "", rule(ruleset.Counter{}))).Forwarded(syn, router)
	if tr.Verdict != ruleset.Accept {
		t.Errorf("%+v", tr)
	}
}

func TestEnvMissing(t *testing.T) {
	rs := build("inet", chain("f", "forward", "accept", rule(ruleset.FIB{To: 1, Result: 3, Flags: 2}, ruleset.Cmp{From: 1, Op: 0, Value: []byte{2, 0, 0, 0}}, drop)))
	if tr := rs.Walk(syn, "forward", ruleset.Env{}); tr.Verdict != ruleset.Unclear {
		t.Errorf("without AddrType: %+v", tr)
	}
	if tr := rs.Walk(syn, "forward", router); tr.Verdict != ruleset.Accept {
		t.Errorf("with: %+v", tr)
	}
	if tr := rs.Forwarded(syn, ruleset.Env{}); tr.Verdict != ruleset.Unclear {
		t.Errorf("without Route: %+v", tr)
	}
	lazy := router
	lazy.Route = func(ruleset.Packet) ruleset.Route { return ruleset.Route{Err: "cancelled", Unknown: true} }
	if tr := rs.Forwarded(syn, lazy); tr.Verdict != ruleset.Unclear || !strings.Contains(tr.Reason, "cancelled") {
		t.Errorf("nobody answers: %+v", tr)
	}
	lost := syn
	lost.Dst = ip("203.0.113.1")
	if tr := rs.Forwarded(lost, router); tr.Verdict != ruleset.NoRoute || tr.Reason != "network is unreachable" {
		t.Errorf("no route: %+v", tr)
	}
}

// TestHookByHook: walking one hook after another comes to the same as all at once.
func TestHookByHook(t *testing.T) {
	rs := dump(t, "testdata/dnat.dump")
	p := syn
	p.Dst, p.DstPort = ip("10.1.0.1"), 8080
	whole := rs.Forwarded(p, router)
	if whole.Verdict != ruleset.Accept || whole.Packet.Dst != ip("10.2.0.2") || whole.Packet.Src != ip("10.2.0.1") || !whole.DNAT() || !whole.SNAT() {
		t.Fatalf("%+v", whole)
	}
	for _, hook := range []string{"prerouting", "forward", "postrouting"} {
		if hook == "forward" {
			p.Out = "wan"
		}
		tr := rs.Walk(p, hook, router)
		if tr.Verdict != ruleset.Accept || tr.Hook != hook {
			t.Fatalf("%s: %+v", hook, tr)
		}
		p = tr.Packet
	}
	if p.Dst != whole.Packet.Dst || p.Src != whole.Packet.Src || p.DstPort != 80 || *p.CT != *whole.Packet.CT {
		t.Errorf("%+v\nnot %+v", p, whole.Packet)
	}
	back := rs.Forwarded(p.Answer("wan"), router)
	if back.Verdict != ruleset.Accept || back.Packet.Src != ip("10.1.0.1") || back.Packet.SrcPort != 8080 || back.Packet.Dst != ip("10.1.0.2") {
		t.Errorf("the answer: %+v", back)
	}
	alone := p.Answer("wan")
	alone.CT, alone.State = nil, "new"
	if tr := rs.Forwarded(alone, router); tr.Verdict == ruleset.Accept && tr.Packet.Dst == ip("10.1.0.2") {
		t.Errorf("an answer that nobody waits for: %+v", tr)
	}
}

func TestSetFind(t *testing.T) {
	rs := dump(t, "testdata/sets.dump")
	table := rs.Table("ip", "f")
	for _, c := range []struct {
		set  string
		key  []byte
		want bool
	}{
		{"nets", []byte{10, 2, 0, 1}, false}, {"nets", []byte{10, 2, 0, 2}, true}, {"nets", []byte{10, 2, 0, 3}, true}, {"nets", []byte{10, 2, 0, 4}, false},
		{"nets", []byte{192, 168, 255, 255}, true}, {"nets", []byte{192, 169, 0, 0}, false}, {"nets", []byte{255, 255, 255, 255}, false}, {"nets", []byte{0, 0, 0, 0}, false},
		{"pairs", []byte{10, 2, 0, 4, 0, 80, 0, 0}, true}, {"pairs", []byte{10, 2, 0, 4, 0, 81, 0, 0}, false},
		{"wide", []byte{10, 2, 0, 200, 3, 232, 0, 0}, true}, {"wide", []byte{10, 2, 0, 200, 3, 231, 0, 0}, false}, {"wide", []byte{10, 2, 0, 4, 19, 136, 0, 0}, true},
		{"wide", []byte{1}, false}, {"v", []byte{0, 1}, true}, {"v", []byte{9, 9}, true},
	} {
		if _, ok := table.Set(c.set).Find(c.key); ok != c.want {
			t.Errorf("%v in %s: %v", c.key, c.set, ok)
		}
	}
}

// TestFinite: where they do matter, there is an end too.
func TestFinite(t *testing.T) {
	c := chain("f", "forward", "accept")
	for i := range 200 {
		c.Rules = append(c.Rules, &ruleset.Rule{Handle: uint64(i), Exprs: rule(mystery, ruleset.Immediate{To: 1, Value: []byte{byte(i), 0, 0, 0}}, ruleset.Meta{From: 1, Key: 3})})
	}
	if tr := build("ip", c).Forwarded(syn, router); tr.Verdict != ruleset.Unclear {
		t.Errorf("%+v", tr)
	}
}

// TestEtherType: of what protocol a bridged packet is, is known without the hardware
// addresses it has.
func TestEtherType(t *testing.T) {
	arp := rule(ruleset.Payload{To: 1, Base: 0, Offset: 12, Len: 2}, ruleset.Cmp{From: 1, Op: 0, Value: []byte{8, 6}}, says("drop"))
	of := rule(ruleset.Payload{To: 1, Base: 0, Offset: 6, Len: 6}, ruleset.Cmp{From: 1, Op: 0, Value: []byte{2, 0, 0, 0, 0, 1}}, says("drop"))
	six := ruleset.Packet{Proto: "icmp", Src: ip("fd00::1"), Dst: ip("fd00::2"), State: "new", ICMPType: 128}
	for _, c := range []struct {
		name string
		p    ruleset.Packet
		rule []ruleset.Expr
		want string
	}{
		{"IPv4", syn, arp, ruleset.Accept}, {"IPv6", six, arp, ruleset.Accept},
		{"ARP", ruleset.Packet{Proto: "arp", Src: ip("10.1.0.2"), Dst: ip("10.1.0.3")}, arp, ruleset.Drop},
		{"who sent it", syn, of, ruleset.Unclear},
	} {
		if tr := build("bridge", chain("f", "forward", "accept", c.rule)).WalkIn("bridge", c.p, "forward", router); tr.Verdict != c.want {
			t.Errorf("%s: %+v", c.name, tr)
		}
	}
}
