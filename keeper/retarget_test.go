package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// named is a TCP server that says its name, then echoes.
func named(t testing.TB, name string) string {
	return tcpServer(t, func(c *net.TCPConn) { fmt.Fprint(c, name); io.Copy(c, c) })
}

func hears(t testing.TB, c *net.TCPConn, want string) {
	t.Helper()
	buf := make([]byte, len(want))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != want {
		t.Errorf("%s: %q %v, want %q", c.RemoteAddr(), buf, err, want)
	}
}

func lead(q PortRequest, to string) PortRequest {
	q.ForwardTo = netip.AddrPort{}
	if to != "" {
		q.ForwardTo = netip.MustParseAddrPort(to)
	}
	return q
}

// TestRetargetTCP: asleep and awake ports, to another place, to none and back; the
// port is held all the time, and open connections go on.
func TestRetargetTCP(t *testing.T) {
	k := newKeeper(t)
	a, b := named(t, "a"), named(t, "b")
	asleep, awake := forwardReq("tcp", "::1", 2701, a), forwardReq("tcp", "::1", 2702, a)
	k.must(k.Reserve(ctxT(t), []PortRequest{asleep, awake}))
	open := dialTCP(t, "[::1]:2702")
	hears(t, open, "a")
	for _, to := range []string{b, a, b} {
		k.must(k.Retarget(ctxT(t), []PortRequest{lead(asleep, to), lead(awake, to)}))
		for _, at := range []string{"[::1]:2701", "[::1]:2702"} {
			hears(t, dialTCP(t, at), map[string]string{a: "a", b: "b"}[to])
		}
		taken(t, unix.SOCK_STREAM, "[::1]:2701")
		fmt.Fprint(open, "still")
		hears(t, open, "still")
	}
	if got, err := k.Ports(ctxT(t)); err != nil || !slices.Equal(got, []PortRequest{lead(asleep, b), lead(awake, b)}) {
		t.Errorf("ports: %v %v", got, err)
	}
	// No target any more: silent, exclusive, and what was open ends.
	k.must(k.Retarget(ctxT(t), []PortRequest{lead(asleep, ""), lead(awake, "")}))
	for _, at := range []string{"[::1]:2701", "[::1]:2702"} {
		if _, err := net.DialTimeout("tcp", at, time.Second); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a silent port answered %v", err)
		}
		taken(t, unix.SOCK_STREAM, at)
	}
	if _, err := io.ReadAll(open); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("an open connection to nowhere: %v", err)
	}
	k.must(k.Retarget(ctxT(t), []PortRequest{lead(asleep, a), lead(awake, b)}))
	hears(t, dialTCP(t, "[::1]:2701"), "a")
	hears(t, dialTCP(t, "[::1]:2702"), "b")
	k.must(k.Release(ctxT(t), "sb"))
}

// TestRetargetUDP: new clients go to the new place at once, old ones as soon as the
// old one is silent; a port made silent and loud again serves.
func TestRetargetUDP(t *testing.T) {
	k := newKeeper(t)
	deaf, err := net.ListenPacket("udp4", "127.0.0.1:0")
	k.must(err)
	defer deaf.Close()
	echo := udpServer(t)
	q := forwardReq("udp", "::1", 2711, deaf.LocalAddr().String())
	k.must(k.Reserve(ctxT(t), []PortRequest{q}))
	client := func() net.Conn {
		c, err := net.Dial("udp", "[::1]:2711")
		k.must(err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	answered := func(c net.Conn, within time.Duration) bool {
		_ = c.SetReadDeadline(time.Now().Add(within))
		c.Write([]byte("?"))
		_, err := c.Read(make([]byte, 100))
		return err == nil
	}
	old := client()
	if answered(old, 100*time.Millisecond) {
		t.Error("the deaf one answered")
	}
	k.must(k.Retarget(ctxT(t), []PortRequest{lead(q, echo)}))
	if !answered(client(), 5*time.Second) {
		t.Error("a new client is not led to the new place")
	}
	eventually(t, "the old client finds the new place", func() bool { return answered(old, 100*time.Millisecond) })
	k.must(k.Retarget(ctxT(t), []PortRequest{lead(q, "")}))
	if answered(client(), 100*time.Millisecond) {
		t.Error("a silent port answered")
	}
	taken(t, unix.SOCK_DGRAM, "[::1]:2711")
	k.must(k.Retarget(ctxT(t), []PortRequest{lead(q, echo)}))
	if !answered(client(), 5*time.Second) {
		t.Error("made loud again, it is silent")
	}
	k.must(k.Release(ctxT(t), "sb"))
}

func TestRetargetRefuses(t *testing.T) {
	pt := newTable(t)
	q := forwardReq("tcp", "::1", 2721, "127.0.0.1:9")
	silent := req("sb", "sctp", "0.0.0.0", 2721)
	if err := pt.reserve(context.Background(), []PortRequest{q, silent}); err != nil {
		t.Fatal(err)
	}
	held := pt.list()
	for _, c := range []struct {
		reqs []PortRequest
		want error
	}{
		{[]PortRequest{lead(q, "127.0.0.1:10"), lead(req("sb", "tcp", "::1", 2722), "127.0.0.1:10")}, cnm.ErrNotFound},
		{[]PortRequest{lead(req("other", "tcp", "::1", 2721), "127.0.0.1:10")}, cnm.ErrNotFound},
		{[]PortRequest{lead(q, "127.0.0.1:10"), {Owner: "sb", Proto: "tcp"}}, cnm.ErrInvalid},
		{[]PortRequest{lead(silent, "127.0.0.1:10")}, cnm.ErrUnsupported},
	} {
		if err := pt.retarget(c.reqs); !errors.Is(err, c.want) {
			t.Errorf("%v: %v", c.reqs, err)
		}
		if got := pt.list(); !slices.Equal(got, held) {
			t.Errorf("held %v, was %v", got, held)
		}
	}
	// Reserving what is held and leads elsewhere is retargeting it.
	if err := pt.reserve(context.Background(), []PortRequest{lead(q, "127.0.0.1:10")}); err != nil {
		t.Error(err)
	}
	if got := pt.list(); len(got) != 2 || got[1].ForwardTo.Port() != 10 {
		t.Errorf("held %v", got)
	}
}

// TestRest: a port that is not used any more sleeps; it wakes for the next client,
// and does not lose who is there.
func TestRest(t *testing.T) {
	pt := newTable(t)
	to, echo := named(t, "a"), udpServer(t)
	reqs := []PortRequest{forwardReq("tcp", "::1", 2731, to), forwardReq("tcp", "::1", 2732, to), forwardReq("udp", "::1", 2733, echo)}
	if err := pt.reserve(context.Background(), reqs); err != nil {
		t.Fatal(err)
	}
	awake := func() (n int) {
		pt.mu.Lock()
		defer pt.mu.Unlock()
		for _, r := range pt.held {
			r.mu.Lock()
			n += len(r.awake)
			r.mu.Unlock()
		}
		return n
	}
	if awake() != 0 {
		t.Error("awake before anyone came")
	}
	stays := dialTCP(t, "[::1]:2731")
	hears(t, stays, "a")
	udp, err := net.Dial("udp", "[::1]:2733")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for range 3 {
		goes := dialTCP(t, "[::1]:2732")
		hears(t, goes, "a")
		udp.Write([]byte("?"))
		_ = udp.SetDeadline(time.Now().Add(time.Minute))
		if _, err := udp.Read(make([]byte, 100)); err != nil {
			t.Error(err)
		}
		if n := awake(); n != 3 {
			t.Errorf("%d awake, want 3", n)
		}
		goes.Close()
		eventually(t, "the unused one sleeps", func() bool { pt.rest(); return awake() == 2 })
		fmt.Fprint(stays, "still")
		hears(t, stays, "still")
	}
}

// TestPair: a big range on both families takes one socket for each port, keeps
// everyone out on both, forwards IPv6 and resets IPv4.
func TestPair(t *testing.T) {
	pt := newTable(t)
	to := named(t, "a")
	four, six := req("sb", "tcp", "0.0.0.0", 3000, 3999), req("sb", "tcp", "::", 3000, 3999)
	six.ForwardTo = netip.MustParseAddrPort(to)
	six.ForwardTo = netip.AddrPortFrom(six.ForwardTo.Addr(), six.ForwardTo.Port()-500)
	before := sockets(t)
	if err := pt.reserve(context.Background(), []PortRequest{four, six}); err != nil {
		t.Fatal(err)
	}
	if n := sockets(t) - before; n != 1000 {
		t.Errorf("%d descriptors for 1,000 ports of both families", n)
	}
	for _, at := range []string{"0.0.0.0:3500", "127.0.0.1:3500", "[::]:3500", "[::1]:3999"} {
		taken(t, unix.SOCK_STREAM, at)
	}
	if got := pt.list(); !slices.Equal(got, []PortRequest{four, six}) {
		t.Errorf("held %v", got)
	}
	check := func() {
		t.Helper()
		hears(t, dialTCP(t, "[::1]:3500"), "a")
		c, err := net.DialTimeout("tcp4", "127.0.0.1:3500", time.Second)
		if err == nil {
			_, err = io.ReadAll(c)
			c.Close()
		}
		if !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("IPv4 that no rule led away: %v, want a reset", err)
		}
	}
	check()
	// Across an upgrade it is as before.
	var b bag
	saved := pt.freeze(&b)
	if b.err != nil || len(saved) != 2 {
		t.Fatalf("%d saved, %v", len(saved), b.err)
	}
	pt.thaw(saved)
	check()
	taken(t, unix.SOCK_STREAM, "0.0.0.0:3501")
	pt.release("sb")
	if n := sockets(t) - before; n > 50 { // connections of the clients, Go's pipes for splice
		t.Errorf("%d descriptors are left", n)
	}
	if _, err := stranger(t, unix.SOCK_STREAM, "0.0.0.0:3500", true, true); err != nil {
		t.Errorf("a released port: %v", err)
	}
}

// TestPairMeetsOthers: it is said which family is taken; TIME_WAIT is no obstacle.
func TestPairMeetsOthers(t *testing.T) {
	pt := newTable(t)
	reqs := func(from uint16) []PortRequest {
		six := req("sb", "tcp", "::", from, from+299)
		six.ForwardTo = netip.MustParseAddrPort("127.0.0.1:80")
		return []PortRequest{req("sb", "tcp", "0.0.0.0", from, from+299), six}
	}
	for i, at := range []string{"127.0.0.1:4250", "[::1]:4250"} {
		fd, err := stranger(t, unix.SOCK_STREAM, at, true, true)
		if err != nil {
			t.Fatal(err)
		}
		before := sockets(t)
		var pe *PortError
		if err := pt.reserve(context.Background(), reqs(4000)); !errors.As(err, &pe) || pe.Index != i || pe.Port != 4250 || pe.Errno != int(unix.EADDRINUSE) {
			t.Errorf("%s is taken: %v", at, err)
		}
		if n := sockets(t); n != before || !pt.empty() {
			t.Errorf("%d descriptors, were %d; held %v", n, before, pt.list())
		}
		unix.Shutdown(fd, unix.SHUT_RDWR)
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		unix.Close(fd)
	}
	leaveTimeWait(t, "127.0.0.1:4250")
	if err := pt.reserve(context.Background(), reqs(4000)); err != nil {
		t.Errorf("TIME_WAIT: %v", err)
	}
	taken(t, unix.SOCK_STREAM, "0.0.0.0:4250")
	taken(t, unix.SOCK_STREAM, "[::1]:4250")
}

// TestReserveTogether: the same from many at once is one reservation; a release
// waits for who is making it.
func TestReserveTogether(t *testing.T) {
	pt := newTable(t)
	before := sockets(t)
	done := make(chan error, 16)
	for range cap(done) {
		go func() {
			done <- pt.reserve(context.Background(), []PortRequest{req("a", "tcp", "0.0.0.0", 5000, 5199), forwardReq("tcp", "::1", 5200, "127.0.0.1:9")})
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := sockets(t) - before; n != 201 {
		t.Errorf("%d descriptors, want 201", n)
	}
	for range 20 {
		go func() {
			done <- pt.reserve(context.Background(), []PortRequest{req("b", "tcp", "0.0.0.0", 6000, 6499)})
		}()
		pt.release("b")
		if err := <-done; err != nil {
			t.Error(err)
		}
		pt.release("b")
	}
	if n := sockets(t) - before; n != 201 {
		t.Errorf("%d descriptors, want 201", n)
	}
}

// sockets counts this process's.
func sockets(t testing.TB) (n int) {
	for _, f := range fileList(t, os.Getpid()) {
		if strings.HasPrefix(f, "socket:") {
			n++
		}
	}
	return n
}
