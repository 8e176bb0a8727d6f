package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
	"linkspan/diagnose/capture/filter"
	"linkspan/diagnose/flows"
	"linkspan/internal/worldtest"
)

// fakeTap has a test's frames come in at interfaces by name.
type fakeTap struct {
	mu      sync.Mutex
	changes func([]reading.FlowChange, int)
	links   map[string]func([]reading.Frame)
	filters map[string][]reading.Instruction
	fail    map[string]error
}

func (f *fakeTap) Log(context.Context, string, uint16, func([]reading.Logged, int)) error { return nil }

func (f *fakeTap) Connections(context.Context, string) ([]reading.Connection, error) { return nil, nil }

func (f *fakeTap) Changes(ctx context.Context, _ string, _ []string, fn func([]reading.FlowChange, int)) error {
	f.mu.Lock()
	f.changes = fn
	f.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (f *fakeTap) Capture(ctx context.Context, ns string, w reading.CaptureWish, started func(), fn func([]reading.Frame)) (reading.CaptureCount, error) {
	at := "host:" + w.Link
	if ns != "" {
		at = "inside:" + w.Link
	}
	if err := f.fail[at]; err != nil {
		return reading.CaptureCount{}, err
	}
	f.mu.Lock()
	f.links[at], f.filters[at] = fn, w.Filter
	f.mu.Unlock()
	started()
	<-ctx.Done()
	return reading.CaptureCount{Received: 10, Dropped: 1}, nil
}

type kernel struct {
	*worldtest.Kernel
	flows []reading.Flow
}

func (k *kernel) Flows(context.Context, string, reading.FlowFilter) ([]reading.Flow, error) {
	return k.flows, nil
}

func made() (*fakeTap, *kernel, Source) {
	w := worldtest.New()
	k := &kernel{Kernel: w.Live}
	world := w.Diagnose()
	world.Kernel = k
	tap := &fakeTap{links: map[string]func([]reading.Frame){}, filters: map[string][]reading.Instruction{}, fail: map[string]error{}}
	return tap, k, Source{World: world, Names: flows.NewNames(world), Tap: tap, Version: "test"}
}

const (
	client = "192.168.99.50:40000"
	host   = "192.168.99.31:8080"
)

func web(s Source) string {
	c, _ := s.World.Container("web")
	box, _ := s.World.Sandbox(c.ID)
	return box.Endpoints[0].Addrs[0].Addr().String() + ":80"
}

func frame(at time.Time, src, dst string) reading.Frame {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	b := syn()
	copy(b[26:], s.Addr().AsSlice())
	copy(b[30:], d.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[34:], s.Port())
	binary.BigEndian.PutUint16(b[36:], d.Port())
	return reading.Frame{Time: at, Data: b, Length: len(b)}
}

func dnat(from, dialled, server string) reading.Flow {
	p := netip.MustParseAddrPort
	return reading.Flow{Proto: "tcp", DNAT: true, Original: reading.Tuple{Src: p(from), Dst: p(dialled)}, Reply: reading.Tuple{Src: p(server), Dst: p(from)}}
}

// going is a capture in a bubble of synctest.
type going struct {
	out  bytes.Buffer
	done chan error
	stop context.CancelFunc
}

func begin(t *testing.T, s Source, w Wish) *going {
	t.Helper()
	one, err := s.Prepare(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	g := &going{done: make(chan error, 1), stop: stop}
	go func() { g.done <- one.Run(ctx, &g.out, nil, func() {}) }()
	synctest.Wait()
	return g
}

// packets says what was written, in order: interface, ends, comment.
func (g *going) packets(t *testing.T) (out []string) {
	t.Helper()
	g.stop()
	if err := <-g.done; err != nil {
		t.Error(err)
	}
	file := g.out.Bytes()
	if s, err := Copy(io.Discard, bytes.NewReader(file)); err != nil || !s.Whole {
		t.Errorf("%+v, %v", s, err)
	}
	for len(file) > 0 {
		n := le.Uint32(file[4:])
		block := file[:n]
		file = file[n:]
		if le.Uint32(block) != blockPacket {
			continue
		}
		size := int(le.Uint32(block[20:]))
		v := filter.ViewOf(block[28 : 28+size])
		text := fmt.Sprintf("%d %s > %s", le.Uint32(block[8:]), v.Packet.Src, v.Packet.Dst)
		opts := block[28+(size+3)&^3:]
		if le.Uint16(opts) == optComment {
			text += " " + string(opts[4:4+le.Uint16(opts[2:])])
		}
		out = append(out, text)
	}
	return out
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
}

const one = " flow 1 of web: tcp 192.168.99.50:40000 -> web:80 (dialled 192.168.99.31:8080)"

// TestBothSides: what is the container's on the host's side is known by conntrack, even
// where its message comes after the packet; the order is that of time.
func TestBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap, _, s := made()
		in := web(s)
		g := begin(t, s, Wish{Container: "web"})
		now := time.Now()
		ms := func(n int) time.Time { return now.Add(time.Duration(n) * time.Millisecond) }
		tap.links["inside:eth0"]([]reading.Frame{frame(ms(2), client, in), frame(ms(3), in, client)})
		tap.links["host:eth0"]([]reading.Frame{frame(ms(1), client, host), frame(ms(2), "192.168.99.50:7", "192.168.99.31:22"), frame(ms(4), host, client), frame(ms(5), client, "192.168.99.31:9999")})
		time.Sleep(50 * time.Millisecond)
		tap.changes([]reading.FlowChange{{Kind: reading.FlowNew, Time: now, Flow: dnat(client, host, in)},
			{Kind: reading.FlowNew, Flow: dnat(client, "192.168.99.31:9999", "172.18.0.2:1")}}, 0) // another's
		time.Sleep(time.Second)
		// It ended, and its last packet comes late.
		tap.changes([]reading.FlowChange{{Kind: reading.FlowDestroy, Time: time.Now(), Flow: dnat(client, host, in)}}, 0)
		time.Sleep(time.Second)
		tap.links["host:eth0"]([]reading.Frame{frame(ms(2100), client, host)})
		time.Sleep(10 * time.Second)
		// The same ports are another flow by now.
		tap.changes([]reading.FlowChange{{Kind: reading.FlowNew, Time: time.Now(), Flow: dnat(client, host, in)}}, 0)
		tap.links["host:eth0"]([]reading.Frame{frame(ms(12000), client, host)})
		time.Sleep(time.Second)
		same(t, g.packets(t),
			"1 "+client+" > "+host+one,
			"0 "+client+" > "+in+one,
			"0 "+in+" > "+client+one,
			"1 "+host+" > "+client+one,
			"1 "+client+" > "+host+one,
			"1 "+client+" > "+host+strings.Replace(one, "flow 1", "flow 2", 1))
	})
}

// TestFilters: of both sides, addresses and ports may be of either; of one, they are
// what passes there.
func TestFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			filter, side string
			want         []int // of the frames below
			exact        bool  // the kernel sorts out all
		}{
			{"", "", []int{0, 1, 2, 3, 4}, true},
			{"port 8080", "", []int{0, 1, 2, 3}, false},
			{"dst port 80", "", []int{0, 1}, false},
			{"src host 192.168.99.50 and port 80", "", []int{0, 1}, false},
			{"not port 80", "", nil, false}, // of either side
			{"not port 8080", "", []int{4}, false},
			{"udp", "", nil, true},
			{"host web", "", []int{0, 1, 2, 3, 4}, false},
			{"port 80", Host, []int{1, 3}, false},
		} {
			tap, k, s := made()
			in := web(s)
			k.flows = []reading.Flow{dnat(client, host, in)}
			g := begin(t, s, Wish{Container: "web", Filter: c.filter, Side: c.side})
			now := time.Now()
			all := []reading.Frame{frame(now, client, in), frame(now.Add(1), client, host), frame(now.Add(2), in, client), frame(now.Add(3), host, client), frame(now.Add(4), in, "10.0.0.1:5432")}
			texts := []string{client + " > " + in, client + " > " + host, in + " > " + client, host + " > " + client, in + " > 10.0.0.1:5432"}
			for i, f := range all {
				if fn := tap.links[[]string{"inside:eth0", "host:eth0", "inside:eth0", "host:eth0", "inside:eth0"}[i]]; fn != nil {
					fn([]reading.Frame{f})
				}
			}
			time.Sleep(time.Second)
			var got, want []string
			for _, l := range g.packets(t) {
				l, _, _ = strings.Cut(l[2:], " flow")
				got = append(got, l)
			}
			for _, i := range c.want {
				want = append(want, texts[i])
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%q %s: got %q, want %q", c.filter, c.side, got, want)
			}
			e, _ := filter.Parse(c.filter, s.resolve)
			code, _ := e.Compile(SnapUsual)
			if f, ok := tap.filters["inside:eth0"]; ok && (len(f) == len(code)) != c.exact {
				t.Errorf("%q: the kernel has %d instructions, the filter %d", c.filter, len(f), len(code))
			}
		}
	})
}

func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tap, k, s := made()
		in := web(s)
		k.flows = []reading.Flow{dnat(client, host, in)}
		g := begin(t, s, Wish{Container: "web", Count: 3, Side: Inside})
		for range 10 {
			tap.links["inside:eth0"]([]reading.Frame{frame(time.Now(), client, in)})
		}
		time.Sleep(time.Second)
		if err := <-g.done; err != nil {
			t.Error(err)
		}
		g.done <- nil
		if got := g.packets(t); len(got) != 3 {
			t.Errorf("%d packets", len(got))
		}
		if _, ok := tap.links["host:eth0"]; ok {
			t.Error("it captured at the host")
		}

		tap, _, s = made()
		g = begin(t, s, Wish{Container: "web", For: 5 * time.Second})
		tap.links["inside:eth0"]([]reading.Frame{frame(time.Now(), client, in)})
		time.Sleep(6 * time.Second)
		if err := <-g.done; err != nil {
			t.Error(err)
		}
		g.done <- nil
		if got := g.packets(t); len(got) != 1 {
			t.Errorf("%d packets", len(got))
		}

		// What cannot begin is told as an error, not as a file.
		tap, _, s = made()
		tap.fail["host:eth0"] = syscall.EPERM
		g = begin(t, s, Wish{Container: "web"})
		if err := <-g.done; !errors.Is(err, syscall.EPERM) || g.out.Len() > 0 {
			t.Errorf("%v, %d bytes", err, g.out.Len())
		}
		// What waits is bounded, and goes early.
		tap, _, s = made()
		g = begin(t, s, Wish{Container: "web", Side: Inside})
		far := time.Now().Add(time.Hour)
		tap.links["inside:eth0"](make([]reading.Frame, 0))
		for range 4 {
			batch := make([]reading.Frame, holdMost/2)
			for i := range batch {
				batch[i] = frame(far, client, in)
			}
			tap.links["inside:eth0"](batch)
		}
		g.stop()
		<-g.done
		if s, _ := Copy(io.Discard, bytes.NewReader(g.out.Bytes())); s.Packets < holdMost/2 {
			t.Errorf("%d packets were written early", s.Packets)
		}
	})
}

func TestPrepare(t *testing.T) {
	_, _, s := made()
	for _, c := range []struct {
		wish  Wish
		class error
		want  string
	}{
		{Wish{Container: "wab"}, cnm.ErrNotFound, "did you mean web"},
		{Wish{Container: "old"}, cnm.ErrConflict, "linkspan start old"},
		{Wish{Container: "mon"}, cnm.ErrConflict, "tcpdump -i any"},
		{Wish{Container: "web", Side: "left"}, cnm.ErrInvalid, "inside, host or both"},
		{Wish{Container: "web", Snap: 10}, cnm.ErrInvalid, "64 to 65535"},
		{Wish{Container: "web", Count: -1}, cnm.ErrInvalid, "below zero"},
		{Wish{Container: "web", Filter: "frob"}, cnm.ErrInvalid, "is none of host"},
		{Wish{Container: "web", Filter: "host wab"}, cnm.ErrInvalid, "did you mean web"},
		{Wish{Container: "web", Filter: "host old"}, cnm.ErrInvalid, "has no address"},
	} {
		if _, err := s.Prepare(t.Context(), c.wish); !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.wish, err, c.want)
		}
	}
	c, err := s.Prepare(t.Context(), Wish{Container: "side"}) // in web's network stack
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range c.places {
		names = append(names, p.Name)
	}
	// eth1 of the host has no carrier, and may get one.
	same(t, names, "side:eth0", "host:eth0", "host:eth1")
}
