package dns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"
)

var (
	one   = netip.MustParseAddrPort("10.0.0.1:53")
	two   = netip.MustParseAddrPort("10.0.0.2:53")
	three = netip.MustParseAddrPort("[fd00::3]:53")
)

// TestForward: one question to servers of all kinds, in a bubble whose time is exact.
func TestForward(t *testing.T) {
	const good = "NOERROR rd ra\nwww.example.org. 60 IN A 9.9.9.9\n"
	a := func(ttl int) func(*mdns.Msg) *mdns.Msg { return says(ttl, "A 9.9.9.9") }
	for _, c := range []struct {
		name    string
		servers map[netip.AddrPort]*fake
		order   []netip.AddrPort
		ask     string
		want    string
		least   time.Duration
		most    time.Duration
	}{
		{"quick", map[netip.AddrPort]*fake{one: {udp: a(60), delay: 5 * time.Millisecond}}, nil, "", good, 5 * time.Millisecond, 5 * time.Millisecond},
		{"slow, alone", map[netip.AddrPort]*fake{one: {udp: a(60), delay: 3 * time.Second}}, nil, "", good, 3 * time.Second, 3 * time.Second},
		{"first is dead", map[netip.AddrPort]*fake{one: {}, two: {udp: a(60)}}, nil, "", good, hedgeUnknown, hedgeUnknown},
		{"first refuses", map[netip.AddrPort]*fake{one: {refuse: true}, two: {udp: a(60)}}, nil, "", good, 0, time.Millisecond},
		{"first two are dead", map[netip.AddrPort]*fake{one: {}, two: {}, three: {udp: a(60)}}, nil, "", good, 2 * hedgeUnknown, 2 * hedgeUnknown},
		{"first fails", map[netip.AddrPort]*fake{one: {udp: code(mdns.RcodeServerFailure, 0)}, two: {udp: a(60)}}, nil, "", good, 0, 0},
		{"first is slow, second quick", map[netip.AddrPort]*fake{one: {udp: a(60), delay: time.Second}, two: {udp: a(60)}}, nil, "", good, hedgeUnknown, hedgeUnknown},
		{"a packet is lost", map[netip.AddrPort]*fake{one: {udp: a(60), lose: 1}}, nil, "", good, again, again},
		{"two packets are lost", map[netip.AddrPort]*fake{one: {udp: a(60), lose: 2}}, nil, "", good, 3 * again, 3 * again},
		{"all dead", map[netip.AddrPort]*fake{one: {}, two: {}}, nil, "", "SERVFAIL rd ra\n", patience, patience},
		{"all refuse", map[netip.AddrPort]*fake{one: {refuse: true}, two: {refuse: true}}, nil, "", "SERVFAIL rd ra\n", 0, time.Millisecond},
		{"why, for those who ask with EDNS", map[netip.AddrPort]*fake{one: {refuse: true}, two: {}}, nil, "edns=1232",
			"SERVFAIL rd ra edns=1232 *dns.EDNS0_EDE(23 (Network Error): (10.0.0.1:53: connection refused; 10.0.0.2:53: no answer))\n", patience, patience},
		{"no server", nil, nil, "edns=1232", "SERVFAIL rd ra edns=1232 *dns.EDNS0_EDE(22 (No Reachable Authority): (sandbox box: no server is known))\n", 0, 0},
		{"all fail", map[netip.AddrPort]*fake{one: {udp: code(mdns.RcodeServerFailure, 0)}, two: {udp: code(mdns.RcodeRefused, 0)}}, nil, "", "SERVFAIL rd ra\n", 0, 0},
		{"refused by all", map[netip.AddrPort]*fake{one: {udp: code(mdns.RcodeRefused, 0)}}, nil, "", "REFUSED rd ra\n", 0, 0},
		{"liar", map[netip.AddrPort]*fake{one: {udp: a(60), lie: true}}, nil, "", good, 0, 0},
		{"cut: TCP", map[netip.AddrPort]*fake{one: {udp: tooLong, tcp: a(60)}}, nil, "", good, 0, 0},
		{"cut, and TCP is closed", map[netip.AddrPort]*fake{one: {udp: tooLong}}, nil, "", "NOERROR tc rd ra\n", 0, 0},
		{"no EDNS", map[netip.AddrPort]*fake{one: {udp: a(60), noEDNS: true}}, nil, "", good, 0, 0},
		{"does not exist", map[netip.AddrPort]*fake{one: {udp: code(mdns.RcodeNameError, 60, "ns "+soa)}}, nil, "",
			"NXDOMAIN rd ra\nns: www.example.org. 60 IN SOA ns.example. root.example. 1 2 3 4 60\n", 0, 0},
		{"what the first says is not, waits for nobody", map[netip.AddrPort]*fake{one: {udp: code(mdns.RcodeNameError, 60, "ns "+soa)}, two: {udp: a(60)}}, nil, "",
			"NXDOMAIN rd ra\nns: www.example.org. 60 IN SOA ns.example. root.example. 1 2 3 4 60\n", 0, 0},
		{"what the second says is not, waits for the first", map[netip.AddrPort]*fake{one: {udp: a(60), delay: 400 * time.Millisecond}, two: {udp: code(mdns.RcodeNameError, 60, "ns "+soa)}}, nil, "",
			good, 400 * time.Millisecond, 400 * time.Millisecond},
		{"but not for ever", map[netip.AddrPort]*fake{one: {}, two: {udp: code(mdns.RcodeNameError, 60, "ns "+soa)}}, nil, "",
			"NXDOMAIN rd ra\nns: www.example.org. 60 IN SOA ns.example. root.example. 1 2 3 4 60\n", hedgeUnknown + holdNegative, hedgeUnknown + holdNegative},
		{"DNSSEC bits pass", map[netip.AddrPort]*fake{one: {udp: func(q *mdns.Msg) *mdns.Msg {
			r := a(60)(q)
			r.AuthenticatedData = q.IsEdns0().Do() && q.CheckingDisabled
			return r
		}}}, nil, "do cd", "NOERROR rd ra ad cd edns=1232 do\nwww.example.org. 60 IN A 9.9.9.9\n", 0, 0},
		{"not authenticated for who did not ask", map[netip.AddrPort]*fake{one: {udp: func(q *mdns.Msg) *mdns.Msg {
			r := a(60)(q)
			r.AuthenticatedData = true
			return r
		}}}, nil, "", good, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				order := c.order
				for _, s := range []netip.AddrPort{one, two, three} {
					if c.servers[s] != nil {
						order = append(order, s)
					}
				}
				if len(order) == 0 {
					order = []netip.AddrPort{netip.AddrPortFrom(Addr, 53)} // ourselves: left out
				}
				s := newSandbox(t, &world{servers: c.servers}, View{Upstreams: order})
				got, took := s.ask(append([]string{"www.example.org"}, strings.Fields(c.ask)...)...)
				if got != c.want || took < c.least || took > c.most {
					t.Errorf("after %v:\n%swant, after %v to %v:\n%s", took, got, c.least, c.most, c.want)
				}
				s.Close()
				time.Sleep(10 * time.Second) // the last attempts end
			})
		})
	}
}

// bubble runs a test with two servers in a bubble.
func bubble(t *testing.T, f func(t *testing.T, s *sandbox, first, second *fake)) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &fake{udp: says(60, "A 1.1.1.1")}, &fake{udp: says(60, "A 2.2.2.2")}
		s := newSandbox(t, &world{servers: map[netip.AddrPort]*fake{one: first, two: second}}, View{Upstreams: []netip.AddrPort{one, two}})
		f(t, s, first, second)
		s.Close()
		time.Sleep(10 * time.Second)
	})
}

// TestHealth: a server that does not answer is left alone soon, and asked again in
// time, without anyone's waiting.
func TestHealth(t *testing.T) {
	bubble(t, func(t *testing.T, s *sandbox, first, second *fake) {
		first.set(func(f *fake) { f.lose = 1 << 30 })
		n := 0
		slowly := 0
		for range 30 {
			got, took := s.ask(fmt.Sprintf("n%d.example", n))
			n++
			if !strings.Contains(got, "2.2.2.2") || took > hedgeMost {
				t.Fatalf("question %d: %s after %v", n, got, took)
			}
			if took > 0 {
				slowly++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if slowly > downAfter {
			t.Errorf("%d of 30 questions waited for a dead server", slowly)
		}
		if m := s.Metrics().Upstreams; !m[0].Down || m[1].Down {
			t.Errorf("%+v", m)
		}
		first.set(func(f *fake) { f.lose = 0 })
		time.Sleep(backoffMost)
		first.heard()
		for range 3 {
			if _, took := s.ask(fmt.Sprintf("n%d.example", n)); took > 0 {
				t.Errorf("waited %v", took)
			}
			n++
			time.Sleep(time.Second)
		}
		if h := first.heard(); len(h) < 2 || s.Metrics().Upstreams[0].Down {
			t.Errorf("it answers again and heard %q", h)
		}
	})
}

// TestSlowFirst: the order of resolv.conf holds among quick servers; a slow one goes
// behind, and is looked at now and then.
func TestSlowFirst(t *testing.T) {
	bubble(t, func(t *testing.T, s *sandbox, first, second *fake) {
		first.set(func(f *fake) { f.delay = 60 * time.Millisecond })
		for i := range 5 {
			if got, _ := s.ask(fmt.Sprintf("a%d.example", i)); !strings.Contains(got, "1.1.1.1") {
				t.Fatal(got)
			}
		}
		first.set(func(f *fake) { f.delay = 700 * time.Millisecond })
		for i := range 10 {
			s.ask(fmt.Sprintf("b%d.example", i))
			time.Sleep(2 * time.Second)
		}
		if got, took := s.ask("c.example"); !strings.Contains(got, "2.2.2.2") || took > 0 {
			t.Errorf("%s after %v", got, took)
		}
		first.set(func(f *fake) { f.delay = 0 })
		for i := range 60 {
			s.ask(fmt.Sprintf("d%d.example", i))
			time.Sleep(10 * time.Second)
		}
		if got, _ := s.ask("e.example"); !strings.Contains(got, "1.1.1.1") {
			t.Errorf("the first is quick again: %s", got)
		}
	})
}

// TestTogether: who asks the same meanwhile waits for the same answer; each gets it
// with its own id and letters.
func TestTogether(t *testing.T) {
	bubble(t, func(t *testing.T, s *sandbox, first, _ *fake) {
		first.set(func(f *fake) { f.delay = 50 * time.Millisecond })
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				name := "www.example."
				if i%2 == 0 {
					name = "WWW.Example."
				}
				m := new(mdns.Msg).SetQuestion(name, mdns.TypeA)
				m.Id = uint16(i)
				if r, _, err := s.exchange(m); err != nil || len(r.Answer) != 1 {
					t.Errorf("%v %v", r, err)
				}
			})
		}
		wg.Wait()
		if h := first.heard(); len(h) != 1 || h[0] != "udp www.example. A edns=1232" {
			t.Errorf("the server heard %q", h)
		}
		if m := s.Metrics(); m.Forwarded != 1 || m.Joined != 19 || s.asking.Load() != 0 {
			t.Errorf("%+v", m)
		}
	})
}

// TestDeafClient: one that waits for the same answer, and does not read it, holds up
// nobody.
func TestDeafClient(t *testing.T) {
	bubble(t, func(t *testing.T, s *sandbox, first, _ *fake) {
		first.set(func(f *fake) { f.delay = 50 * time.Millisecond })
		deaf, server := net.Pipe()
		s.l.hold(server)
		go s.serveConn(s.l, server)
		m := new(mdns.Msg).SetQuestion("www.example.", mdns.TypeA)
		b, _ := m.Pack()
		if _, err := deaf.Write(append([]byte{0, byte(len(b))}, b...)); err != nil {
			t.Fatal(err)
		}
		if got, took := s.ask("www.example"); !strings.Contains(got, "1.1.1.1") || took > 50*time.Millisecond {
			t.Errorf("after %v: %s", took, got)
		}
		deaf.Close()
	})
}

// TestTooMuch: who asks for too much at once does not make others wait.
func TestTooMuch(t *testing.T) {
	bubble(t, func(t *testing.T, s *sandbox, first, second *fake) {
		first.set(func(f *fake) { f.udp = nil })
		second.set(func(f *fake) { f.udp = nil })
		s.asking.Store(maxAsking)
		if got, took := s.ask("www.example", "edns=512"); !strings.Contains(got, "SERVFAIL") || !strings.Contains(got, "too many") || took > 0 {
			t.Errorf("%s after %v", got, took)
		}
		s.asking.Store(0)
	})
}

// TestPlainServer: one that does not know EDNS is asked without from then on.
func TestPlainServer(t *testing.T) {
	bubble(t, func(t *testing.T, s *sandbox, first, _ *fake) {
		first.set(func(f *fake) { f.noEDNS = true })
		s.ask("a.example")
		s.ask("b.example")
		if h := first.heard(); !slices.Equal(h, []string{"udp a.example. A edns=1232", "udp a.example. A", "udp b.example. A"}) {
			t.Errorf("%q", h)
		}
	})
}

// TestClose: nobody waits for those who do not answer.
func TestClose(t *testing.T) {
	bubble(t, func(t *testing.T, s *sandbox, first, second *fake) {
		first.set(func(f *fake) { f.udp = nil })
		second.set(func(f *fake) { f.udp = nil })
		go s.ask("www.example")
		time.Sleep(10 * time.Millisecond)
		start := time.Now()
		s.Close()
		if took := time.Since(start); took > 0 {
			t.Errorf("took %v", took)
		}
	})
}
