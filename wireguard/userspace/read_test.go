package userspace

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"

	"linkspan/wireguard"
)

// script is a TUN device whose reads are written down: how many packets each brings, and
// with which error.
type script struct {
	tun.Device
	reads []scripted
	room  []int // that each read had
}

type scripted struct {
	n   int
	to  string
	err error
}

func (s *script) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	s.room = append(s.room, len(bufs))
	r := s.reads[0]
	s.reads = s.reads[1:]
	for i := range min(r.n, len(bufs)) {
		sizes[i] = copy(bufs[i][offset:], packetTo(r.to))
	}
	return r.n, r.err
}

// TestRead: what is there is taken along, up to what is enough; of a packet that cannot be
// read nothing dies; what the window counts is whose peer has a session.
func TestRead(t *testing.T) {
	const up, away = "10.1.0.1", "10.2.0.1"
	odd := errors.New("tcp header len is invalid: 4")
	closed := &fs.PathError{Op: "read", Path: "/dev/net/tun", Err: os.ErrClosed}
	many := func(n int) (all []scripted) {
		for range n {
			all = append(all, scripted{1, up, nil})
		}
		return all
	}
	for _, c := range []struct {
		name             string
		reads            []scripted
		n, counted, left int
		odd              int
		err              error
	}{
		{"one", many(1), 1, 1, 0, 0, nil},
		{"several", many(5), 5, 5, 0, 0, nil},
		{"more than enough", many(100), full, full, 100 - full, 0, nil},
		{"a stream is enough", []scripted{{45, up, nil}, {45, up, nil}}, 45, 45, 1, 0, nil},
		{"one before a stream", []scripted{{1, up, nil}, {45, up, nil}, {1, up, nil}}, 46, 46, 1, 0, nil},
		{"to one who is away", []scripted{{1, up, nil}, {2, away, nil}, {3, up, nil}}, 3, 1, 1, 0, nil},
		{"the widest last", []scripted{{full - 1, up, nil}, {widest, up, nil}}, full - 1 + widest, full - 1 + widest, 0, 0, nil},
		{"an odd one first", []scripted{{0, up, odd}, {1, up, nil}}, 1, 1, 0, 1, nil},
		{"an odd one in between", []scripted{{1, up, nil}, {0, up, odd}, {1, up, nil}}, 2, 2, 0, 1, nil},
		{"too many segments", []scripted{{20, up, tun.ErrTooManySegments}, {1, up, nil}}, 21, 21, 0, 1, nil},
		{"closed", []scripted{{0, up, closed}}, 0, 0, 0, 0, os.ErrClosed},
		{"closed later", []scripted{{1, up, nil}, {0, up, closed}}, 1, 1, 0, 0, os.ErrClosed},
		{"the listener for the device's state", []scripted{{0, up, fmt.Errorf("failed to receive netlink message: %w", unix.ENOBUFS)}}, 0, 0, 0, 0, unix.ENOBUFS},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &script{reads: c.reads}
			out, strange := &window{limit: 1000, most: time.Hour, space: make(chan struct{}, 1)}, 0
			l := newLink(d, nil, out, func() bool { return len(d.reads) > 0 }, func(error) { strange++ })
			a, b := wireguard.PublicKey{1}, wireguard.PublicKey{2}
			l.route(wireguard.Config{Peers: []wireguard.Peer{
				{PublicKey: a, Allowed: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}, {PublicKey: b, Allowed: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}},
			}})
			l.sessions(map[wireguard.PublicKey]bool{a: true})
			bufs, sizes := make([][]byte, l.BatchSize()), make([]int, l.BatchSize())
			for i := range bufs {
				bufs[i] = make([]byte, 64)
			}
			n, err := l.Read(bufs, sizes, 16)
			if n != c.n || !errors.Is(err, c.err) || out.n != c.counted || len(d.reads) != c.left || strange != c.odd || l.packets() != uint64(c.n) {
				t.Errorf("%d packets and %v, %d counted, %d reads left, %d odd", n, err, out.n, len(d.reads), strange)
			}
			for i := range n {
				if sizes[i] != 40 {
					t.Errorf("packet %d has %d bytes", i, sizes[i])
				}
			}
			for i, room := range d.room {
				if room < widest {
					t.Errorf("read %d had room for %d packets", i, room)
				}
			}
		})
	}
}

// TestWaiting: whether there is something to read, without waiting for it.
func TestWaiting(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	raw, err := r.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	more := newWaiting(raw).more
	if more() {
		t.Error("nothing was written")
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // asking takes nothing away
		if !more() {
			t.Error("something was written")
		}
	}
	if n := testing.AllocsPerRun(100, func() { more() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	r.Close()
	if more() {
		t.Error("of what is closed")
	}
}
