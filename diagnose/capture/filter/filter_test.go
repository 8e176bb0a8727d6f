package filter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
)

// frames of every sort that the language tells apart.
func frames() (all [][]byte) {
	ether := func(typ uint16, body []byte) []byte {
		f := append(make([]byte, 12), byte(typ>>8), byte(typ))
		return append(append(f, body...), make([]byte, 60)...)
	}
	ip4 := func(proto byte, frag uint16, options int, s, d string, sport, dport uint16) []byte {
		b := make([]byte, 20+options, 60)
		b[0], b[9] = 0x45+byte(options/4), proto
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)+20))
		binary.BigEndian.PutUint16(b[6:], frag)
		a, z := netip.MustParseAddr(s).As4(), netip.MustParseAddr(d).As4()
		copy(b[12:], a[:])
		copy(b[16:], z[:])
		b = binary.BigEndian.AppendUint16(b, sport)
		return binary.BigEndian.AppendUint16(b, dport)
	}
	ip6 := func(next byte, s, d string, rest ...byte) []byte {
		b := make([]byte, 40)
		b[0], b[6] = 0x60, next
		binary.BigEndian.PutUint16(b[4:], 20)
		a, z := netip.MustParseAddr(s).As16(), netip.MustParseAddr(d).As16()
		copy(b[8:], a[:])
		copy(b[24:], z[:])
		return append(b, rest...)
	}
	arp := func(s, d string) []byte {
		b := []byte{0, 1, 8, 0, 6, 4, 0, 1}
		a, z := netip.MustParseAddr(s).As4(), netip.MustParseAddr(d).As4()
		b = append(append(b, 1, 2, 3, 4, 5, 6), a[:]...)
		return append(append(b, 0, 0, 0, 0, 0, 0), z[:]...)
	}
	hosts := []string{"172.17.0.2", "172.17.0.3", "10.0.0.1", "192.168.99.50"}
	for i, s := range hosts {
		d := hosts[(i+1)%len(hosts)]
		for _, p := range [][2]uint16{{40000, 80}, {80, 40000}, {53, 53}, {1, 443}, {8080, 65535}} {
			for _, proto := range []byte{6, 17, 132} {
				all = append(all, ether(0x0800, ip4(proto, 0, 0, s, d, p[0], p[1])), ether(0x0800, ip4(proto, 0x4000, 8, d, s, p[0], p[1])),
					ether(0x0800, ip4(proto, 0x2001, 0, s, d, p[0], p[1])), ether(0x0800, ip4(proto, 0x2000, 0, s, d, p[0], p[1])))
			}
		}
		all = append(all, ether(0x0800, ip4(1, 0, 0, s, d, 0x0800, 0)), ether(0x0800, ip4(47, 0, 0, s, d, 0, 80)), ether(0x0806, arp(s, d)))
	}
	for _, h := range [][2]string{{"fd00::2", "fd00::3"}, {"fd00::3", "2001:db8::1"}, {"fe80::1", "ff02::1"}} {
		for _, proto := range []byte{6, 17, 132} {
			all = append(all, ether(0x86dd, ip6(proto, h[0], h[1], 0x9c, 0x40, 0, 80)), ether(0x86dd, ip6(proto, h[1], h[0], 0, 53, 0x9c, 0x40)))
		}
		all = append(all, ether(0x86dd, ip6(58, h[0], h[1], 128, 0, 0, 0)), ether(0x86dd, ip6(59, h[0], h[1])))
	}
	all = append(all, ether(0x0800, ip4(6, 0, 0, "10.0.0.1", "10.0.0.1", 1, 2)))
	return append(all, ether(0x88cc, nil), ether(0x8100, []byte{0, 1, 8, 0}))
}

var expressions = []string{
	"", "ip", "ip6", "arp", "tcp", "udp", "sctp", "icmp", "icmp6",
	"host 172.17.0.2", "src host 172.17.0.2", "dst 172.17.0.2", "src 10.0.0.1", "src and dst host 10.0.0.1", "src or dst host 10.0.0.1",
	"ip host 172.17.0.3", "arp host 172.17.0.3", "arp src host 172.17.0.3", "host fd00::3", "src host fd00::3", "ip6 host fd00::2", "dst host ff02::1",
	"net 172.16.0.0/12", "src net 10.0.0.0/8", "dst net 192.168.99.0/24", "net 0.0.0.0/0", "net fd00::/16", "net fd00::/64", "dst net 2001:db8::/33", "net fe80::/10",
	"port 80", "src port 80", "dst port 53", "tcp port 80", "udp port 53", "sctp src port 8080", "tcp src or dst port 443", "src and dst port 53",
	"portrange 1-100", "tcp portrange 400-9000", "udp dst portrange 50-53", "portrange 8080-8080",
	"not port 80", "! tcp", "tcp and not port 80", "not (tcp or udp)", "tcp or udp and port 53", "host 172.17.0.2 and (tcp port 80 or udp port 53)",
	"port 80 or 443", "host 172.17.0.2 or 10.0.0.1", "tcp port 80 or 53 and not src host 172.17.0.3", "udp && (port 53 || port 80)", "not not icmp", "not host fd00::2",
	"ip and not net 172.17.0.0/16", "(((tcp)))", "tcp dst port 80 and src net 172.17.0.0/16", "icmp or icmp6 or arp",
}

func run(t *testing.T, code []bpf.RawInstruction, frame []byte) int {
	t.Helper()
	ins, ok := bpf.Disassemble(code)
	if !ok {
		t.Fatal("instructions that nobody knows")
	}
	vm, err := bpf.NewVM(ins)
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func raw(code []reading.Instruction) (out []bpf.RawInstruction) {
	for _, in := range code {
		out = append(out, bpf.RawInstruction{Op: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K})
	}
	return out
}

// tcpdump's own compiler, where it is installed.
func tcpdump(t *testing.T, expr string) (out []bpf.RawInstruction) {
	text, err := exec.Command("tcpdump", "-y", "EN10MB", "-ddd", expr).Output()
	if err != nil {
		t.Fatalf("tcpdump %q: %v", expr, err)
	}
	for i, l := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var in bpf.RawInstruction
		if i > 0 {
			if _, err := fmt.Sscan(l, &in.Op, &in.Jt, &in.Jf, &in.K); err != nil {
				t.Fatal(err)
			}
			out = append(out, in)
		}
	}
	return out
}

// TestSame: what we compile, what we ask of one packet, and what tcpdump compiles say
// the same of every packet.
func TestSame(t *testing.T) {
	_, err := exec.LookPath("tcpdump")
	withTcpdump := err == nil
	if !withTcpdump {
		t.Log("tcpdump is not installed: nothing to compare with but ourselves")
	}
	all := frames()
	for _, text := range expressions {
		e, err := Parse(text, nil)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		code, err := e.Compile(1000)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		loose, same := e.Untranslated()
		looseCode, err := loose.Compile(1000)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		var theirs []bpf.RawInstruction
		if withTcpdump {
			theirs = tcpdump(t, text)
		}
		yes := 0
		for i, f := range all {
			got := run(t, raw(code), f) > 0
			if got {
				yes++
			}
			if withTcpdump && got != (run(t, theirs, f) > 0) {
				t.Errorf("%s: frame %d (%+v): we say %v", text, i, ViewOf(f), got)
			}
			if m := e.Match(ViewOf(f)); m != got {
				t.Errorf("%s: frame %d (%+v): compiled %v, asked %v", text, i, ViewOf(f), got, m)
			}
			l := run(t, raw(looseCode), f) > 0
			if got && !l || same && got != l {
				t.Errorf("%s: frame %d (%+v): %v, untranslated %v", text, i, ViewOf(f), got, l)
			}
		}
		if yes == 0 && text != "" {
			t.Errorf("%s: it lets nothing through, and so tells nothing", text)
		}
	}
}

// TestLong: jumps that are too far for a byte.
func TestLong(t *testing.T) {
	var parts []string
	for i := range 120 {
		parts = append(parts, fmt.Sprintf("host 10.%d.0.1", i))
	}
	e, err := Parse(strings.Join(parts, " or ")+" or tcp port 443", nil)
	if err != nil {
		t.Fatal(err)
	}
	code, err := e.Compile(96)
	if err != nil || len(code) < 256 {
		t.Fatalf("%d instructions, %v", len(code), err)
	}
	for i, f := range frames() {
		if got := run(t, raw(code), f) > 0; got != e.Match(ViewOf(f)) {
			t.Errorf("frame %d: %v", i, got)
		}
	}
	for range 4 {
		parts = append(parts, parts...)
	}
	if e, err = Parse(strings.Join(parts, " or "), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Compile(96); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("too long: %v", err)
	}
}

func TestUntranslated(t *testing.T) {
	for text, want := range map[string]node{
		"tcp port 80":                proto{"tcp"},
		"not tcp port 80":            all(true),
		"host 10.0.0.1 and tcp":      proto{"tcp"},
		"not (host 10.0.0.1)":        all(true),
		"udp and not port 53":        proto{"udp"},
		"port 80 or icmp":            all(true),
		"not (tcp or port 53)":       not{proto{"tcp"}},
		"tcp port 80 or udp":         or{proto{"tcp"}, proto{"udp"}},
		"not (tcp and host 1.2.3.4)": all(true),
	} {
		e, err := Parse(text, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, same := e.Untranslated(); same || got.root != want {
			t.Errorf("%s: %#v, want %#v", text, got.root, want)
		}
	}
}

func TestNames(t *testing.T) {
	names := func(n string) ([]netip.Addr, error) {
		if n == "web" {
			return []netip.Addr{netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("fd00::2")}, nil
		}
		return nil, cnm.NotFound("there is no container %q", n)
	}
	e, err := Parse("src host web and tcp", names)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range frames() {
		if e.Match(ViewOf(f)) {
			n++
		}
	}
	if n == 0 {
		t.Error("nothing is web's")
	}
	if _, err := Parse("host wab", names); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), `no container "wab"`) {
		t.Errorf("%v", err)
	}
}

func TestWrong(t *testing.T) {
	for text, want := range map[string]string{
		"frob":                     "is none of host, net",
		"80":                       "say what 80 is",
		"host":                     "missing after host",
		"port x":                   "is no port",
		"port 80-90":               "write portrange 80-90",
		"portrange 90-80":          "goes down",
		"port 99999":               "is no port",
		"net 10.0.0.1/8":           "write 10.0.0.0/8",
		"net 300.0.0.0/8":          "is no subnet",
		"host 10.0.0.0/8":          "write net 10.0.0.0/8",
		"host web":                 "is no address",
		"(tcp":                     "without its )",
		"tcp)":                     "without its (",
		"tcp udp":                  `missing before "udp"`,
		"tcp and":                  "ends where a word is expected",
		"icmp port 80":             "has no ports",
		"tcp host 10.0.0.1":        "write tcp and host 10.0.0.1",
		"ip6 host 10.0.0.1":        "no address of ip6",
		"tcp[13] & 2 != 0":         "for all of tcpdump's language",
		"src":                      "ends where an address",
		strings.Repeat("(", 200):   "parentheses",
		strings.Repeat("not ", 99): "nots in a row",
	} {
		if _, err := Parse(text, nil); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, e := range expressions {
		f.Add(e)
	}
	all := frames()
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text, nil)
		if err != nil {
			if !errors.Is(err, cnm.ErrInvalid) {
				t.Errorf("%v", err)
			}
			return
		}
		code, err := e.Compile(96)
		if err != nil {
			return
		}
		for _, frame := range all[:20] {
			if got := run(t, raw(code), frame) > 0; got != e.Match(ViewOf(frame)) {
				t.Errorf("%q: %v", text, got)
			}
		}
	})
}
