package dns

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"linkspan/cnm"
)

func TestViews(t *testing.T) {
	s, at := serve(t, Config{}, View{Sandbox: "a", Zones: []string{"n"}})
	s.SetNames("n", []Record{{Endpoint: "1", Names: []string{"db"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}}, false)
	look := func(name, want string) {
		t.Helper()
		got := show(query1(t, "udp", at, new(mdns.Msg).SetQuestion(name, mdns.TypeA)))
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	look("db.", "10.0.0.1")
	if err := s.SetView(View{Sandbox: "a", Zones: []string{"n", "m"}, Own: []Host{{Name: "me", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.9")}}}}, nil); err != nil {
		t.Fatal(err)
	}
	look("me.", "10.0.0.9")
	s.SetNames("m", []Record{{Endpoint: "1", Names: []string{"late"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}}, false)
	look("late.", "10.0.0.2")
	s.KeepZones([]string{"n"})
	look("late.", "NXDOMAIN")
	look("db.", "10.0.0.1")
	s.SetNames("m", []Record{{Endpoint: "1", Names: []string{"late"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.3")}}}, false)
	look("late.", "10.0.0.3")
	s.RemoveNames("m", []string{"1", "2"})
	s.RemoveNames("no such zone", []string{"1"})
	look("late.", "NXDOMAIN")

	if err := s.SetView(View{}, nil); !errors.Is(err, cnm.ErrInvalid) {
		t.Error(err)
	}
	if err := s.SetView(View{Sandbox: "b"}, nil); !errors.Is(err, cnm.ErrNotFound) {
		t.Error(err)
	}
	if err := s.SetView(View{Sandbox: "b"}, &Sockets{}); !errors.Is(err, cnm.ErrUnavailable) {
		t.Error(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := s.SetView(View{Sandbox: "b"}, &Sockets{UDP: null, TCP: null}); !errors.Is(err, cnm.ErrUnavailable) {
		t.Error(err)
	}
	if got := s.Views(); !slices.Equal(got, []string{"a"}) {
		t.Error(got)
	}
	s.RemoveView("b")
	s.RemoveView("a")
	s.RemoveView("a")
	if got := s.Views(); len(got) != 0 {
		t.Error(got)
	}
	// The socket is let go: nobody answers any more. The test's own copies are open.
	c := mdns.Client{Timeout: 100 * time.Millisecond}
	if r, _, err := c.Exchange(new(mdns.Msg).SetQuestion("db.", mdns.TypeA), at.String()); err == nil {
		t.Errorf("a view that was removed answers: %v", r)
	}
	s.Close()
	if err := s.SetView(View{Sandbox: "a"}, nil); !errors.Is(err, cnm.ErrUnavailable) {
		t.Error(err)
	}
}

// TestSocketsAgain: other sockets take the place of those a view has, without its
// names being told again.
func TestSocketsAgain(t *testing.T) {
	v := View{Sandbox: "a", Own: []Host{{Name: "me", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.9")}}}}
	s, _ := serve(t, Config{}, v)
	for range 3 {
		socks, at := sockets(t)
		if err := s.SetView(v, socks); err != nil {
			t.Fatal(err)
		}
		query1(t, "udp", at, new(mdns.Msg).SetQuestion("me.", mdns.TypeA))
		query1(t, "tcp", at, new(mdns.Msg).SetQuestion("me.", mdns.TypeA))
	}
}

// TestState: another process goes on with the same sockets.
func TestState(t *testing.T) {
	s := NewServer(Config{Log: quiet(), ResolvConf: os.DevNull})
	held := map[string]*Sockets{}
	var at netip.AddrPort
	for _, id := range []string{"a", "b"} {
		held[id], at = sockets(t)
		v := View{Sandbox: id, Zones: []string{"n"}, ZoneNames: []string{"shop"}, Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			Own: []Host{{Name: "me", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.9")}}}, Links: []Alias{{"l", "n", "name3"}},
			Upstreams: []netip.AddrPort{one}, Search: []string{"x"}, Closed: id == "a"}
		if err := s.SetView(v, held[id]); err != nil {
			t.Fatal(err)
		}
	}
	s.SetNames("n", names(10), true)
	s.SetNames("empty", nil, true)
	b, err := json.Marshal(s.State())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	var st State
	if err := json.Unmarshal(b, &st); err != nil {
		t.Fatal(err)
	}
	n := NewServer(Config{Log: quiet(), ResolvConf: os.DevNull})
	defer n.Close()
	if err := n.Restore(st, func(id string) *Sockets { return held[id] }); err != nil {
		t.Fatal(err)
	}
	if got := n.State(); !reflect.DeepEqual(got, st) {
		t.Errorf("%+v\nwant %+v", got, st)
	}
	if got := show(query1(t, "udp", at, new(mdns.Msg).SetQuestion("l.", mdns.TypeA))); !strings.Contains(got, "10.0.0.3") {
		t.Error(got)
	}
	lost := NewServer(Config{Log: quiet(), ResolvConf: os.DevNull})
	defer lost.Close()
	if err := lost.Restore(st, func(id string) *Sockets {
		if id == "b" {
			return held[id]
		}
		return nil
	}); !errors.Is(err, cnm.ErrNotFound) || !slices.Equal(lost.Views(), []string{"b"}) {
		t.Error(err, lost.Views())
	}
}

// TestPipeline: many questions on one connection, in pieces and at once; one that
// waits for an upstream does not hold up the next.
func TestPipeline(t *testing.T) {
	slow := make(chan struct{})
	upstream := &fake{udp: func(q *mdns.Msg) *mdns.Msg { <-slow; return says(60, "A 9.9.9.9")(q) }}
	w := &world{servers: map[netip.AddrPort]*fake{one: upstream}}
	s, at := serve(t, Config{Dial: w.dial}, View{Sandbox: "a", Zones: []string{"n"}, Upstreams: []netip.AddrPort{one}})
	s.SetNames("n", names(100), true)
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var all []byte
	put := func(id uint16, name string) {
		m := new(mdns.Msg).SetQuestion(name, mdns.TypeA)
		m.Id = id
		b, _ := m.Pack()
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(b))), b...)
	}
	put(999, "www.example.org.")
	for i := range 100 {
		put(uint16(i), fmt.Sprintf("name%d.", i))
	}
	go func() {
		for i := 0; i < len(all); i += 7 {
			_, _ = c.Write(all[i:min(i+7, len(all))])
		}
		_ = c.(*net.TCPConn).CloseWrite() // and hears the rest all the same
	}()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	seen := map[uint16]bool{}
	for range 101 {
		if len(seen) == 100 {
			close(slow)
		}
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			t.Fatal(err, len(seen))
		}
		b := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		r := new(mdns.Msg)
		if err := r.Unpack(b); err != nil || len(r.Answer) != 1 {
			t.Fatal(err, r)
		}
		seen[r.Id] = true
	}
	if !seen[999] || len(seen) != 101 {
		t.Errorf("%d answers", len(seen))
	}
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Error(n, err)
	}
}

// TestNonsense: over both transports, and the server goes on.
func TestNonsense(t *testing.T) {
	s, at := serve(t, Config{}, View{Sandbox: "a", Zones: []string{"n"}})
	s.SetNames("n", names(1), true)
	u, err := net.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for _, b := range [][]byte{{}, {1}, make([]byte, 11), make([]byte, 12), make([]byte, 60000), []byte("GET / HTTP/1.1\r\n\r\n")} {
		if _, err := u.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00\x00", "\x00\x05abc", "\xff\xff", ""} {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(text))
		_ = c.Close()
	}
	for _, network := range []string{"udp", "tcp"} {
		query1(t, network, at, new(mdns.Msg).SetQuestion("name0.", mdns.TypeA))
	}
}

// TestManyConnections: one sandbox cannot take all there is; those who come later
// are turned away, and find room when others have gone.
func TestManyConnections(t *testing.T) {
	s, at := serve(t, Config{}, View{Sandbox: "a", Zones: []string{"n"}})
	s.SetNames("n", names(1), true)
	var open []net.Conn
	for range maxConns {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	held := func() int {
		l := s.views["a"].sockets
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.conns)
	}
	for i := 0; held() < maxConns; i++ {
		if i > 1000 {
			t.Fatal(held())
		}
		time.Sleep(time.Millisecond)
	}
	c := mdns.Client{Net: "tcp", Timeout: time.Second}
	if _, _, err := c.Exchange(new(mdns.Msg).SetQuestion("name0.", mdns.TypeA), at.String()); err == nil {
		t.Error("served one more than the bound")
	}
	for _, c := range open {
		c.Close()
	}
	for i := 0; held() > 0; i++ {
		if i > 1000 {
			t.Fatal(held())
		}
		time.Sleep(time.Millisecond)
	}
	query1(t, "tcp", at, new(mdns.Msg).SetQuestion("name0.", mdns.TypeA))
}

// TestFlood: many clients at once, each hears the answer to what it asked.
func TestFlood(t *testing.T) {
	s, at := serve(t, Config{}, View{Sandbox: "a", Zones: []string{"n"}})
	s.SetNames("n", names(1000), true)
	var wg sync.WaitGroup
	var lost atomic.Int32
	for client := range 8 {
		wg.Go(func() {
			c, err := net.Dial("udp", at.String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			buf := make([]byte, 512)
			for i := 0; i < 2000; i += 20 {
				for j := range 20 {
					n := (client*100 + i + j) % 1000
					m := new(mdns.Msg).SetQuestion(fmt.Sprintf("name%d.", n), mdns.TypeA)
					m.Id = uint16(n)
					b, _ := m.Pack()
					_, _ = c.Write(b)
				}
				for range 20 {
					_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
					n, err := c.Read(buf)
					if err != nil {
						lost.Add(1)
						return
					}
					r := new(mdns.Msg)
					if err := r.Unpack(buf[:n]); err != nil || len(r.Answer) != 1 {
						t.Errorf("%v %v", err, r)
						return
					}
					want := netip.AddrFrom4([4]byte{10, 0, byte(r.Id >> 8), byte(r.Id)}).String()
					if got := r.Answer[0].(*mdns.A).A.String(); got != want || r.Question[0].Name != fmt.Sprintf("name%d.", r.Id) {
						t.Errorf("%d: %s, want %s", r.Id, got, want)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if n := lost.Load(); n > 0 {
		t.Errorf("%d clients lost an answer", n)
	}
}

// TestIdle: what 200 sandboxes that rest cost.
func TestIdle(t *testing.T) {
	s, _ := serve(t, Config{}, View{Sandbox: "a", Zones: []string{"n"}})
	s.SetNames("n", names(200), true)
	threads := func() int {
		e, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(e)
	}
	memory := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	memBefore, threadsBefore := memory(), threads()
	var at []netip.AddrPort
	for i := range 200 {
		socks, a := sockets(t)
		if err := s.SetView(View{Sandbox: fmt.Sprint("s", i), Zones: []string{"n"}, ZoneNames: []string{"shop"}}, socks); err != nil {
			t.Fatal(err)
		}
		at = append(at, a)
	}
	for _, a := range at {
		query1(t, "udp", a, new(mdns.Msg).SetQuestion("name1.", mdns.TypeA))
	}
	mem, n := memory()-memBefore, threads()-threadsBefore
	t.Logf("200 sandboxes: %d KB, %d threads more", mem>>10, n)
	if mem > 12<<20 || n > 8 {
		t.Errorf("200 sandboxes cost %d KB and %d threads", mem>>10, n)
	}
}
