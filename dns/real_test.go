package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"
)

// server is miekg's on a loopback port, as another's view of the protocol.
func server(t *testing.T, answer func(*mdns.Msg) *mdns.Msg) netip.AddrPort {
	t.Helper()
	l, pc := pair(t)
	h := mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		r := answer(q)
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			r.Truncate(512)
		}
		_ = w.WriteMsg(r)
	})
	for _, s := range []*mdns.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		go s.ActivateAndServe()
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// TestRealUpstream: real sockets all the way, with the host's list of servers and
// with a sandbox's own, which are asked through DialIn with its namespace.
func TestRealUpstream(t *testing.T) {
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("A 9.9.9.%d", i))
	}
	up := server(t, says(60, many...))
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 10.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	within := 0
	c := Config{ResolvConf: conf,
		Dial: func(network string, server netip.AddrPort) (net.Conn, error) {
			if server != one {
				return nil, fmt.Errorf("asked %v", server)
			}
			return dial(network, up)
		},
		DialIn: func(in *os.File, network string, server netip.AddrPort) (net.Conn, error) {
			a, _ := in.Stat()
			if b, _ := ns.Stat(); server != two || !os.SameFile(a, b) {
				return nil, errors.New("another namespace")
			}
			within++
			return dial(network, up)
		}}
	s, at := serve(t, c, View{Sandbox: "a"})
	socks, in := sockets(t)
	socks.Namespace = ns
	if err := s.SetView(View{Sandbox: "b", Upstreams: []netip.AddrPort{two}}, socks); err != nil {
		t.Fatal(err)
	}
	for _, at := range []netip.AddrPort{at, in} {
		for network, want := range map[string]int{"udp": 60, "tcp": 60} {
			m := new(mdns.Msg).SetQuestion("www.example.org.", mdns.TypeA)
			m.SetEdns0(4096, false)
			if r := query1(t, network, at, m); len(r.Answer) != want || r.Rcode != 0 {
				t.Errorf("%v %s: %v", at, network, r)
			}
		}
		if r := query1(t, "udp", at, new(mdns.Msg).SetQuestion("www.example.net.", mdns.TypeA)); !r.Truncated {
			t.Errorf("%v", r)
		}
	}
	if within == 0 {
		t.Error("the sandbox's own servers were not asked from within it")
	}
	m := s.Metrics()
	if m.Views != 2 || m.Forwarded != 4 || m.CacheEntries != 4 || len(m.Upstreams) != 2 || m.Upstreams[0].Group != "host" ||
		m.Upstreams[0].Server != one || m.Upstreams[0].Answered != 2 || m.Upstreams[0].TCP != 2 || m.Upstreams[0].RTT == 0 || m.Upstreams[1].Group != "sandbox b" {
		t.Errorf("%+v", m)
	}
	// A view that is closed later asks nobody, not even what is known.
	if err := s.SetView(View{Sandbox: "a", Closed: true}, nil); err != nil {
		t.Fatal(err)
	}
	if r := query1(t, "udp", at, new(mdns.Msg).SetQuestion("www.example.org.", mdns.TypeA)); r.Rcode != mdns.RcodeNameError {
		t.Errorf("%v", r)
	}
}

// TestRotate: resolv.conf's option rotate takes the servers in turn.
func TestRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &fake{udp: says(60, "A 1.1.1.1")}, &fake{udp: says(60, "A 2.2.2.2"), tcp: says(60, "A 2.2.2.2")}
		s := newSandbox(t, &world{servers: map[netip.AddrPort]*fake{one: first, two: second}}, View{Upstreams: []netip.AddrPort{one, two}})
		g := s.data.Load().forward
		g.source = &fixed{servers: []netip.AddrPort{one, two}, rotate: true}
		for i := range 10 {
			s.ask(fmt.Sprintf("n%d.example", i))
		}
		if a, b := len(first.heard()), len(second.heard()); a != 5 || b != 5 {
			t.Errorf("%d and %d questions", a, b)
		}
		g.source = &fixed{servers: []netip.AddrPort{one, two}, tcp: true}
		s.ask("tcp.example")
		if h := second.heard(); len(h) != 1 || !strings.HasPrefix(h[0], "tcp ") {
			t.Errorf("use-vc: %q", h)
		}
		s.Close()
		time.Sleep(10 * time.Second)
	})
}

// TestTCPIdle: a client that rests is let go.
func TestTCPIdle(t *testing.T) {
	bubble(t, func(t *testing.T, s *sandbox, _, _ *fake) {
		client, server := net.Pipe()
		s.l.hold(server)
		done := make(chan struct{})
		start := time.Now()
		go func() { s.serveConn(s.l, server); close(done) }()
		<-done
		if took := time.Since(start); took != tcpIdle {
			t.Errorf("after %v", took)
		}
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is open")
		}
	})
}

// TestPanic: a fault in one answer ends neither the process nor the sandbox's
// resolver.
func TestPanic(t *testing.T) {
	s := NewServer(Config{Log: quiet(), ResolvConf: os.DevNull})
	n := 0
	s.again("test", func() {
		if n++; n < 3 {
			panic("on purpose")
		}
	})
	if n != 3 {
		t.Error(n)
	}
}
