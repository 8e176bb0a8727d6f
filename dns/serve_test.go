package dns

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// quiet is a log that nobody reads.
func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// pair opens sockets of both kinds on one port of the loopback.
func pair(t testing.TB) (*net.TCPListener, *net.UDPConn) {
	t.Helper()
	for range 100 {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(l.Addr().(*net.TCPAddr).AddrPort()))
		if err == nil {
			return l, u
		}
		l.Close() // that port is someone's for udp
	}
	t.Fatal("no port is free for both")
	return nil, nil
}

// sockets are a pair of files, as the keeper would open them in a sandbox.
func sockets(t testing.TB) (*Sockets, netip.AddrPort) {
	t.Helper()
	l, u := pair(t)
	defer l.Close()
	defer u.Close()
	uf, err := u.File()
	if err != nil {
		t.Fatal(err)
	}
	lf, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { uf.Close(); lf.Close() })
	at := l.Addr().(*net.TCPAddr).AddrPort()
	return &Sockets{UDP: uf, TCP: lf}, netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// serve starts a server with one view on the loopback.
func serve(t testing.TB, c Config, v View) (*Server, netip.AddrPort) {
	t.Helper()
	if c.Log == nil {
		c.Log = quiet()
	}
	if c.ResolvConf == "" {
		c.ResolvConf = os.DevNull
	}
	s := NewServer(c)
	t.Cleanup(func() { s.Close() })
	socks, at := sockets(t)
	if err := s.SetView(v, socks); err != nil {
		t.Fatal(err)
	}
	return s, at
}

// query1 asks like any client.
func query1(t testing.TB, network string, at netip.AddrPort, m *mdns.Msg) *mdns.Msg {
	t.Helper()
	c := mdns.Client{Net: network, Timeout: 6 * time.Second, UDPSize: 4096}
	r, _, err := c.Exchange(m, at.String())
	if err != nil {
		t.Fatalf("%s %s: %v", network, m.Question[0].String(), err)
	}
	return r
}

func names(n int) []Record {
	records := make([]Record, n)
	for i := range records {
		records[i] = Record{Endpoint: fmt.Sprintf("%064x", i), Names: []string{fmt.Sprintf("name%d", i), fmt.Sprintf("%012x", i)},
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), netip.MustParseAddr(fmt.Sprintf("fd00::%x:%x", i>>16, i&0xffff))}}
	}
	return records
}

func TestServe(t *testing.T) {
	s, at := serve(t, Config{}, View{Sandbox: "a", Zones: []string{"z"}})
	s.SetNames("z", names(10), false)
	for _, network := range []string{"udp", "tcp"} {
		m := new(mdns.Msg)
		m.SetQuestion("Name3.", mdns.TypeA)
		r := query1(t, network, at, m)
		if len(r.Answer) != 1 || r.Answer[0].String() != "Name3.\t5\tIN\tA\t10.0.0.3" || !r.Authoritative || !r.RecursionAvailable {
			t.Errorf("%s: %v", network, r)
		}
	}
}

// TestAllocations: an answer of ours, and one from the cache, leave no garbage.
func TestAllocations(t *testing.T) {
	s := newSandbox(t, &world{}, View{Zones: []string{"z"}, ZoneNames: []string{"shop"}, Search: []string{"example"}, Upstreams: []netip.AddrPort{one}})
	s.SetNames("z", append(names(100), Record{Endpoint: "x", Names: []string{"name1"}, Addrs: []netip.Addr{netip.MustParseAddr("10.9.9.9")}}), true)
	answer, _ := says(3600, "A 1.1.1.1")(new(mdns.Msg).SetQuestion("www.example.org.", mdns.TypeA)).Pack()
	kept, err := readMessage(answer, headerLen+len("www.example.org.")+5)
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"name0", "NAME0 AAAA", "name1 A", "name0.shop", "name0.example edns=1232", "nobody", "name0 TXT", "5.0.0.10.in-addr.arpa TXT", "www.example.org"} {
		m, _, _ := question(t, strings.Fields(words))
		pkt, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		var q query
		q.parse(pkt, false)
		if g := s.data.Load().forward; words == "www.example.org" {
			g.cache.put(string(q.cacheKey(nil)), kept, time.Hour, g.now())
		}
		out := make([]byte, 0, 512)
		if n := testing.AllocsPerRun(100, func() {
			if len(s.answer(&q, pkt, out, one, s.l)) == 0 {
				t.Fatal(words, "is not answered")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", words, n)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, at := serve(b, Config{}, View{Sandbox: "a", Zones: []string{"z"}})
			s.SetNames("z", names(n), true)
			v := s.views["a"]
			msgs := make([][]byte, 1024)
			for i := range msgs {
				m := new(mdns.Msg)
				m.SetQuestion(fmt.Sprintf("name%d.", i%n), mdns.TypeA)
				msgs[i], _ = m.Pack()
			}
			var q query
			out := make([]byte, 0, 512)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				v.answer(&q, msgs[i%len(msgs)], out, at, nil)
			}
		})
	}
}

func BenchmarkSetNames(b *testing.B) {
	for _, n := range []int{10, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			z := NewServer(Config{Log: quiet()}).zone("z")
			z.set(names(n), true)
			r := names(n)[n/2]
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.Addrs = []netip.Addr{netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})}
				z.set([]Record{r}, false)
			}
		})
	}
}
