package check

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
)

// TestPacket: what is sealed is read again, and anything else is not.
func TestPacket(t *testing.T) {
	key := bytes.Repeat([]byte{7}, keySize)
	for _, size := range []int{0, header, header + 1, 1472, 65507} {
		b := packet{session: 1 << 60, number: 9, kind: isProbe, length: 5}.seal(key, size)
		if len(b) != max(size, header) {
			t.Errorf("%d bytes, want %d", len(b), size)
		}
		p, ok := peek(b)
		if !ok || p != (packet{1 << 60, 9, isProbe, 5}) || !sealed(key, b) {
			t.Errorf("%d bytes read back as %+v, %v", size, p, ok)
		}
		for _, i := range []int{4, 12, 16, 20, sumAt, len(b) - 1} {
			b[i] ^= 1
			if sealed(key, b) {
				t.Errorf("%d bytes, byte %d is another, and it is not seen", size, i)
			}
			b[i] ^= 1
		}
		if sealed(bytes.Repeat([]byte{8}, keySize), b) {
			t.Error("another key fits")
		}
	}
	for _, bad := range [][]byte{nil, []byte("LSc1"), bytes.Repeat([]byte{0}, header)} {
		if _, ok := peek(bad); ok {
			t.Errorf("%q is taken for a probe", bad)
		}
	}
}

func FuzzPacket(f *testing.F) {
	key := bytes.Repeat([]byte{7}, keySize)
	f.Add(packet{kind: isProbe}.seal(key, 60))
	f.Add([]byte("LSc1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := sessions{by: map[uint64]*session{}}
		known := s.open(time.Unix(0, 0))
		if p, ok := peek(b); ok && p.session == known.id && sealed(known.key, b) {
			return
		}
		if s.arrived(b, len(b)+28, time.Unix(1, 0)) != nil {
			t.Fatal("what nobody sealed is answered")
		}
	})
}

// TestSessions: keys are given out, counted by, and forgotten.
func TestSessions(t *testing.T) {
	s := sessions{by: map[uint64]*session{}}
	now := time.Unix(1000, 0)
	one := s.open(now)
	probe := packet{session: one.id, number: 3, kind: isProbe}.seal(one.key, 1000)
	answer := s.arrived(probe, 1028, now)
	if p, ok := peek(answer); !ok || p != (packet{one.id, 3, isEcho, 1000}) || len(answer) > len(probe) || !sealed(one.key, answer) {
		t.Errorf("answer %+v, %v", p, ok)
	}
	if s.arrived(answer, len(answer), now) != nil {
		t.Error("an echo is answered: two hosts would never end")
	}
	probe[len(probe)-1]++
	if s.arrived(probe, 1028, now) != nil {
		t.Error("a damaged probe is answered")
	}
	if got, ok := s.tally(one.id); !ok || got != (tally{Received: 1, Damaged: 1, Largest: 1028}) {
		t.Errorf("tally %+v, %v", got, ok)
	}
	s.open(now.Add(sessionLife + time.Second))
	if _, ok := s.tally(one.id); ok {
		t.Error("a session that nobody used is kept")
	}
	for range sessionsMax + 10 {
		s.open(now.Add(sessionLife))
	}
	if len(s.by) > sessionsMax {
		t.Errorf("%d sessions", len(s.by))
	}
}

// TestLadder: sizes between two, ends left out, ever closer.
func TestLadder(t *testing.T) {
	for _, c := range []struct{ low, high, want int }{{576, 1500, 16}, {1, 2, 0}, {1, 3, 1}, {10, 20, 9}, {5, 5, 0}} {
		got := ladder(c.low, c.high)
		if len(got) != c.want || !slices.IsSorted(got) || len(got) > 0 && (got[0] <= c.low || got[len(got)-1] >= c.high) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("from %d to %d: %v", c.low, c.high, got)
		}
	}
	// Whatever the limit is, it is found.
	for limit := 576; limit < 1500; limit++ {
		best, high := 576, 1500
		for rounds := 0; ; rounds++ {
			sizes := ladder(best, high)
			if len(sizes) == 0 {
				break
			}
			if rounds > 4 {
				t.Fatalf("limit %d: no end", limit)
			}
			for _, s := range sizes {
				if s <= limit {
					best = max(best, s)
				} else {
					high = min(high, s)
				}
			}
		}
		if best != limit {
			t.Fatalf("limit %d is taken for %d", limit, best)
		}
	}
}

// TestSumChecksums: what the kernel counts, in both forms.
func TestSumChecksums(t *testing.T) {
	const snmp = `Ip: Forwarding DefaultTTL
Ip: 1 64
Tcp: RtoAlgorithm InErrs OutRsts InCsumErrors
Tcp: 1 2 3 5
Udp: InDatagrams InCsumErrors IgnoredMulti
Udp: 10 7 0
UdpLite: InDatagrams InCsumErrors
UdpLite: 10 90
`
	if n := sumChecksums(snmp); n != 12 {
		t.Errorf("snmp: %d, want 12", n)
	}
	if n := sumChecksums("Ip6InReceives 5\nUdp6InCsumErrors  3\nUdpLite6InCsumErrors 9\n"); n != 3 {
		t.Errorf("snmp6: %d, want 3", n)
	}
	for _, odd := range []string{"", "Tcp:", "Tcp: a\nTcp: ", "Tcp: InCsumErrors\n", "Udp6InCsumErrors x"} {
		if n := sumChecksums(odd); n != 0 {
			t.Errorf("%q: %d", odd, n)
		}
	}
	badChecksums(func(f func() error) error { return f() })
}

// TestWays: what there is to a peer.
func TestWays(t *testing.T) {
	u := &cnm.Underlay{Addr: netip.MustParseAddr("10.0.0.1"), Dev: "eth0", MTU: 1500, PathMTU: 1400, MAC: "02:4c:00:00:00:01", RoutedVNI: 1}
	p := cnm.Peer{ID: "h2", Addr: netip.MustParseAddr("10.0.0.2"), MAC: "02:4c:00:00:00:02"}
	text := func(u *cnm.Underlay, p cnm.Peer) string {
		s := ""
		for _, w := range Ways(u, p) {
			s += string(w.Kind) + " " + w.Target.String() + " " + w.Dev + " "
			s += time.Duration(w.MTU).String() + ";"
		}
		return s
	}
	secure, key := *u, p
	secure.Secure, secure.SecureAddr, secure.SecureMTU, key.SecureAddr = "wg0", netip.MustParseAddr("fd00::1"), 1440, netip.MustParseAddr("fd00::2")
	for _, c := range []struct {
		u    *cnm.Underlay
		p    cnm.Peer
		want string
	}{
		// The wire is probed for all that its device takes, whatever was found before.
		{u, p, "direct 10.0.0.2 eth0 1.5µs;vxlan fd4c:5300:1:0:4c:ff:fe00:2 eth0 1.35µs;"},
		{u, cnm.Peer{Addr: p.Addr, Dev: "eth1"}, "direct 10.0.0.2 eth1 1.5µs;"},
		{u, cnm.Peer{Addr: netip.MustParseAddr("fd00::9")}, ""},
		{u, cnm.Peer{}, ""},
		{&secure, key, "direct 10.0.0.2 eth0 1.5µs;vxlan fd4c:5300:1:0:4c:ff:fe00:2 eth0 1.35µs;wireguard fd00::2 wg0 1.44µs;"},
		{&secure, p, "direct 10.0.0.2 eth0 1.5µs;vxlan fd4c:5300:1:0:4c:ff:fe00:2 eth0 1.35µs;"},
	} {
		if got := text(c.u, c.p); got != c.want {
			t.Errorf("%+v: %s, want %s", c.p, got, c.want)
		}
	}
}

// TestJudge: what was measured, in words.
func TestJudge(t *testing.T) {
	u := &cnm.Underlay{Addr: netip.MustParseAddr("10.0.0.1"), Dev: "eth0", MTU: 1500, RoutedVNI: 7}
	wire := Way{Kind: cnm.PathDirect, Target: netip.MustParseAddr("10.0.0.2"), Dev: "eth0", MTU: 1500}
	vxlan := Way{Kind: cnm.PathVXLAN, Target: netip.MustParseAddr("fd4c::2"), Dev: "eth0", MTU: 1450}
	guard := Way{Kind: cnm.PathWireGuard, Target: netip.MustParseAddr("fd00::2"), Dev: "wg0", MTU: 1440}
	well := measurement{port: 2382, sent: 20, answered: 20, arrived: 20, rtts: []time.Duration{1, 2, 3}, mtu: 1500, expected: 1500, tcp: transfer{connected: true, bytes: 2 * volume, took: time.Second}}
	with := func(f func(*measurement)) measurement { m := well; f(&m); return m }
	dead := func(f func(*measurement)) measurement {
		return with(func(m *measurement) {
			m.answered, m.arrived, m.mtu, m.rtts, m.tcp = 0, 0, 0, nil, transfer{err: errors.New("i/o timeout")}
			f(m)
		})
	}
	for _, c := range []struct {
		name   string
		w      Way
		m      measurement
		spoilt bool
		says   []string // none: well
	}{
		{"well", wire, well, false, nil},
		{"one lost of twenty", wire, with(func(m *measurement) { m.answered = 19 }), false, nil},
		{"no socket", wire, measurement{err: errors.New("no route to host")}, false, []string{"host2 cannot be probed at 10.0.0.2: no route to host"}},
		{"cut", wire, dead(func(m *measurement) {}), false, []string{"packets of host1 do not reach host2", "open TCP and UDP port 2382"}},
		{"UDP closed", wire, dead(func(m *measurement) { m.tcp.connected = true }), false, []string{"and TCP does: open UDP port 2382"}},
		{"back cut", wire, dead(func(m *measurement) { m.arrived = 20 }), false, []string{"its answers do not come back: the way from host2 to host1 is cut"}},
		{"VXLAN closed", vxlan, dead(func(m *measurement) {}), false, []string{"nothing passes VXLAN (UDP port 4789, VNI 7) although the hosts reach each other", "open UDP port 4789"}},
		{"VXLAN back cut", vxlan, dead(func(m *measurement) { m.arrived = 20 }), false, []string{"through VXLAN"}},
		{"WireGuard closed", guard, dead(func(m *measurement) {}), false, []string{"nothing passes WireGuard (wg0)", "linkspan mesh rotate"}},
		{"offload in a tunnel", vxlan, dead(func(m *measurement) { m.spoilt = 20 }), true, []string{"broken checksum", "which eth0 was to compute", "tx-checksum-ip-generic off"}},
		{"offload in WireGuard", guard, dead(func(m *measurement) { m.spoilt = 20 }), false, []string{"broken checksum", "ethtool -K eth0 tx off"}},
		{"offload in a tunnel, now and then", vxlan, with(func(m *measurement) { m.spoilt = 20 }), true, []string{"20 packets arrived with a broken checksum"}},
		{"damage on the wire", wire, with(func(m *measurement) { m.damaged = 2 }), false, []string{"2 packets arrived with a broken checksum", "ethtool -K eth0 tx off"}},
		{"some from elsewhere", wire, with(func(m *measurement) { m.spoilt = 2 }), false, nil},
		{"black hole", wire, with(func(m *measurement) { m.mtu = 1400 }), false, []string{"packets over 1400 bytes vanish: a router on the way drops them silently; lower the MTU of eth0 to 1400, or open ICMP"}},
		{"black hole, and TCP", vxlan, with(func(m *measurement) { m.mtu, m.tcp = 1400, transfer{connected: true, err: errors.New("x")} }), false, []string{"stands still after 0 bytes"}},
		{"a router says", wire, with(func(m *measurement) { m.mtu, m.by, m.says = 1400, netip.MustParseAddr("10.0.0.254"), 1400 }), false,
			[]string{"packets over 1400 bytes are refused by router 10.0.0.254, which says that 1400 fit"}},
		{"a tunnel narrower than the wire says", vxlan, with(func(m *measurement) { m.mtu, m.expected = 1350, 1450 }), false, []string{"over 1350 bytes do not pass, where 1450 should"}},
		{"loss there", wire, with(func(m *measurement) { m.answered, m.arrived = 10, 12 }), false, []string{"50 % of packets are lost (8 of 20 on the way there, 2 on the way back)"}},
		{"loss back", wire, with(func(m *measurement) { m.answered = 10 }), false, []string{"(all of them on the way back)"}},
		{"loss, who knows where", wire, with(func(m *measurement) { m.answered, m.arrived = 10, -1 }), false, []string{"50 % of packets are lost: look"}},
		{"TCP closed", wire, with(func(m *measurement) { m.tcp = transfer{err: errors.New("connection refused")} }), false, []string{"UDP passes, and TCP does not: open TCP port 2382 between the hosts (connection refused)"}},
		{"TCP in a tunnel", vxlan, with(func(m *measurement) { m.tcp = transfer{err: errors.New("x")} }), false, []string{"UDP passes VXLAN", "TCP does not"}},
		{"TCP stands still", wire, with(func(m *measurement) {
			m.mtu, m.tcp = 1400, transfer{connected: true, bytes: 99, again: 9, err: errors.New("i/o timeout")}
		}), false, []string{"stands still after 99 bytes"}},
		{"TCP ends early", wire, with(func(m *measurement) { m.tcp = transfer{connected: true, bytes: 99, err: errors.New("reset")} }), false, []string{"ends after 99 (reset; 0 segments were sent again)"}},
	} {
		r := judge("host1", "host2", u, c.w, c.m)
		all := strings.Join(r.Findings, "; ")
		if (len(c.says) == 0) != r.Well() || r.Spoilt != c.spoilt {
			t.Errorf("%s: %s, spoilt %v", c.name, all, r.Spoilt)
		}
		for _, s := range c.says {
			if !strings.Contains(all, s) {
				t.Errorf("%s: %q does not say %q", c.name, all, s)
			}
		}
	}
}

// TestPulse: the last minute.
func TestPulse(t *testing.T) {
	p := &pulse{way: Way{Kind: cnm.PathDirect}}
	at := time.Unix(5, 0)
	if got := p.tell(); got != (Pulse{Kind: cnm.PathDirect}) {
		t.Errorf("nothing yet: %+v", got)
	}
	for i := range 2 * window {
		rtt := time.Duration(i)
		if i%4 == 0 {
			rtt = 0
		}
		p.add(rtt, at)
	}
	if got := p.tell(); got.Loss != 0.25 || got.RTT < window || got.RTT > 2*window || got.Measured != at {
		t.Errorf("%+v", got)
	}
	p.add(0, at)
	p.add(0, at)
	if p.unheard(2); p.tell().Loss > 0.25 || len(p.samples) != window-2 {
		t.Errorf("the peer did not know the key of two: %+v", p.tell())
	}
	p.silent(at, "its daemon does not run")
	if got := p.tell(); got.Error != "its daemon does not run" || got.Loss != 1 || got.RTT != 0 {
		t.Errorf("%+v", got)
	}
	if p.add(7, at); p.tell().Loss != 0 || p.tell().Error != "" {
		t.Errorf("its daemon runs again: %+v", p.tell())
	}
}

// TestNotInMesh: who is in no mesh is told how to be.
func TestNotInMesh(t *testing.T) {
	c := New(Config{Name: "host1", Underlay: func() *cnm.Underlay { return nil }, Peers: func() []cnm.Peer { return nil }})
	if _, err := c.Check(t.Context()); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "linkspan mesh init") {
		t.Errorf("%v", err)
	}
	if s := c.Status(); len(s) != 0 {
		t.Errorf("%v", s)
	}
}
