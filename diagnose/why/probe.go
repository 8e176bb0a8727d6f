package why

import (
	"context"
	"fmt"
	"net/netip"

	"linkspan/diagnose"
)

// Prober sends a real packet and watches the rules that it meets.
type Prober interface {
	Probe(ctx context.Context, q ProbeQuestion) (ProbeAnswer, error)
}

// ProbeQuestion is a packet to be sent.
type ProbeQuestion struct {
	NS    string // pin path; "" is the host
	Src   netip.Addr
	Dst   netip.AddrPort
	Proto string
	// Also are other namespaces in which its way is watched.
	Also []string
}

// ProbeAnswer is what became of it.
type ProbeAnswer struct {
	// Heard is in words: "SYN-ACK after 0.1 ms", "nothing within 300 ms".
	Heard string
	// Answered: the other end answered as one who is reached does. Refused: it answered
	// that nobody listens.
	Answered, Refused bool
	Trace             []string
}

// probe sends a packet as the walk did, and says whether both agree.
func (w *walk) probe(p Prober) {
	if w.a.Kind == diagnose.EndOutside {
		w.note("", "", "a packet from outside cannot be sent from here: ask on the other machine")
		return
	}
	if !w.first.dst.IsValid() || w.a.Container != nil && w.a.Sandbox == nil {
		return
	}
	if w.first.dst == somewhere4 || w.first.dst == somewhere6 {
		w.note("", "", "no packet was sent: say whom to send it to (outside:ADDRESS)")
		return
	}
	q := ProbeQuestion{NS: w.placeOf(w.a).ns, Src: w.a.Addr, Dst: netip.AddrPortFrom(w.first.dst, w.first.dport), Proto: w.first.proto, Also: w.namespaces()}
	sent := fmt.Sprintf("%s from %s to %s", map[string]string{"tcp": "TCP SYN", "udp": "UDP", "icmp": "ping", "sctp": "SCTP INIT"}[q.Proto], w.a.Name, at(w.first.dst, w.first.dport, w.first.proto))
	a, err := p.Probe(w.ctx, q)
	if err != nil {
		w.note(Unknown, "", "no packet could be sent: %v", err)
		return
	}
	r := &Probe{Sent: sent, Heard: a.Heard, Trace: a.Trace, Verdict: Blocked}
	switch {
	case a.Answered:
		r.Verdict = Reaches
	case q.Proto == "udp" && !a.Refused:
		r.Verdict = Unsure // UDP's servers need not answer a packet that they do not know
	}
	w.ans.Probe = r
	w.compare(r, a)
}

// compare holds the walk to the packet. Who answered is reached, whatever was read; who
// did not answer is not called reached.
func (w *walk) compare(r *Probe, a ProbeAnswer) {
	ans := w.ans
	switch r.Agrees = r.Verdict == ans.Verdict || r.Verdict == Unsure; {
	case ans.Verdict == Unsure && r.Verdict == Reaches:
		ans.Verdict, ans.Code, ans.Sentence, ans.Advice = Reaches, OK, fmt.Sprintf("%s reaches %s: a real packet was answered (%s).", w.a.Name, w.target(), a.Heard), ""
		r.Agrees = true
	case ans.Verdict == Unsure:
		r.Agrees = true
		if r.Verdict == Blocked {
			ans.Verdict = Blocked
			ans.Sentence = fmt.Sprintf("%s does not reach %s: a real packet was not answered (%s).", w.a.Name, w.target(), a.Heard)
			for _, s := range ans.Steps {
				if s.State == Open && s.Code != "" {
					ans.Code = s.Code
				}
			}
		}
	case !r.Agrees && stillOpens(ans.Code):
		r.Agrees = true // the kernel answers for a program that does not
	case !r.Agrees:
		ans.Verdict = Unsure
		ans.Missing = append(ans.Missing, fmt.Sprintf("the walk says %s (%s), and a real packet heard: %s", ans.Code, ans.Sentence, a.Heard))
		ans.Code = ProbeDisagrees
		ans.Sentence = fmt.Sprintf("the walk and a real packet from %s to %s do not agree.", w.a.Name, w.target())
	}
}

// stillOpens are the causes with which the kernel answers a SYN all the same.
func stillOpens(c Code) bool {
	switch c {
	case Paused, NotAccepting, MTU, DNSWrong, DNSNameElsewhere, AddressConflict:
		return true
	}
	return false
}
