package dns

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// TestDrain: what is with an upstream is answered, over both; what comes after is
// the next server's, and none is lost on the way.
func TestDrain(t *testing.T) {
	held := make(chan struct{})
	upstream := server(t, func(q *mdns.Msg) *mdns.Msg {
		<-held
		return says(60, "A 192.0.2.1")(q)
	})
	v := View{Sandbox: "a", Zones: []string{"z"}, Upstreams: []netip.AddrPort{upstream}}
	s := NewServer(Config{Log: quiet(), ResolvConf: "/dev/null"})
	defer s.Close()
	socks, at := sockets(t)
	if err := s.SetView(v, socks); err != nil {
		t.Fatal(err)
	}
	s.SetNames("z", names(3), true)
	idle, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	ask := func(network, name, want string) {
		r := query1(t, network, at, new(mdns.Msg).SetQuestion(name, mdns.TypeA))
		if len(r.Answer) != 1 || r.Answer[0].(*mdns.A).A.String() != want {
			t.Errorf("%s %s: %v", network, name, r)
		}
	}
	var all sync.WaitGroup
	for _, network := range []string{"udp", "tcp"} {
		all.Go(func() { ask(network, network+".example.org.", "192.0.2.1") })
	}
	for s.count.Queries.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	s.Drain(short) // nobody answers in so short a time
	all.Go(func() { ask("udp", "name1.", "10.0.0.1") })
	all.Go(func() { ask("tcp", "name2.", "10.0.0.2") })
	time.Sleep(20 * time.Millisecond)
	if n := s.count.Queries.Load(); n != 2 {
		t.Errorf("%d questions were taken, 2 came before", n)
	}
	close(held)
	began := time.Now()
	s.Drain(t.Context())
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("an idle connection held it up for %v", took)
	}
	state := s.State()
	s.Close()
	next := NewServer(Config{Log: quiet(), ResolvConf: "/dev/null"})
	defer next.Close()
	if err := next.Restore(state, func(string) *Sockets { return socks }); err != nil {
		t.Fatal(err)
	}
	all.Wait()
}
