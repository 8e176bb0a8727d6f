package live

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/reading"
	"linkspan/dataplane/ruleset"
)

// Probe is one packet to be sent, and traced on its way.
type Probe struct {
	NS    string     // who sends: the path of a namespace, "" the host
	Src   netip.Addr // zero: as the kernel chooses
	Dst   netip.AddrPort
	Proto string // "tcp": a SYN; "udp": one datagram; "icmp": one echo request
	// Payload is UDP's.
	Payload []byte
	// Wait is how long an answer is waited for; 0: 300 ms.
	Wait time.Duration
	// Also are other namespaces in which it is traced. NS always is.
	Also []string
}

// Probed is what became of it.
type Probed struct {
	Src netip.AddrPort `json:"src"`
	Dst netip.AddrPort `json:"dst"`
	// Heard is in words: "SYN-ACK", "RST", "echo reply", "an answer", "nothing within
	// 300ms", "ICMP port-unreachable from 10.0.0.1", or why it could not be sent.
	Heard string `json:"heard"`
	// Answered: as one who is reached answers. Refused: that nobody listens there.
	Answered bool          `json:"answered"`
	Refused  bool          `json:"refused,omitempty"`
	From     netip.Addr    `json:"from,omitzero"` // who sent the ICMP error
	Took     time.Duration `json:"took"`
	// Traces are the rules that it met, by namespace.
	Traces []NSTrace `json:"traces"`
}

// NSTrace is a trace with its namespace.
type NSTrace struct {
	NS string `json:"ns"`
	// Seen is false when the packet never came there.
	Seen bool `json:"seen"`
	ruleset.Trace
}

const patience = 300 * time.Millisecond

// settle is for what the kernel still does with the packet when its sender knows already
// that it cannot arrive.
const settle = 5 * time.Millisecond

// TracePacket sends one packet and tells which rules it met and what came back. For its
// time each namespace has a table of the probe's own (ProbePrefix) with a rule that turns
// tracing on for exactly this packet; the table is removed before TracePacket returns.
func (k *Kernel) TracePacket(ctx context.Context, p Probe) (out Probed, err error) {
	p.Wait = max(p.Wait, 0)
	if p.Wait == 0 {
		p.Wait = patience
	}
	p.Dst = netip.AddrPortFrom(p.Dst.Addr().Unmap(), p.Dst.Port())
	if p.Src = p.Src.Unmap(); !p.Src.IsValid() {
		a, err := k.Route(ctx, p.NS, reading.RouteQuery{Dst: p.Dst.Addr(), Proto: p.Proto, DstPort: p.Dst.Port()})
		if err != nil {
			return out, err
		}
		if a.Err != "" {
			return Probed{Dst: p.Dst, Heard: "it could not be sent: " + a.Err}, nil
		}
		p.Src = a.Src
	}
	var s *shooter
	if err := within(p.NS, func() (err error) { s, err = newShooter(p); return err }); err != nil {
		return out, place(p.NS, fmt.Errorf("a probe from %s: %w", p.Src, err))
	}
	defer s.close()
	out.Src, out.Dst = netip.AddrPortFrom(p.Src, s.port), p.Dst

	var tracers []*tracer
	defer func() {
		for _, t := range tracers {
			err = errors.Join(err, t.close(ctx))
		}
	}()
	for i, ns := range append([]string{p.NS}, p.Also...) {
		if slices.Contains(append([]string{p.NS}, p.Also...)[:i], ns) {
			continue
		}
		t, err := k.newTracer(ctx, ns, probeTable(s.port), wanted{s.proto, out.Src, out.Dst, ns == p.NS})
		if err != nil {
			return out, err
		}
		tracers = append(tracers, t)
	}
	start := time.Now()
	s.shoot(ctx, &out)
	out.Took = time.Since(start)
	time.Sleep(settle)
	packet := ruleset.Packet{Src: out.Src.Addr(), SrcPort: out.Src.Port(), Dst: out.Dst.Addr(), DstPort: out.Dst.Port(), Proto: p.Proto}
	for _, t := range tracers {
		t.collect()
		// The probe's own rule tells of the packet too, so it is seen where it came.
		out.Traces = append(out.Traces, NSTrace{NS: t.ns, Seen: len(t.seen) > 0, Trace: t.trace(packet)})
	}
	return out, nil
}

var errnoHeard = map[unix.Errno]string{unix.EHOSTUNREACH: "host unreachable", unix.ENETUNREACH: "network unreachable", unix.EACCES: "prohibited",
	unix.EPERM: "refused by a rule of the sender's own", unix.EMSGSIZE: "too big", unix.EINVAL: "invalid"}

func words(no unix.Errno) string {
	if w := errnoHeard[no]; w != "" {
		return w
	}
	return no.Error()
}
