package ruleset

import (
	"cmp"
	"reflect"
	"slices"
)

// Walk follows a packet through one hook: "prerouting", "input", "forward", "output",
// "postrouting". See WalkIn for the families bridge and netdev.
func (r *Ruleset) Walk(p Packet, hook string, env Env) Trace {
	return r.WalkIn(p.Family(), p, hook, env)
}

// WalkIn is Walk in a family's hooks: "ip" and "ip6" include "inet".
func (r *Ruleset) WalkIn(family string, p Packet, hook string, env Env) Trace {
	return r.explore(p, env, func(w *walker) {
		// A new connection met after its first hook has been there already.
		if hook != "prerouting" && hook != "output" {
			w.track()
			w.destDone = true
		}
		w.hook(family, hook)
	})
}

// Forwarded follows what comes in at p.In: ingress and prerouting, the routing decision,
// then input, or forward and postrouting.
func (r *Ruleset) Forwarded(p Packet, env Env) Trace {
	return r.explore(p, env, func(w *walker) { w.arrive() })
}

// Sent follows what this host sends: the routing decision, output, postrouting; and what
// it sends to itself comes in at "lo".
func (r *Ruleset) Sent(p Packet, env Env) Trace {
	return r.explore(p, env, func(w *walker) { w.leave() })
}

func (w *walker) arrive() {
	if !w.hook("netdev", "ingress") || !w.hook(w.p.Family(), "prerouting") {
		return
	}
	to, ok := w.route()
	if !ok {
		return
	}
	if to.Local {
		w.hook(w.p.Family(), "input")
		return
	}
	w.p.Out = to.Out
	if w.hook(w.p.Family(), "forward") && w.hook(w.p.Family(), "postrouting") {
		w.hook("netdev", "egress")
	}
}

func (w *walker) leave() {
	w.p.In = ""
	to, ok := w.route()
	if !ok {
		return
	}
	if !w.p.Src.IsValid() {
		w.p.Src = to.Src
	}
	w.p.Out = to.Out
	if to.Local {
		w.p.Out = "lo"
	}
	was := w.p
	if !w.hook(w.p.Family(), "output") {
		return
	}
	// A translated or newly marked packet is routed again (ip_route_me_harder).
	if was.Dst != w.p.Dst || was.Src != w.p.Src || was.Mark != w.p.Mark {
		if to, ok = w.route(); !ok {
			return
		}
		w.p.Out = to.Out
		if to.Local {
			w.p.Out = "lo"
		}
	}
	if !w.hook(w.p.Family(), "postrouting") || !w.hook("netdev", "egress") || !to.Local {
		return
	}
	w.p.In, w.p.Out = "lo", ""
	if w.hook(w.p.Family(), "prerouting") {
		w.hook(w.p.Family(), "input")
	}
}

// route asks where the packet goes now.
func (w *walker) route() (Route, bool) {
	if w.env.Route == nil {
		w.end(Unclear, nil, "the way of the packet is not known")
		return Route{}, false
	}
	to := w.env.Route(w.p)
	if to.Unknown {
		w.end(Unclear, nil, "the way of the packet is not known: "+to.Err)
		return to, false
	}
	if to.Err != "" {
		w.at = "routing"
		w.end(NoRoute, nil, to.Err)
		return to, false
	}
	return to, true
}

// runs bounds how many ways a packet is followed when rules are met that cannot be
// evaluated.
const runs = 64

// steps bounds the rules that are asked for one packet: a second's work.
const steps = 1_000_000

// explore follows a packet. At a rule that cannot be evaluated and would matter, both
// ways are followed: when all of them end alike, it did not matter.
func (r *Ruleset) explore(p Packet, env Env, go_ func(*walker)) Trace {
	p = p.usual()
	left, most := runs, steps
	var try func(choices []bool) Trace
	try = func(choices []bool) Trace {
		left--
		w := &walker{rs: r, env: env, p: p, choices: choices, steps: &most}
		if p.CT != nil {
			c := *p.CT
			w.p.CT = &c
			w.fresh = p.State == "new"
			// What this host sends to itself was translated when it left.
			w.destDone = p.In == "lo"
			w.sourceDone = w.destDone
		}
		go_(w)
		t := w.done()
		if w.open == nil || left <= 0 {
			return t
		}
		yes := try(append(slices.Clip(choices), true))
		if left <= 0 {
			return t
		}
		no := try(append(slices.Clip(choices), false))
		if alike(yes, no) {
			return no
		}
		if yes.Verdict == Unclear {
			return yes
		}
		if no.Verdict == Unclear {
			return no
		}
		return t
	}
	return try(nil)
}

// alike says whether two fates are the same for the one who sent the packet.
func alike(a, b Trace) bool {
	a.Packet.Mark, b.Packet.Mark = 0, 0
	if a.Verdict == Drop && b.Verdict == Drop {
		return true
	}
	return a.Verdict == b.Verdict && a.Verdict != Unclear && a.Hook == b.Hook && reflect.DeepEqual(a.Packet, b.Packet)
}

// step is one that the kernel calls in a hook.
type step struct {
	priority int
	own      bool // conntrack or its translation: before rules of the same priority
	order    int
	run      func() bool
}

// Priorities of conntrack and of translation (netfilter_ipv4.h).
const (
	prioTrack = -200
	prioDNAT  = -100
	prioSNAT  = 100
)

// hook goes through the base chains of a hook; false when the packet ended.
func (w *walker) hook(family, hook string) bool {
	if w.ended {
		return false
	}
	before := w.at
	w.at, w.family = hook, family
	var steps []step
	var nat []*Chain
	order := 0
	for _, t := range w.rs.Tables {
		inet := t.Family == "inet" && (family == "ip" || family == "ip6" || hook == "ingress" && family == "netdev")
		if t.Dormant || t.Family != family && !inet {
			continue
		}
		for _, c := range t.Chains {
			if c.Hook != hook || !w.onDevice(c, hook) {
				continue
			}
			// Of equal priorities the kernel asks the one first that registered last
			// (nf_hook_entries_grow).
			order--
			if c.Type == "nat" {
				nat = append(nat, c)
				continue
			}
			steps = append(steps, step{c.Priority, false, order, func() bool { return w.base(c) }})
		}
	}
	if family == "ip" || family == "ip6" {
		switch hook {
		case "prerouting", "output":
			steps = append(steps, step{prioTrack, true, 0, func() bool { w.track(); return true }},
				step{prioDNAT, true, 0, func() bool { return w.translate(nat, true) }})
		case "input", "postrouting":
			steps = append(steps, step{prioSNAT, true, 0, func() bool { return w.translate(nat, false) }})
		}
	}
	if len(steps) == 0 && family == "netdev" {
		w.at = before // nobody is asked there
	}
	slices.SortStableFunc(steps, func(a, b step) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(b2i(b.own), b2i(a.own)), cmp.Compare(a.order, b.order))
	})
	for _, s := range steps {
		if !s.run() {
			return false
		}
	}
	return true
}

func (w *walker) onDevice(c *Chain, hook string) bool {
	switch hook {
	case "ingress":
		return slices.Contains(c.Devices, w.p.In)
	case "egress":
		return slices.Contains(c.Devices, w.p.Out)
	}
	return true
}
