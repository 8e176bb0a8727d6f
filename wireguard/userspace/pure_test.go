package userspace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"

	"linkspan/wireguard"
)

func key(t *testing.T) wireguard.PrivateKey {
	t.Helper()
	k, err := wireguard.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestUAPI: a change as the device reads it.
func TestUAPI(t *testing.T) {
	private, err := wireguard.ParsePrivateKey("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=")
	if err != nil {
		t.Fatal(err)
	}
	keep, never, port := 25*time.Second, time.Duration(0), uint16(7)
	pfx := netip.MustParsePrefix
	one, two := wireguard.PublicKey{1}, wireguard.PublicKey{2}
	zeros := strings.Repeat("0", 62)
	for _, c := range []struct {
		name string
		c    wireguard.Change
		want string
	}{
		{"nothing", wireguard.Change{}, ""},
		{"a port is not the device's", wireguard.Change{Port: &port}, ""},
		{"a key", wireguard.Change{Key: &private}, "private_key=77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a\n"},
		{"a new peer", wireguard.Change{Peers: []wireguard.PeerChange{{PublicKey: one, New: true, Endpoint: netip.MustParseAddrPort("[fd00::1]:51871"), Keepalive: &keep, Add: []netip.Prefix{pfx("10.1.0.0/16"), pfx("fd77::1/128")}}}},
			"public_key=01" + zeros + "\nendpoint=[fd00::1]:51871\nallowed_ip=10.1.0.0/16\nallowed_ip=fd77::1/128\npersistent_keepalive_interval=25\n"},
		{"others", wireguard.Change{Peers: []wireguard.PeerChange{{PublicKey: one, Keepalive: &never, Drop: []netip.Prefix{pfx("10.1.0.0/16")}}, {PublicKey: two, Remove: true}}},
			"public_key=01" + zeros + "\nupdate_only=true\nallowed_ip=-10.1.0.0/16\npersistent_keepalive_interval=0\npublic_key=02" + zeros + "\nremove=true\n"},
	} {
		if got := uapi(c.c); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

func TestParseState(t *testing.T) {
	const text = "private_key=77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a\nlisten_port=51871\n" +
		"public_key=0200000000000000000000000000000000000000000000000000000000000000\nprotocol_version=1\nendpoint=10.0.0.2:51871\n" +
		"last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=5\ntx_bytes=10\nrx_bytes=20\npersistent_keepalive_interval=25\nallowed_ip=fd77::2/128\nallowed_ip=10.2.0.0/16\n" +
		"public_key=0100000000000000000000000000000000000000000000000000000000000000\nlast_handshake_time_sec=0\nlast_handshake_time_nsec=0\nsome_new_word=1\n"
	st, err := parseState(text)
	want := wireguard.Status{Peers: []wireguard.PeerStatus{
		{PublicKey: wireguard.PublicKey{1}},
		{PublicKey: wireguard.PublicKey{2}, Endpoint: netip.MustParseAddrPort("10.0.0.2:51871"), Handshake: time.Unix(1700000000, 5), Sent: 10, Received: 20,
			Allowed: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("fd77::2/128")}},
	}}
	if err != nil || !reflect.DeepEqual(st, want) {
		t.Errorf("%+v, %v", st, err)
	}
	for _, bad := range []string{"public_key=zz\n", "public_key=01\n", text + "rx_bytes=-1\n", text + "endpoint=x\n", text + "allowed_ip=10.0.0.0\n", text + "last_handshake_time_sec=x\n"} {
		if _, err := parseState(bad); err == nil || strings.Contains(err.Error(), "77076d") {
			t.Errorf("%q: %v", bad[max(0, len(bad)-30):], err)
		}
	}
}

func FuzzParseState(f *testing.F) {
	f.Add("public_key=0100000000000000000000000000000000000000000000000000000000000000\nendpoint=10.0.0.2:51871\nallowed_ip=10.2.0.0/16\n")
	f.Fuzz(func(t *testing.T, s string) { _, _ = parseState(s) })
}

// TestWindow: who fills it waits for who empties it, and no longer than the bound.
func TestWindow(t *testing.T) {
	w := &window{limit: 10, most: time.Hour, space: make(chan struct{}, 1)}
	w.wait()
	w.add(12) // a batch may go over it
	var through atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() { w.wait(); through.Store(true) })
	time.Sleep(20 * time.Millisecond)
	w.done(2)
	time.Sleep(20 * time.Millisecond)
	if through.Load() {
		t.Error("it let through what has no room")
	}
	w.done(1)
	wg.Wait()
	w.done(100) // more than there are: handshakes and keepalives are not counted in
	if w.n != 0 {
		t.Errorf("%d are in it", w.n)
	}
	w.most = 30 * time.Millisecond
	w.add(10)
	began := time.Now()
	w.wait()
	if took := time.Since(began); took < 30*time.Millisecond || took > time.Minute || w.n != 0 {
		t.Errorf("what never comes out held it up for %v, and %d are left", took, w.n)
	}
}

// TestWindowReaders: two readers (IPv4, IPv6) and many writers come to an end.
func TestWindowReaders(t *testing.T) {
	w := &window{limit: 64, most: time.Hour, space: make(chan struct{}, 1)}
	work := make(chan int, 1000)
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for range 2000 {
				w.wait()
				w.add(45)
				work <- 45
			}
		})
	}
	for range 4 {
		writers.Go(func() {
			for n := range work {
				w.done(n)
			}
		})
	}
	readers.Wait()
	close(work)
	writers.Wait()
	if w.n != 0 {
		t.Errorf("%d are left", w.n)
	}
}

// TestControl: what is written is read, by the kernel's names.
func TestControl(t *testing.T) {
	four, six := netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::7")
	for _, c := range []struct {
		src     netip.Addr
		segment int
		len     int
	}{{netip.Addr{}, 0, 0}, {four, 0, unix.CmsgSpace(unix.SizeofInet4Pktinfo)}, {six, 1400, unix.CmsgSpace(unix.SizeofInet6Pktinfo) + unix.CmsgSpace(2)}, {netip.Addr{}, 1400, unix.CmsgSpace(2)}} {
		b := control(nil, c.src, c.segment)
		if len(b) != c.len {
			t.Errorf("%v %d: %d bytes, want %d", c.src, c.segment, len(b), c.len)
		}
		msgs, err := unix.ParseSocketControlMessage(b)
		if err != nil {
			t.Fatal(err)
		}
		segment := 0
		for _, m := range msgs {
			if m.Header.Level == unix.IPPROTO_UDP && m.Header.Type == unix.UDP_SEGMENT {
				segment = int(binary.NativeEndian.Uint16(m.Data))
			}
		}
		if segment != c.segment {
			t.Errorf("segment %d, want %d", segment, c.segment)
		}
		if src, _ := readControl(b); src != c.src {
			t.Errorf("source %v, want %v", src, c.src)
		}
	}
	gro := cmsg(nil, unix.IPPROTO_UDP, unix.UDP_GRO, 4, func(d []byte) { native.PutUint32(d, 1392) })
	if _, segment := readControl(gro); segment != 1392 {
		t.Errorf("UDP_GRO is read as %d", segment)
	}
	if src, segment := readControl([]byte{1, 2, 3}); src.IsValid() || segment != 0 {
		t.Error("garbage means something")
	}
}

func FuzzReadControl(f *testing.F) {
	f.Add(control(nil, netip.MustParseAddr("10.1.2.3"), 9))
	f.Fuzz(func(t *testing.T, b []byte) { readControl(b) })
}

func TestEqual(t *testing.T) {
	p := func(sizes ...int) (out [][]byte) {
		for _, n := range sizes {
			out = append(out, make([]byte, n))
		}
		return out
	}
	many := make([]int, 70)
	for i := range many {
		many[i] = 100
	}
	big := make([]int, 50)
	for i := range big {
		big[i] = 1400
	}
	for _, c := range []struct {
		bufs [][]byte
		want int
	}{{p(100), 1}, {p(100, 100, 100), 3}, {p(100, 100, 60, 100), 3}, {p(100, 120), 1}, {p(100, 100, 120), 2}, {p(many...), 64}, {p(big...), 46}, {p(100, 0), 2}} {
		if got := equal(c.bufs); got != c.want {
			t.Errorf("%d packets, the first of %d bytes: %d, want %d", len(c.bufs), len(c.bufs[0]), got, c.want)
		}
	}
}

// TestLive: whose packet it is, by the longest prefix, and whether there is a session.
func TestLive(t *testing.T) {
	l := newLink(nil, nil, nil, nil, nil)
	a, b := wireguard.PublicKey{1}, wireguard.PublicKey{2}
	pfx := netip.MustParsePrefix
	l.route(wireguard.Config{Peers: []wireguard.Peer{
		{PublicKey: a, Allowed: []netip.Prefix{pfx("10.0.0.0/8"), pfx("fd77::1/128"), pfx("0.0.0.0/0")}},
		{PublicKey: b, Allowed: []netip.Prefix{pfx("10.2.0.0/16"), pfx("fd77::2/128")}},
	}})
	l.sessions(map[wireguard.PublicKey]bool{b: true})
	for dst, want := range map[string]bool{"10.1.0.1": false, "10.2.0.1": true, "fd77::2": true, "fd77::1": false, "fd77::3": false, "192.168.0.1": false} {
		if got := l.live(packetTo(dst)); got != want {
			t.Errorf("to %s: %v", dst, got)
		}
	}
	for _, p := range [][]byte{nil, {0x45}, make([]byte, 100)} {
		if l.live(p) {
			t.Errorf("% x is to someone", p)
		}
	}
}

func packetTo(dst string) []byte {
	a := netip.MustParseAddr(dst)
	p := make([]byte, 40)
	if a.Is4() {
		p[0] = 0x45
		copy(p[16:], a.AsSlice())
	} else {
		p[0] = 0x60
		copy(p[24:], a.AsSlice())
	}
	return p
}

// TestIndices: only what a session of this device can take is counted.
func TestIndices(t *testing.T) {
	x := indices{known: map[uint32]time.Time{}}
	message := func(kind byte, index uint32, size int) []byte {
		p := make([]byte, size)
		p[0] = kind
		binary.LittleEndian.PutUint32(p[4:], index)
		return p
	}
	if x.data(message(4, 7, 100)) {
		t.Error("a number that was never told")
	}
	x.sent(message(1, 7, 148))
	x.sent(message(2, 8, 92))
	x.sent(message(4, 9, 100)) // data carries the other's number
	x.sent([]byte{1})
	for _, c := range []struct {
		p    []byte
		want bool
	}{{message(4, 7, 100), true}, {message(4, 8, 100), true}, {message(4, 9, 100), false}, {message(4, 7, 32), false}, {message(1, 7, 148), false}, {[]byte{4}, false}} {
		if got := x.data(c.p); got != c.want {
			t.Errorf("% x: %v", c.p[:min(8, len(c.p))], got)
		}
	}
	x.known[7] = time.Now().Add(-time.Hour)
	x.sent(message(1, 10, 148))
	if x.data(message(4, 7, 100)) || len(x.known) != 2 {
		t.Errorf("old numbers are kept: %v", x.known)
	}
}

// TestReceiver: what waits in the socket comes out whole, one by one, in order, however
// much is there at once.
func TestReceiver(t *testing.T) {
	s, err := listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	b := newBind(slog.New(slog.DiscardHandler), s, newWindow(), newWindow())
	to := s.v4.LocalAddr().(*net.UDPAddr).AddrPort()
	to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
	out, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	fns, _, err := b.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	bufs, sizes, eps := make([][]byte, batch), make([]int, batch), make([]conn.Endpoint, batch)
	for i := range bufs {
		bufs[i] = make([]byte, 1<<16)
	}
	sent, got := 0, 0
	for burst := range 40 {
		for range burst {
			if _, err := fmt.Fprintf(out, "%0*d", 10+sent%1400, sent); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		for got < sent {
			_ = s.v4.SetReadDeadline(time.Now().Add(time.Minute))
			n, err := fns[0](bufs, sizes, eps)
			if err != nil {
				t.Fatalf("of %d datagrams %d came: %v", sent, got, err)
			}
			for i := range n {
				if want := fmt.Sprintf("%0*d", 10+got%1400, got); string(bufs[i][:sizes[i]]) != want {
					t.Fatalf("datagram %d of %d bytes is one of %d", got, len(want), sizes[i])
				}
				if e := eps[i]; e.DstToString() != out.LocalAddr().String() || e.SrcIP() != to.Addr() {
					t.Fatalf("it came from %s to %s", e.DstToString(), e.SrcToString())
				}
				got++
			}
		}
	}
	// Packets of one size as one message: they are cut by the kernel, put together again
	// on the way, and taken apart here.
	e := &endpoint{dst: to}
	var many [][]byte
	for i := range 100 {
		many = append(many, bytes.Repeat([]byte{byte(i)}, 1000))
	}
	many = append(many, []byte("the last is shorter"))
	_ = s.v4.SetReadDeadline(time.Now().Add(time.Minute))
	if err := b.Send(many, e); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(many); {
		n, err := fns[0](bufs, sizes, eps)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if !bytes.Equal(bufs[i][:sizes[i]], many[at]) {
				t.Fatalf("packet %d has become one of %d bytes", at, sizes[i])
			}
			at++
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := fns[0](bufs, sizes, eps); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after it was closed: %v", err)
	}
}

func TestComplaint(t *testing.T) {
	var c complaint
	now := time.Now()
	for i, want := range []struct {
		after time.Duration
		ok    bool
		muted int
	}{{0, true, 0}, {time.Second, false, 0}, {time.Second, false, 0}, {time.Minute, true, 2}, {0, false, 0}} {
		now = now.Add(want.after)
		if ok, muted := c.may(now); ok != want.ok || muted != want.muted {
			t.Errorf("%d: %v %d", i, ok, muted)
		}
	}
	deviceLogger(slog.New(slog.DiscardHandler)).Errorf("x %d", 1)
}

// TestResumeBroken: what did not come over is said, and nothing is left open.
func TestResumeBroken(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	s := Saved{Config: wireguard.Config{Name: "x"}, Secret: "no key"}
	if _, err := Resume(logger, s, nil, nil, nil); err == nil {
		t.Error("without a key")
	}
	s.Secret = key(t).Secret()
	if _, err := Resume(logger, s, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "TUN") {
		t.Errorf("without a TUN device: %v", err)
	}
}
