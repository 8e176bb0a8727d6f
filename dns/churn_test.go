package dns

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// TestChurn: everything changes at once while sandboxes ask; what is asked of a name
// that stays is answered all the time, and nothing is left at the end.
func TestChurn(t *testing.T) {
	w := &world{servers: map[netip.AddrPort]*fake{one: {udp: says(1, "A 9.9.9.9"), delay: time.Millisecond}, two: {udp: says(0, "A 9.9.9.8")}}}
	stays := Record{Endpoint: "stays", Names: []string{"stays"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	view := View{Sandbox: "asker", Zones: []string{"z", "y"}, Upstreams: []netip.AddrPort{one, two}}
	s, at := serve(t, Config{Dial: w.dial}, view)
	s.SetNames("z", []Record{stays}, false)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	loop := func(f func(i int)) {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					f(i)
				}
			}
		})
	}
	var asked atomic.Int64
	for _, network := range []string{"udp", "tcp"} {
		loop(func(i int) {
			name := []string{"stays.", "stays.", fmt.Sprintf("n%d.example.", i%50)}[i%3]
			c := mdns.Client{Net: network, Timeout: 5 * time.Second}
			r, _, err := c.Exchange(new(mdns.Msg).SetQuestion(name, mdns.TypeA), at.String())
			if err != nil || len(r.Answer) != 1 {
				t.Errorf("%s %s: %v %v", network, name, err, r)
			}
			asked.Add(1)
		})
	}
	loop(func(i int) { s.SetNames("z", names(i%100), false) })
	loop(func(i int) {
		var ids []string
		for _, r := range names(i % 50) {
			ids = append(ids, r.Endpoint)
		}
		s.RemoveNames("z", ids)
		s.SetNames("y", names(i%7), true)
	})
	loop(func(i int) {
		v := view
		if i%2 == 0 {
			v.Upstreams = []netip.AddrPort{two}
		}
		v.Own = []Host{{Name: fmt.Sprint("own", i), Addrs: stays.Addrs}}
		if err := s.SetView(v, nil); err != nil {
			t.Error(err)
		}
		s.KeepZones([]string{"z"})
		time.Sleep(time.Millisecond)
	})
	loop(func(i int) {
		socks, at := sockets(t)
		id := fmt.Sprint("comes", i%5)
		if err := s.SetView(View{Sandbox: id, Zones: []string{"z"}}, socks); err != nil {
			t.Error(err)
		}
		c := mdns.Client{Timeout: 50 * time.Millisecond}
		_, _, _ = c.Exchange(new(mdns.Msg).SetQuestion("stays.", mdns.TypeA), at.String())
		s.RemoveView(id)
		time.Sleep(time.Millisecond)
	})
	loop(func(int) {
		_ = s.State()
		_ = s.Metrics()
		_ = s.Views()
		time.Sleep(time.Millisecond)
	})
	time.Sleep(700 * time.Millisecond)
	for end := time.Now().Add(time.Minute); asked.Load() < 20 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	close(stop)
	wg.Wait()
	if asked.Load() < 20 {
		t.Errorf("only %d questions", asked.Load())
	}
	done := make(chan struct{})
	go func() { s.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("Close waits for ever")
	}
	if got := s.Views(); len(got) != 0 {
		t.Error(got)
	}
}
