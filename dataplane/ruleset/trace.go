package ruleset

import (
	"fmt"
)

// Verdicts of a trace.
const (
	Accept   = "accept"
	Drop     = "drop"
	Rejected = "reject"
	Queued   = "queue"
	Unclear  = "unknown"
	NoRoute  = "no-route"
)

// Trace is what became of a packet.
type Trace struct {
	// Verdict is "accept", "drop", "reject", "queue" (a program decides), "no-route", or
	// "unknown": Reason says what was not understood, Rule where.
	Verdict string `json:"verdict"`
	// Hook is where it ended.
	Hook string `json:"hook"`
	// Rule decided; nil when nothing forbade it.
	Rule   *Hit   `json:"rule,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Packet is as it is at the end, its connection included.
	Packet Packet `json:"packet"`
	// Hits are the rules that matched, in order.
	Hits []Hit `json:"hits,omitempty"`
	// Assumed are rules whose match was assumed, such as a rate that is not exceeded.
	Assumed []string `json:"assumed,omitempty"`
}

// Hit is one rule that matched, or a policy.
type Hit struct {
	Hook    string `json:"hook"`
	Family  string `json:"family"`
	Table   string `json:"table"`
	Chain   string `json:"chain"`
	Handle  uint64 `json:"handle,omitempty"`
	Legacy  bool   `json:"legacy,omitempty"`
	Policy  bool   `json:"policy,omitempty"` // the chain's policy, no rule
	Text    string `json:"text"`
	Comment string `json:"comment,omitempty"`
	Verdict string `json:"verdict,omitempty"`
	// Changed is what a translation made of the packet.
	Changed *Tuple `json:"changed,omitempty"`
	Note    string `json:"note,omitempty"`
}

// String is how a person would quote it.
func (h Hit) String() string {
	s := fmt.Sprintf("table %s %s, chain %s", h.Family, h.Table, h.Chain)
	if h.Legacy {
		s = fmt.Sprintf("iptables-legacy table %s, chain %s", h.Table, h.Chain)
	}
	if h.Policy {
		return s + ": " + h.Text
	}
	if h.Handle != 0 && !h.Legacy {
		s += fmt.Sprintf(", handle %d", h.Handle)
	}
	return s + ": " + h.Text
}

// DNAT says whether the destination was translated.
func (t Trace) DNAT() bool { return t.Packet.CT != nil && t.Packet.CT.DNAT }

// SNAT says whether the source was.
func (t Trace) SNAT() bool { return t.Packet.CT != nil && t.Packet.CT.SNAT }

// Passed says that nothing stopped it.
func (t Trace) Passed() bool { return t.Verdict == Accept }

func mirror(t Tuple) Tuple { return Tuple{Src: t.Dst, Dst: t.Src} }
