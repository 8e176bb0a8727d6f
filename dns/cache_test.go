package dns

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"
)

// TestCached: what was said is said again for its time, counting down.
func TestCached(t *testing.T) {
	bubble(t, func(t *testing.T, s *sandbox, first, _ *fake) {
		first.set(func(f *fake) { f.udp = says(60, "A 1.1.1.1", "A 1.1.1.2") })
		s.ask("www.example")
		time.Sleep(20*time.Second + 500*time.Millisecond)
		got, _ := s.ask("WWW.example")
		if want := "NOERROR rd ra\nWWW.example. 40 IN A 1.1.1.1\nWWW.example. 40 IN A 1.1.1.2\n"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		if h := first.heard(); len(h) != 1 {
			t.Errorf("heard %q", h)
		}
		// Each kind of question has an answer of its own.
		for _, q := range []string{"AAAA", "do", "cd", "norec", "A"} {
			s.ask("www.example", q)
		}
		if h := first.heard(); len(h) != 4 {
			t.Errorf("heard %q", h)
		}
		time.Sleep(40 * time.Second)
		s.ask("www.example")
		if h := first.heard(); len(h) != 1 {
			t.Errorf("after its time, heard %q", h)
		}
	})
}

// TestLives: how long which answer is kept.
func TestLives(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(*mdns.Msg) *mdns.Msg
		life   time.Duration
	}{
		{"positive", says(100, "A 1.1.1.1"), 100 * time.Second},
		{"zero", says(0, "A 1.1.1.1"), 0},
		{"for years", says(1<<30, "A 1.1.1.1"), maxLife},
		{"a TTL beyond 31 bits is zero", says(1<<32-1, "A 1.1.1.1"), 0},
		{"does not exist: the SOA's minimum", code(mdns.RcodeNameError, 300, "ns "+soa), 60 * time.Second},
		{"does not exist: the SOA's own", code(mdns.RcodeNameError, 30, "ns "+soa), 30 * time.Second},
		{"no such type", says(300, "ns "+soa), 60 * time.Second},
		{"an alias that leads to nothing", says(300, "CNAME x.example.", "ns "+soa), 60 * time.Second},
		{"does not exist, without SOA", code(mdns.RcodeNameError, 300), 0},
		{"no such type, without SOA", says(300), 0},
		{"does not exist, for years", code(mdns.RcodeNameError, 1<<30, "ns SOA ns.example. root.example. 1 2 3 4 1000000"), maxNegativeLife},
		{"failure", code(mdns.RcodeServerFailure, 300), 0},
		{"refusal", code(mdns.RcodeRefused, 300), 0},
		{"cut", tooLong, 0},
	} {
		m := new(mdns.Msg).SetQuestion("www.example.", mdns.TypeA)
		b, err := c.answer(m).Pack()
		if err != nil {
			t.Fatal(err)
		}
		got, err := readMessage(b, headerLen+len("www.example.")+5)
		if err != nil || got.life != c.life {
			t.Errorf("%s: %v %v, want %v", c.name, got, err, c.life)
		}
	}
}

// TestFailureIsShort: who could not answer is asked again after a second.
func TestFailureIsShort(t *testing.T) {
	bubble(t, func(t *testing.T, s *sandbox, first, second *fake) {
		first.set(func(f *fake) { f.refuse = true })
		second.set(func(f *fake) { f.udp = code(mdns.RcodeServerFailure, 0) })
		for range 5 {
			if got, _ := s.ask("www.example"); !strings.HasPrefix(got, "SERVFAIL") {
				t.Error(got)
			}
		}
		if h := second.heard(); len(h) != 1 {
			t.Errorf("heard %q", h)
		}
		second.set(func(f *fake) { f.udp = says(60, "A 2.2.2.2") })
		time.Sleep(failureLife)
		if got, _ := s.ask("www.example"); !strings.Contains(got, "2.2.2.2") {
			t.Error(got)
		}
	})
}

// TestStale: RFC 8767.
func TestStale(t *testing.T) {
	const stale = "NOERROR rd ra edns=1232 *dns.EDNS0_EDE(3 (Stale Answer): ())\nwww.example. 30 IN A 1.1.1.1\n"
	bubble(t, func(t *testing.T, s *sandbox, first, second *fake) {
		ask := func() (string, time.Duration) { return s.ask("www.example", "edns=1232") }
		ask()
		time.Sleep(5 * time.Minute)
		lost := func(f *fake) { f.lose = 1 << 30 }
		first.set(lost)
		second.set(lost)
		if got, took := ask(); got != stale || took != staleAfter {
			t.Errorf("after %v: %s", took, got)
		}
		// The question is still under way: nobody else waits.
		if got, took := ask(); got != stale || took != 0 {
			t.Errorf("after %v: %s", took, got)
		}
		time.Sleep(patience)
		if got, took := ask(); got != stale || took != 0 {
			t.Errorf("soon after a failure, after %v: %s", took, got)
		}
		// Refused at once: stale at once.
		time.Sleep(recheck)
		refuse := func(f *fake) { f.refuse = true }
		first.set(refuse)
		second.set(refuse)
		if got, took := ask(); got != stale || took > time.Millisecond {
			t.Errorf("after %v: %s", took, got)
		}
		back := func(f *fake) { f.refuse, f.lose = false, 0 }
		first.set(back)
		second.set(back)
		time.Sleep(recheck)
		if got, _ := ask(); !strings.Contains(got, "60 IN A") {
			t.Errorf("servers are back: %s", got)
		}
		first.set(refuse)
		second.set(refuse)
		time.Sleep(staleFor + time.Hour)
		if got, _ := ask(); !strings.HasPrefix(got, "SERVFAIL") {
			t.Errorf("a day later: %s", got)
		}
	})
}

// TestStaleSlow: servers that answer late are not waited for, and their answer counts
// for the next.
func TestStaleSlow(t *testing.T) {
	bubble(t, func(t *testing.T, s *sandbox, first, second *fake) {
		s.ask("www.example")
		time.Sleep(5 * time.Minute)
		late := func(f *fake) { f.delay, f.udp = 3*time.Second, says(60, "A 3.3.3.3") }
		first.set(late)
		second.set(late)
		if got, took := s.ask("www.example"); !strings.Contains(got, "1.1.1.1") || took != staleAfter {
			t.Errorf("after %v: %s", took, got)
		}
		time.Sleep(2 * time.Second)
		if got, took := s.ask("www.example"); !strings.Contains(got, "3.3.3.3") || took != 0 {
			t.Errorf("after %v: %s", took, got)
		}
	})
}

// TestPrefetch: what is asked for often is there before it ends.
func TestPrefetch(t *testing.T) {
	bubble(t, func(t *testing.T, s *sandbox, first, _ *fake) {
		first.set(func(f *fake) { f.delay = 40 * time.Millisecond })
		s.ask("often.example")
		s.ask("once.example")
		for range 100 {
			if _, took := s.ask("often.example"); took > 0 {
				t.Errorf("waited %v", took)
			}
			time.Sleep(3 * time.Second)
		}
		often := 0
		for _, h := range first.heard() {
			if strings.Contains(h, "often") {
				often++
			}
		}
		if often < 5 || often > 7 { // 300 s at 54 to 60 s each
			t.Errorf("asked %d times", often)
		}
		// The answer ends while the servers are away: it goes on.
		first.set(func(f *fake) { f.refuse = true })
	})
}

// TestPrefetchFails: a failed look ahead takes nothing away.
func TestPrefetchFails(t *testing.T) {
	bubble(t, func(t *testing.T, s *sandbox, first, second *fake) {
		for range 4 {
			s.ask("www.example")
		}
		bad := func(f *fake) { f.udp = code(mdns.RcodeServerFailure, 0) }
		first.set(bad)
		second.set(bad)
		time.Sleep(57 * time.Second)
		for range 3 {
			if got, _ := s.ask("www.example"); !strings.Contains(got, " 3 IN A 1.1.1.1") {
				t.Error(got)
			}
		}
		synctest.Wait()
		if h := second.heard(); len(h) != 1 {
			t.Errorf("heard %q", h)
		}
	})
}

// TestCutForUDP: an answer that was kept whole is cut for who takes less.
func TestCutForUDP(t *testing.T) {
	bubble(t, func(t *testing.T, s *sandbox, first, _ *fake) {
		var many []string
		for i := range 60 {
			many = append(many, fmt.Sprintf("A 9.9.9.%d", i))
		}
		first.set(func(f *fake) { f.udp, f.tcp = tooLong, says(60, many...) })
		if got, _ := s.ask("www.example"); strings.Count(got, "IN A") != 60 {
			t.Fatal(got)
		}
		for limit, want := range map[string]string{"": "NOERROR tc rd ra\n", "edns=512": "NOERROR tc rd ra edns=1232\n"} {
			m, _, _ := question(t, []string{"www.example", limit}[:1+min(1, len(limit))])
			pkt, _ := m.Pack()
			var q query
			if code := q.parse(pkt, false); code != 0 {
				t.Fatal(code)
			}
			out := s.view.ask(s.data.Load().forward, &q, nil, client{})
			r := new(mdns.Msg)
			if err := r.Unpack(out); err != nil || show(r) != want {
				t.Errorf("%v %v", r, err)
			}
		}
	})
}

// TestStub: answers of a server on the loopback are kept for a moment only, however
// long they might live, and are there when it is not.
func TestStub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local := netip.MustParseAddrPort("127.0.0.53:53")
		f := &fake{udp: says(3600, "A 1.1.1.1")}
		s := newSandbox(t, &world{servers: map[netip.AddrPort]*fake{local: f}}, View{Upstreams: []netip.AddrPort{local}})
		for range 10 {
			if got, _ := s.ask("www.example"); !strings.Contains(got, " 36") && !strings.Contains(got, " 35") {
				t.Error(got)
			}
			time.Sleep(2 * time.Second)
		}
		if h := f.heard(); len(h) != 4 {
			t.Errorf("heard %q", h)
		}
		f.set(func(f *fake) { f.refuse = true })
		time.Sleep(stubLife)
		if got, _ := s.ask("www.example"); !strings.Contains(got, "30 IN A 1.1.1.1") {
			t.Error(got)
		}
		s.Close()
		time.Sleep(10 * time.Second)
	})
}

func TestCacheSize(t *testing.T) {
	c := newCache(maphash.MakeSeed(), 100_000)
	m := &message{wire: make([]byte, 300)}
	for i := range 10_000 {
		c.put(fmt.Sprint("k", i), m, time.Minute, 0)
		if i%10 == 0 {
			c.get([]byte("k0"), 0)
		}
	}
	n, bytes := c.size()
	if bytes > 100_000 || bytes < 90_000 || n != bytes/(itemOverhead+300+5) && n < 100 {
		t.Errorf("%d entries, %d bytes", n, bytes)
	}
	if c.get([]byte("k0"), 0) == nil {
		t.Error("what is used goes first")
	}
	if c.get([]byte("k1"), 0) != nil {
		t.Error("what is not used stays")
	}
	if c.get([]byte("k9999"), time.Minute+staleFor) != nil {
		t.Error("older than stale")
	}
	c.put("big", &message{wire: make([]byte, maxItem+1)}, time.Minute, 0)
	c.put("dead", m, 0, 0)
	if c.get([]byte("big"), 0) != nil || c.get([]byte("dead"), 0) != nil {
		t.Error("kept what is not to be kept")
	}
	// The list and the map agree.
	s := &c.shards[0]
	var walked []string
	for it := s.oldest; it != nil; it = it.newer {
		walked = append(walked, it.key)
	}
	if len(walked) != len(s.items) || s.newest.key != walked[len(walked)-1] || slices.Contains(walked, "k9999") {
		t.Errorf("%d in the list, %d in the map", len(walked), len(s.items))
	}
	c.clear()
	if n, bytes := c.size(); n != 0 || bytes != 0 {
		t.Error(n, bytes)
	}
}

func BenchmarkCached(b *testing.B) {
	w := &world{}
	s := newSandbox(b, w, View{Upstreams: []netip.AddrPort{one}})
	m := new(mdns.Msg).SetQuestion("www.example.org.", mdns.TypeA)
	pkt, _ := m.Pack()
	answer, _ := says(3600, "A 1.1.1.1")(m).Pack()
	kept, err := readMessage(answer, len(pkt))
	if err != nil {
		b.Fatal(err)
	}
	var q query
	q.parse(pkt, false)
	g := s.data.Load().forward
	g.cache.put(string(q.cacheKey(nil)), kept, time.Hour, g.now())
	out := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		if len(s.answer(&q, pkt, out, one, s.l)) == 0 {
			b.Fatal("not cached")
		}
	}
}
