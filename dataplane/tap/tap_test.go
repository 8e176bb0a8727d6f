package tap_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/live"
	"linkspan/dataplane/reading"
	"linkspan/dataplane/tap"
	"linkspan/internal/lab"
)

func newTap() *tap.Tap { return tap.New(tap.Config{FlowOf: live.FlowOf}) }

// heard collects what a tap gives.
type heard[T any] struct {
	mu   sync.Mutex
	all  []T
	lost int
}

func (h *heard[T]) take(batch []T, lost int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, batch...)
	h.lost += lost
}

func (h *heard[T]) list() []T {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// background runs a tap until the test's end and reports its error.
func background(t *testing.T, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("it ended with %v", err)
				}
			case <-time.After(15 * time.Second):
				t.Error("it does not end")
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func pair(t *testing.T) (a, b *lab.Host) {
	l := lab.New(t)
	a, b = l.Host("a"), l.Host("b")
	l.Join(a, b, "10.9.0.1/24", "10.9.0.2/24")
	a.Addr("wan0", netip.MustParsePrefix("fd09::1/64"))
	b.Addr("wan0", netip.MustParsePrefix("fd09::2/64"))
	return a, b
}

const logTable = `table inet t {
	chain in {
		type filter hook input priority 0;
		udp dport 7000 limit rate 20/second burst 100 packets log prefix "ls:seven" group 4711 snaplen 128 log prefix "ls:seven" group 4712 snaplen 128
		udp dport 7000 counter drop
		meta l4proto { icmp, ipv6-icmp } log prefix "ls:ping" group 4711 snaplen 128
	}
}`

// load replaces the table.
func load(t *testing.T, h *lab.Host, text string) {
	t.Helper()
	c := h.Command("sh", "-c", "nft -f - <<'X'\n"+text+"\nX")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestLog(t *testing.T) {
	a, b := pair(t)
	load(t, b, logTable)
	var got heard[reading.Logged]
	stop := background(t, func(ctx context.Context) error { return newTap().Log(ctx, b.NS, 4711, got.take) })
	find := func(prefix string, proto string, v6 bool) (e reading.Logged, ok bool) {
		for _, e := range got.list() {
			if e.Prefix == prefix && e.Packet.Proto == proto && e.Packet.Dst.Addr().Is6() == v6 && (proto == "udp" || e.Packet.ICMPType == "echo-request") {
				return e, true
			}
		}
		return e, false
	}
	for _, to := range []string{"10.9.0.2", "fd09::2"} {
		conn, err := a.Dial("udp", net.JoinHostPort(to, "7000"), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		v6 := to != "10.9.0.2"
		until(t, "the packet is told", func() bool {
			conn.Write([]byte("x")) // the tap may have begun after the first
			_, ok := find("ls:seven", "udp", v6)
			return ok
		})
		e, _ := find("ls:seven", "udp", v6)
		src, _ := netip.ParseAddrPort(conn.LocalAddr().String())
		if e.In != "wan0" || e.Out != "" || e.Packet.Src != src || e.Packet.Dst.Port() != 7000 || time.Since(e.Time) > time.Minute || time.Until(e.Time) > time.Minute {
			t.Errorf("%+v", e)
		}
		a.Run("ping", "-c1", "-W5", to)
		proto := "icmp"
		if v6 {
			proto = "icmpv6"
		}
		until(t, "the ping is told", func() bool { _, ok := find("ls:ping", proto, v6); return ok })
	}

	// One group, one reader; the other group is for people.
	if err := newTap().Log(t.Context(), b.NS, 4711, func([]reading.Logged, int) {}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a second reader: %v", err)
	}
	var second heard[reading.Logged]
	background(t, func(ctx context.Context) error { return newTap().Log(ctx, b.NS, 4712, second.take) })
	conn, err := a.Dial("udp", "10.9.0.2:7000", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	until(t, "both groups have it", func() bool {
		conn.Write([]byte("x"))
		return len(second.list()) > 0
	})

	// The page is deleted and loaded anew, as after `nft flush ruleset`: the tap goes on.
	b.Run("nft", "flush", "ruleset")
	before := len(got.list())
	load(t, b, logTable)
	until(t, "it goes on with the new page", func() bool {
		conn.Write([]byte("x"))
		return len(got.list()) > before
	})
	stop()
	// The group is free again.
	background(t, func(ctx context.Context) error { return newTap().Log(ctx, b.NS, 4711, got.take) })
}

// TestLogFlood: what the rate lets through is told, and the verdict is the same for
// those it does not.
func TestLogFlood(t *testing.T) {
	a, b := pair(t)
	load(t, b, logTable)
	var got heard[reading.Logged]
	background(t, func(ctx context.Context) error { return newTap().Log(ctx, b.NS, 4711, got.take) })
	conn, err := a.Dial("udp", "10.9.0.2:7000", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	until(t, "it listens", func() bool { conn.Write([]byte("x")); return len(got.list()) > 0 })
	const flood = 5000
	for range flood {
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all were dropped", func() bool {
		var packets int
		out := b.Run("nft", "list", "chain", "inet", "t", "in")
		fmt.Sscanf(out[max(0, indexAfter(out, "udp dport 7000 counter packets ")):], "%d", &packets)
		return packets >= flood
	})
	if n := len(got.list()); n > flood/2 {
		t.Errorf("%d of %d were told", n, flood)
	}
}

func indexAfter(s, sub string) int {
	for i := range len(s) - len(sub) {
		if s[i:i+len(sub)] == sub {
			return i + len(sub)
		}
	}
	return -1
}

func TestChanges(t *testing.T) {
	a, b := pair(t)
	load(t, b, `table inet t {
	chain pre { type nat hook prerouting priority -100; tcp dport 8080 redirect to :9090; }
}`)
	b.Sysctl("net.netfilter.nf_conntrack_tcp_timeout_close", "1")
	ln := b.Listen("tcp", "0.0.0.0:9090")
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	var got heard[reading.FlowChange]
	background(t, func(ctx context.Context) error { return newTap().Changes(ctx, b.NS, nil, got.take) })
	seen := func(kind string) (reading.Flow, bool) {
		for _, c := range got.list() {
			if c.Kind == kind && c.Flow.Original.Dst.Port() == 8080 {
				return c.Flow, true
			}
		}
		return reading.Flow{}, false
	}
	until(t, "a connection is told", func() bool {
		c, err := a.Dial("tcp", "10.9.0.2:8080", 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		time.Sleep(20 * time.Millisecond)
		_, ok := seen(reading.FlowNew)
		return ok
	})
	f, _ := seen(reading.FlowNew)
	if f.Proto != "tcp" || f.Reply.Src != netip.MustParseAddrPort("10.9.0.2:9090") || f.Original.Src.Addr() != netip.MustParseAddr("10.9.0.1") {
		t.Errorf("%+v", f)
	}
	until(t, "its states are told", func() bool { _, ok := seen(reading.FlowUpdate); return ok })
	if _, err := b.Try("conntrack", "-F"); err == nil {
		until(t, "its end is told", func() bool { _, ok := seen(reading.FlowDestroy); return ok })
	}
	if err := tap.New(tap.Config{}).Changes(t.Context(), b.NS, nil, nil); err == nil {
		t.Error("it listens without a decoder")
	}
}

// TestConnections: both sides of a connection, who began it, and what it carried.
func TestConnections(t *testing.T) {
	a, b := pair(t)
	ln := b.Listen("tcp", "[::]:9090")
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err == nil {
			c.Write(make([]byte, 5000))
		}
	}()
	c, err := a.Dial("tcp", "10.9.0.2:9090", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	client, _ := netip.ParseAddrPort(c.LocalAddr().String())
	server := netip.MustParseAddrPort("10.9.0.2:9090")
	for _, side := range []struct {
		h             *lab.Host
		local, remote netip.AddrPort
		served        bool
	}{{a, client, server, false}, {b, server, client, true}} {
		var got []reading.Connection
		until(t, "the bytes are acknowledged", func() bool {
			if got, err = newTap().Connections(t.Context(), side.h.NS); err != nil {
				t.Fatal(err)
			}
			return len(got) == 1 && got[0].SentBytes+got[0].BackBytes >= 5000
		})
		if g := got[0]; g.Local != side.local || g.Remote != side.remote || g.Served != side.served || g.State != "ESTABLISHED" || g.BackPackets == 0 {
			t.Errorf("%+v", g)
		}
	}
	if _, err := newTap().Connections(t.Context(), "/run/netns/there-is-none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a namespace that is not there: %v", err)
	}
}
