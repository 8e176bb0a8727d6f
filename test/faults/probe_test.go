package faults

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// probes: a real packet, followed by a trace of the kernel's, agrees with what was
// read; and neither question leaves a trace on the host.
func (s *stage) probes(t *testing.T) {
	if os.Getenv(trafficOnly) != "" {
		return
	}
	s.prepare(t, "")
	// IPv6's own doings (duplicate address detection) and what bridges learn are left out.
	state := func() []string {
		out := s.d.Host.Run("sh", "-c", "nft -s list ruleset; ip -o -4 addr; ip route; ip rule")
		return strings.Split(out, "\n")
	}
	for _, c := range []struct{ name, broken, undo, a, b, code string }{
		{name: "tcp", a: "ann", b: "bob:80", code: "ok"},
		{name: "udp", a: "ann", b: "bob:80/udp", code: "ok"},
		{name: "ping", a: "ann", b: "bob", code: "ok"},
		{name: "outside", a: "ann", b: "$M:80", code: "ok"},
		{name: "from the host", a: "host", b: "$H:8080", code: "ok"},
		{name: "other networks", a: "ann", b: "cat:80", code: "no-shared-network"},
		{name: "refused", a: "ann", b: "bob:81", code: "listens-elsewhere"},
		{name: "a firewall", broken: wall("ip", "filter hook forward priority 10", "ip daddr $M drop"), undo: "nft delete table ip wall",
			a: "ann", b: "$M:80", code: "host-firewall"},
		{name: "a firewall inside", broken: "inside bob " + wall("inet", "filter hook input priority 0", "tcp dport 80 drop"), undo: "inside bob nft delete table inet wall",
			a: "ann", b: "bob:80", code: "container-firewall"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.broken != "" {
				s.run(t, c.broken)
				t.Cleanup(func() { s.clear(t, c.undo) })
			}
			before := state()
			a := s.why(t, "--probe", c.a, c.b)
			if a.Code != c.code || a.Probe == nil || !a.Probe.Agrees {
				t.Errorf("want %s, and that the packet agrees (%+v):\n%s", c.code, a.Probe, a)
			}
			if d := cmp.Diff(before, state()); d != "" {
				t.Errorf("the question changed the host:\n%s", d)
			}
		})
	}
}
