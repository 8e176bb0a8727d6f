package why

import (
	"strings"

	"linkspan/diagnose"
)

// other walks by IPv6 too where both have it and IPv4 works: programs try IPv6 first (RFC
// 6724), and wait long where its packets are lost. That nobody listens there is no harm:
// they hear so at once.
func (w *walk) other() {
	a, b := w.a, w.b
	if w.ans.Verdict != "" || w.first.dst.Is6() || a.Kind != diagnose.EndContainer || b.Kind != diagnose.EndContainer || b.Endpoint == nil ||
		w.ans.To.Addr.IsValid() || sameSandbox(a.Sandbox, b.Sandbox) || a.Sandbox.Host {
		return
	}
	six := b.Endpoint.Addr6().Addr()
	mine := false
	for i := range a.Sandbox.Endpoints {
		e := &a.Sandbox.Endpoints[i]
		mine = mine || e.NetworkID == b.Endpoint.NetworkID && e.Addr6().IsValid()
	}
	if !six.IsValid() || !mine {
		return
	}
	one := *w
	end := *b
	end.Addr = six
	one.b, one.ans, one.known, one.carries, one.first, one.part = &end, &Answer{Steps: []Step{}}, freshKnown(), nil, packet{}, Declared
	one.run()
	if one.ans.Verdict == Blocked && !inside(one.ans.Code) {
		w.note(one.ans.Code, one.ans.Cure, "by IPv6 (%s) it does not, and programs that try it first wait: %s", six, strings.TrimSuffix(one.ans.Sentence, "."))
		return
	}
	if one.ans.Verdict == "" && len(one.ans.Missing) == 0 {
		w.good(w.placeOf(a), "IPv6", "reaches %s too", six)
	}
}
