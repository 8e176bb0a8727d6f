// Package why answers "why can A not reach B": it walks what is declared, then the live
// kernel in the order in which a packet meets it, there and back, and says in one
// sentence what stops it and which command mends that. It changes nothing.
package why

import (
	"net/netip"

	"linkspan/diagnose"
)

// Verdict is yes, no, or that it cannot be known.
type Verdict string

// The verdicts.
const (
	Reaches Verdict = "reaches"
	Blocked Verdict = "blocked"
	Unsure  Verdict = "unknown"
)

// Answer is what is said to the question.
type Answer struct {
	Question string       `json:"question"` // "why web db:5432/tcp"
	From     diagnose.End `json:"from"`
	To       diagnose.End `json:"to"`
	Proto    string       `json:"proto,omitempty"` // "tcp", "udp", "sctp", "icmp"
	Port     uint16       `json:"port,omitempty"`
	// Src and Dst are the addresses of the packet that was followed, as it leaves A.
	Src netip.Addr `json:"src,omitzero"`
	Dst netip.Addr `json:"dst,omitzero"`

	Verdict Verdict `json:"verdict"`
	Code    Code    `json:"code"`
	// Sentence says it to a person, and names the object that is to blame.
	Sentence string `json:"sentence"`
	// Cure is one shell line that mends it; Advice says in words what to do where no
	// command can.
	Cure   string `json:"cure,omitempty"`
	Advice string `json:"advice,omitempty"`
	// Host is the host of the mesh where what is to blame is, and where the cure is to be
	// typed; Asked is the one that was asked. "": there is no other.
	Host  string `json:"host,omitempty"`
	Asked string `json:"asked,omitempty"`
	// Rule is the firewall's that is to blame.
	Rule *Rule `json:"rule,omitempty"`
	// Missing is what could not be read, when the verdict is unknown.
	Missing []string `json:"missing,omitempty"`
	// Notes are what is worth knowing besides the verdict.
	Notes []Note `json:"notes,omitempty"`
	// Steps are the walk, in the order of the packet.
	Steps []Step `json:"steps"`
	// Probe is what a real packet met, with --probe.
	Probe *Probe `json:"probe,omitempty"`
	// TookMS is how long the daemon took, in milliseconds.
	TookMS float64 `json:"took_ms"`
}

// Note is something besides the verdict.
type Note struct {
	Code Code   `json:"code,omitempty"`
	Text string `json:"text"`
	Cure string `json:"cure,omitempty"`
	// Host is where that is, when it is another host of the mesh.
	Host string `json:"host,omitempty"`
}

// Rule is one of nftables' (or a chain's policy).
type Rule struct {
	Namespace string `json:"namespace,omitempty"` // "host", or a container's name
	Family    string `json:"family"`
	Table     string `json:"table"`
	Chain     string `json:"chain"`
	Handle    uint64 `json:"handle,omitempty"`
	Text      string `json:"text"`
	// Owner is whose it is, as far as one can tell: "Linkspan", "ufw", "firewalld",
	// "dockerd", "iptables".
	Owner string `json:"owner,omitempty"`
}

// State is how a step turned out.
type State string

// The states of a step.
const (
	Good  State = "ok"
	Bad   State = "no"
	Open  State = "unknown" // it could not be looked at
	Aside State = "note"    // it decides nothing
)

// Part is what a step belongs to.
type Part string

// The parts of the walk.
const (
	Declared Part = "declared"
	There    Part = "there" // the packet's way
	Back     Part = "back"  // its answer's
)

// Step is one thing that was looked at.
type Step struct {
	Part  Part   `json:"part"`
	Host  string `json:"host,omitempty"` // of the mesh, where a way leads over several
	Where string `json:"where"`          // "web", "host", "network shop"
	Look  string `json:"look"`           // what was looked at: "route to 172.20.0.3"
	Found string `json:"found"`          // what was found: "eth0, directly"
	State State  `json:"state"`
	Code  Code   `json:"code,omitempty"` // of a step that is not ok
}

// Probe is what a real packet met.
type Probe struct {
	Sent    string   `json:"sent"` // "TCP SYN from 172.20.0.2 to 172.20.0.3:5432"
	Verdict Verdict  `json:"verdict"`
	Heard   string   `json:"heard"` // "SYN-ACK after 0.1 ms", "nothing within 300 ms"
	Trace   []string `json:"trace,omitempty"`
	Agrees  bool     `json:"agrees"`
}

// ExitCode is the verb's: 0 reaches, 2 does not, 1 could not tell.
func (a *Answer) ExitCode() int {
	switch a.Verdict {
	case Reaches:
		return 0
	case Blocked:
		return 2
	}
	return 1
}
