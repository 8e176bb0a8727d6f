package why

import (
	"fmt"
	"time"

	"linkspan/dataplane/ruleset"
	"linkspan/diagnose"
	"linkspan/diagnose/flows"
)

func freshKnown() map[string]*ruleset.Conntrack { return map[string]*ruleset.Conntrack{} }

// back follows the answer from where the question ended to A.
func (w *walk) back(end arrival) bool {
	if w.b.Kind == diagnose.EndElsewhere && end.outside {
		return w.backAcross(end)
	}
	p := w.reached
	ans := packet{src: p.dst, dst: p.src, sport: p.dport, dport: p.sport, proto: p.proto, answer: true}
	var from start
	if end.outside {
		from = start{place: end.place, outside: true, link: end.link}
	} else if from.place = end.place; w.reached.dst != end.p.dst {
		if s, _ := w.world.Holder(w.reached.dst); s != nil { // the keeper's second leg
			from.place = place{ns: s.Path, name: s.OwnerName, sandbox: s}
		}
	}
	got, ok := w.follow(from, ans)
	if !ok {
		return false
	}
	home := w.placeOf(w.a)
	switch {
	case w.a.Kind == diagnose.EndOutside && got.outside:
		return true
	case w.a.Kind == diagnose.EndOutside, got.outside, got.place.ns != home.ns && w.reached.dst == end.p.dst:
		where := got.place.name
		if got.outside {
			where = "outside, by " + got.link
		}
		return w.fail(got.place, "answer", "it ends at "+where, because(WrongRoute, "the answers of %s do not come back to %s: they end at %s.", w.b.Name, w.a.Name, where).
			advise("look at the way back: %s", from.place.cmd("ip route get "+ans.dst.String())))
	}
	return true
}

// Drops are what our rules dropped lately (`linkspan drops`).
type Drops interface {
	Recent(flows.Match) []flows.Drop
}

// since is how far back drops are told.
const since = 10 * time.Minute

// after adds what has already happened to the answer.
func (w *walk) after() {
	if w.drops == nil || !w.first.dst.IsValid() {
		return
	}
	m := flows.Match{To: w.first.dst, Port: w.first.dport, Proto: w.first.proto, Since: time.Now().Add(-since)}
	if w.a.Kind != diagnose.EndOutside {
		m.From = w.first.src
	}
	recent := w.drops.Recent(m)
	if len(recent) == 0 {
		return
	}
	d := recent[0]
	text := fmt.Sprintf("%d such packets were dropped in the last %d minutes, the latest at %s by rule %s: %s", len(recent), int(since.Minutes()),
		d.Time.Format(time.TimeOnly), d.Rule, d.Why)
	if w.ans.Verdict == Reaches {
		text += "; now they would pass"
	}
	w.note("", "", "%s", text)
}
