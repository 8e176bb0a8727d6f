package lab

import (
	"fmt"
	"strings"
)

// Faults of the wires of a switch. The hosts see no carrier go: a router on the way
// fails like this. Each fault replaces the one before on the same port and is ended by
// Heal; rules are nft's bridge family in the switch's own namespace.

// faults is the table that holds them.
const faults = "faults"

// Silence drops all that comes from and goes to a host.
func (s *Switch) Silence(h *Host) {
	s.host.lab.t.Helper()
	s.fault(h, "drop", "drop")
}

// Lose drops percent of the packets in each direction, at random.
func (s *Switch) Lose(h *Host, percent int) {
	s.host.lab.t.Helper()
	r := fmt.Sprintf("numgen random mod 100 < %d drop", percent)
	s.fault(h, r, r)
}

// Deafen drops what goes to a host: it is heard and hears nothing.
func (s *Switch) Deafen(h *Host) {
	s.host.lab.t.Helper()
	s.fault(h, "", "drop")
}

// BlackHole drops IPv4 packets longer than size bytes that go to or come from a host,
// and tells nobody: a router that has a small MTU and sends no ICMP.
func (s *Switch) BlackHole(h *Host, size int) {
	s.host.lab.t.Helper()
	r := fmt.Sprintf("ether type ip ip length > %d drop", size)
	s.fault(h, r, r)
}

// Throttle bounds the rate of what goes to a host, such as "50mbit" (tc-tbf(8)).
func (s *Switch) Throttle(h *Host, rate string) {
	s.host.lab.t.Helper()
	s.host.Run("tc", "qdisc", "replace", "dev", s.port(h), "root", "tbf", "rate", rate, "burst", "64k", "latency", "50ms")
}

// Heal ends what the others began.
func (s *Switch) Heal(h *Host) {
	s.host.lab.t.Helper()
	s.fault(h, "", "")
	_, _ = s.host.Try("tc", "qdisc", "del", "dev", s.port(h), "root")
}

// Cut pulls a host's cable: the host sees its carrier go.
func (s *Switch) Cut(h *Host) { s.host.lab.t.Helper(); s.wires[h].Cut() }

// Mend plugs it in again.
func (s *Switch) Mend(h *Host) { s.host.lab.t.Helper(); s.wires[h].Mend() }

func (s *Switch) port(h *Host) string {
	w, plugged := s.wires[h]
	if !plugged {
		s.host.lab.t.Fatalf("lab: %s is not plugged into %s", h.Name, s.host.Name)
	}
	return w.DevB
}

// fault sets the rules of a host's port, in one transaction.
func (s *Switch) fault(h *Host, from, to string) {
	s.host.lab.t.Helper()
	dev := s.port(h)
	var b strings.Builder
	fmt.Fprintf(&b, "table bridge %s {\n\tchain forward { type filter hook forward priority 0; }\n\tchain %s_in { }\n\tchain %s_out { }\n}\n", faults, dev, dev)
	fmt.Fprintf(&b, "flush chain bridge %s %s_in\nflush chain bridge %s %s_out\n", faults, dev, faults, dev)
	if from != "" {
		fmt.Fprintf(&b, "add rule bridge %s %s_in %s\n", faults, dev, from)
	}
	if to != "" {
		fmt.Fprintf(&b, "add rule bridge %s %s_out %s\n", faults, dev, to)
	}
	if out, _ := s.host.Try("nft", "list", "chain", "bridge", faults, "forward"); !strings.Contains(out, fmt.Sprintf("jump %s_in", dev)) {
		fmt.Fprintf(&b, "add rule bridge %s forward iifname %s jump %s_in\nadd rule bridge %s forward oifname %s jump %s_out\n", faults, dev, dev, faults, dev, dev)
	}
	cmd := s.host.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(b.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		s.host.lab.t.Fatalf("lab: fault on %s: %v: %s\n%s", h.Name, err, out, b.String())
	}
}
