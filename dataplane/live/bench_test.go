package live_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"linkspan/dataplane"
	"linkspan/dataplane/live"
	"linkspan/dataplane/reading"
	"linkspan/dataplane/ruleset"
	"linkspan/internal/lab"
	"linkspan/probe"
)

// busy is a host with our page and 10,000 published ports.
func busy(b *testing.B) *lab.Host {
	probe.Require(b, probe.NFT, probe.NFTProgram)
	h := lab.New(b).Host("h")
	nft(h, dataplane.BasePage("linkspan").Text)
	var s strings.Builder
	s.WriteString("add element inet linkspan publish4_any {")
	for i := range 10_000 {
		fmt.Fprintf(&s, "tcp . %d : 172.17.%d.%d . %d,", i+1, i/250, i%250+2, i+1)
	}
	s.WriteString("}")
	nft(h, s.String())
	return h
}

func BenchmarkRuleset(b *testing.B) {
	h := busy(b)
	k := kernel()
	b.ResetTimer()
	for range b.N {
		if _, err := k.Ruleset(b.Context(), h.NS); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkForwarded(b *testing.B) {
	h := busy(b)
	k := kernel()
	rs, err := k.Ruleset(b.Context(), h.NS)
	if err != nil {
		b.Fatal(err)
	}
	env := ruleset.Env{Route: func(p ruleset.Packet) ruleset.Route {
		return ruleset.Route{Out: "docker0", Local: p.Dst == netip.MustParseAddr("192.0.2.1")}
	}, AddrType: func(a netip.Addr, _ string) string {
		if a == netip.MustParseAddr("192.0.2.1") {
			return "local"
		}
		return "unicast"
	}}
	p := ruleset.Packet{In: "eth0", Src: netip.MustParseAddr("192.0.2.9"), Dst: netip.MustParseAddr("192.0.2.1"), Proto: "tcp", DstPort: 5000}
	b.ResetTimer()
	for range b.N {
		if tr := rs.Forwarded(p, env); !tr.DNAT() {
			b.Fatal(tr)
		}
	}
}

func BenchmarkQuestions(b *testing.B) {
	h := lab.New(b).Host("h")
	k := kernel()
	for name, fn := range map[string]func() error{
		"interfaces": func() error { _, err := k.Interfaces(b.Context(), h.NS); return err },
		"route": func() error {
			_, err := k.Route(b.Context(), h.NS, reading.RouteQuery{Dst: netip.MustParseAddr("127.0.0.1")})
			return err
		},
		"routes":     func() error { _, err := k.Routes(b.Context(), h.NS); return err },
		"neighbours": func() error { _, err := k.Neighbours(b.Context(), h.NS); return err },
		"sockets":    func() error { _, err := k.Sockets(b.Context(), h.NS); return err },
		"flows":      func() error { _, err := k.Flows(b.Context(), h.NS, reading.FlowFilter{Proto: "tcp"}); return err },
		"sysctl":     func() error { _, err := k.Sysctl(b.Context(), h.NS, "net/ipv4/ip_forward"); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				if err := fn(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTracePacket(b *testing.B) {
	h := busy(b)
	ln := h.Listen("tcp", "127.0.0.1:0")
	defer ln.Close()
	k := kernel()
	b.ResetTimer()
	for range b.N {
		if got, err := k.TracePacket(b.Context(), live.Probe{NS: h.NS, Dst: netip.MustParseAddrPort(ln.Addr().String()), Proto: "tcp"}); err != nil || !got.Answered {
			b.Fatal(got, err)
		}
	}
}
