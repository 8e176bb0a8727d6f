package live_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"linkspan/dataplane"
	"linkspan/dataplane/live"
	"linkspan/dataplane/ruleset"
	"linkspan/internal/lab"
	"linkspan/probe"
)

const probed = `table inet f {
	chain pre { type nat hook prerouting priority dstnat; tcp dport 8080 dnat ip to 10.2.0.2:80 comment "published"; }
	chain f { type filter hook forward priority filter; policy drop
		ct state established,related accept
		tcp dport { 80, 81 } counter accept comment "web"
		meta l4proto { icmp, ipv6-icmp } accept
		udp dport 53 jump sub
		tcp dport 82 drop comment "no"
		tcp dport 83 reject with tcp reset
		tcp dport 84 reject with icmpx admin-prohibited
		udp dport 54 accept
	}
	chain sub { counter accept; }
}`

func TestTracePacket(t *testing.T) {
	w := newWorld(t)
	nft(w.r, probed)
	ln := w.s.Listen("tcp", ":80")
	defer ln.Close()
	u := w.s.ListenPacket("udp", ":53")
	defer u.Close()
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = u.WriteTo(b[:n], from)
		}
	}()
	for _, c := range []struct {
		proto string
		dst   string
		heard string
		rule  string // that decided; "": none
		hit   string // that is among those met
	}{
		{"tcp", "10.2.0.2:80", "SYN-ACK", "", `tcp dport { 80, 81 } counter accept comment "web"`},
		{"tcp", "[fd00:2::2]:80", "SYN-ACK", "", `tcp dport { 80, 81 } counter accept comment "web"`},
		{"tcp", "10.1.0.1:8080", "SYN-ACK", "", "tcp dport 8080 dnat ip to 10.2.0.2:80"},
		{"tcp", "10.2.0.2:81", "RST", "", `tcp dport { 80, 81 } counter accept comment "web"`},
		{"tcp", "10.2.0.2:82", "nothing", `tcp dport 82 drop comment "no"`, ""},
		{"tcp", "10.2.0.2:83", "RST", "tcp dport 83 reject with tcp reset", ""},
		{"tcp", "10.2.0.2:84", "ICMP admin-prohibited from 10.1.0.1", "tcp dport 84 reject with icmpx admin-prohibited", ""},
		{"tcp", "10.2.0.2:85", "nothing", "policy drop", ""},
		{"udp", "10.2.0.2:53", "an answer", "", "udp dport 53 jump sub"},
		{"udp", "10.2.0.2:54", "ICMP port-unreachable from 10.2.0.2", "", "udp dport 54 accept"},
		{"icmp", "10.2.0.2:0", "echo reply", "", "meta l4proto { icmp, ipv6-icmp } accept"},
		{"icmp", "[fd00:2::2]:0", "echo reply", "", "meta l4proto { icmp, ipv6-icmp } accept"},
		{"tcp", "10.1.0.77:80", "", "", ""},
	} {
		t.Run(c.proto+" "+c.dst, func(t *testing.T) {
			got, err := w.k.TracePacket(t.Context(), live.Probe{NS: w.c.NS, Dst: netip.MustParseAddrPort(c.dst), Proto: c.proto, Payload: []byte("x"), Also: []string{w.r.NS, w.s.NS, w.r.NS}})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(got.Heard, c.heard) {
				t.Errorf("heard %q, not %q", got.Heard, c.heard)
			}
			if len(got.Traces) != 3 || got.Traces[1].NS != w.r.NS {
				t.Fatalf("traces %+v", got.Traces)
			}
			tr := got.Traces[1]
			// To its own network it asks for a neighbour first, whom there is not.
			if want := c.dst != "10.1.0.77:80"; tr.Seen != want || !got.Traces[0].Seen {
				t.Errorf("seen at home %v, by the router %v", got.Traces[0].Seen, tr.Seen)
			}
			rule := ""
			if tr.Rule != nil {
				rule = tr.Rule.Text
			}
			if rule != c.rule {
				t.Errorf("the rule is %q, not %q\n%s", rule, c.rule, hits(tr.Trace))
			}
			found := c.hit == ""
			for _, h := range tr.Hits {
				found = found || strings.HasPrefix(h.Text, c.hit)
			}
			if !found {
				t.Errorf("%q is not among the rules met:\n%s", c.hit, hits(tr.Trace))
			}
			// The evaluation says the same.
			rs, err := w.k.Ruleset(t.Context(), w.r.NS)
			if err != nil {
				t.Fatal(err)
			}
			if len(rs.Tables) != 1 {
				t.Errorf("a table is left: %d", len(rs.Tables))
			}
			env, err := w.k.Env(t.Context(), w.r.NS)
			if err != nil {
				t.Fatal(err)
			}
			said := rs.Forwarded(ruleset.Packet{In: w.cDev, Src: got.Src.Addr(), SrcPort: got.Src.Port(), Dst: got.Dst.Addr(), DstPort: got.Dst.Port(), Proto: c.proto}, env)
			if tr.Seen && (said.Verdict != tr.Verdict || hits(said) != hits(tr.Trace)) {
				t.Errorf("said %s\n%straced %s\n%s", said.Verdict, hits(said), tr.Verdict, hits(tr.Trace))
			}
		})
	}
	if _, err := w.k.TracePacket(t.Context(), live.Probe{NS: w.c.NS, Dst: netip.MustParseAddrPort("10.2.0.2:1"), Proto: "dccp"}); err == nil {
		t.Error("a protocol that cannot be sent")
	}
	w.c.Run("ip", "route", "del", "default")
	got, err := w.k.TracePacket(t.Context(), live.Probe{NS: w.c.NS, Dst: netip.MustParseAddrPort("10.2.0.2:80"), Proto: "tcp"})
	if err != nil || got.Heard != "it could not be sent: network is unreachable" {
		t.Errorf("without a route: %+v, %v", got, err)
	}
	nft(w.c, "table ip o { chain o { type filter hook output priority 0; udp dport 9 drop; } }")
	got, err = w.k.TracePacket(t.Context(), live.Probe{NS: w.c.NS, Dst: netip.MustParseAddrPort("10.1.0.1:9"), Proto: "udp"})
	if err != nil || !strings.Contains(got.Heard, "a rule of the sender's own") || got.Traces[0].Rule == nil || got.Traces[0].Rule.Text != "udp dport 9 drop" {
		t.Errorf("dropped at home: %+v, %v", got, err)
	}
}

// TestProbeKilled is the other process of TestProbeDies.
func TestProbeKilled(t *testing.T) {
	ns := os.Getenv("LINKSPAN_TEST_PROBE")
	if ns == "" {
		return // it is a part of TestProbeDies
	}
	_, _ = kernel().TracePacket(t.Context(), live.Probe{NS: ns, Dst: netip.MustParseAddrPort("10.1.0.77:80"), Proto: "tcp", Wait: time.Minute})
}

func TestProbeDies(t *testing.T) {
	w := newWorld(t)
	c := exec.Command(os.Args[0], "-test.run=^TestProbeKilled$")
	c.Env = append(os.Environ(), "LINKSPAN_TEST_PROBE="+w.c.NS)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	tables := func() (all []string) {
		rs, err := w.k.Ruleset(t.Context(), w.c.NS)
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range rs.Tables {
			all = append(all, table.Name)
		}
		return all
	}
	until(t, "the probe's table", func() bool { return len(tables()) == 1 })
	if pid, ok := dataplane.ProbeOwner(tables()[0]); !ok || pid != c.Process.Pid {
		t.Errorf("table %v is of process %d, %v; it is %d's", tables(), pid, ok, c.Process.Pid)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	until(t, "the table to go with its process", func() bool { return len(tables()) == 0 })
}

func TestSweepProbes(t *testing.T) {
	probe.Require(t, probe.NFT, probe.NFTProgram)
	h := lab.New(t).Host("h")
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	gone, alive := fmt.Sprintf("linkspan_probe_%d_1", dead.Process.Pid), fmt.Sprintf("linkspan_probe_%d_2", os.Getpid())
	for _, table := range []string{"inet " + gone, "inet " + alive, "ip " + gone, "inet linkspan"} {
		h.Run("nft", "add", "table", strings.Fields(table)[0], strings.Fields(table)[1])
	}
	swept, err := kernel().SweepProbes(t.Context(), h.NS)
	if err != nil || len(swept) != 1 || swept[0] != gone {
		t.Errorf("swept %v, %v", swept, err)
	}
	if got := strings.Fields(h.Run("nft", "list", "tables")); strings.Join(got, " ") != "table inet "+alive+" table ip "+gone+" table inet linkspan" {
		t.Errorf("left are %v", got)
	}
}
