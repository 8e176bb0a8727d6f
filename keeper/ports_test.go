package keeper

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/probe"
)

func newTable(t testing.TB) *portTable {
	t.Helper()
	probe.Require(t, probe.Root, probe.NetNS)
	pt := newPortTable(slog.New(slog.DiscardHandler), newChunks())
	t.Cleanup(func() { pt.release("") })
	return pt
}

func req(owner, proto, addr string, ports ...uint16) PortRequest {
	q := PortRequest{Owner: owner, Proto: proto, Addr: netip.MustParseAddr(addr), Port: ports[0]}
	if len(ports) > 1 {
		q.PortEnd = ports[1]
	}
	return q
}

// stranger binds as another program would. The descriptor is closed at the end.
func stranger(t testing.TB, typ int, at string, reuse, listen bool) (int, error) {
	t.Helper()
	ap := netip.MustParseAddrPort(at)
	fd, err := open(ap, typ, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if reuse {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Bind(fd, sockaddr(ap)); err != nil {
		return -1, err
	}
	if listen {
		return fd, unix.Listen(fd, 8)
	}
	return fd, nil
}

// taken asserts that no one else gets the port, in whatever way they ask.
func taken(t *testing.T, typ int, at string) {
	t.Helper()
	for _, reuse := range []bool{false, true} {
		if typ == unix.SOCK_DGRAM && reuse {
			continue // for UDP both must have set it, and ours has not: the same answer
		}
		if _, err := stranger(t, typ, at, reuse, typ == unix.SOCK_STREAM); err != unix.EADDRINUSE {
			t.Errorf("%s reuse %v: another program got %v, want EADDRINUSE", at, reuse, err)
		}
	}
}

func TestReserveIsExclusive(t *testing.T) {
	pt := newTable(t)
	ctx := context.Background()
	for _, c := range []struct {
		q      PortRequest
		typ    int
		others []string
	}{
		{req("a", "tcp", "0.0.0.0", 1001), unix.SOCK_STREAM, []string{"0.0.0.0:1001", "127.0.0.1:1001"}},
		{req("a", "tcp", "127.0.0.1", 1002), unix.SOCK_STREAM, []string{"0.0.0.0:1002", "127.0.0.1:1002"}},
		{req("a", "tcp", "::", 1003), unix.SOCK_STREAM, []string{"[::]:1003", "[::1]:1003"}},
		{req("a", "udp", "0.0.0.0", 1004), unix.SOCK_DGRAM, []string{"0.0.0.0:1004", "127.0.0.1:1004"}},
		{req("a", "udp", "::1", 1005), unix.SOCK_DGRAM, []string{"[::1]:1005", "[::]:1005"}},
	} {
		if err := pt.reserve(ctx, []PortRequest{c.q}); err != nil {
			t.Fatal(err)
		}
		for _, o := range c.others {
			taken(t, c.typ, o)
		}
	}
	// An IPv6 reservation leaves IPv4 alone.
	if err := pt.reserve(ctx, []PortRequest{req("b", "tcp", "0.0.0.0", 1003)}); err != nil {
		t.Errorf("IPv6 took IPv4's port: %v", err)
	}
	// A reserved TCP port does not answer: a reset, at once.
	if _, err := net.DialTimeout("tcp", "127.0.0.1:1001", time.Second); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a reserved port answered %v", err)
	}
	pt.release("a")
	if _, err := stranger(t, unix.SOCK_STREAM, "0.0.0.0:1001", false, true); err != nil {
		t.Errorf("a released port is not free: %v", err)
	}
}

func TestReserveMeetsOthers(t *testing.T) {
	pt := newTable(t)
	ctx := context.Background()
	try := func(q PortRequest, want unix.Errno) {
		t.Helper()
		err := pt.reserve(ctx, []PortRequest{q})
		var pe *PortError
		switch {
		case want == 0 && err != nil:
			t.Errorf("%v: %v", q, err)
		case want != 0 && (!errors.As(err, &pe) || pe.Errno != int(want)):
			t.Errorf("%v: got %v, want %v", q, err, want)
		}
	}
	t.Run("a listener", func(t *testing.T) {
		if _, err := stranger(t, unix.SOCK_STREAM, "127.0.0.1:1101", true, true); err != nil {
			t.Fatal(err)
		}
		try(req("a", "tcp", "0.0.0.0", 1101), unix.EADDRINUSE)
	})
	t.Run("bound, with reuse, listening later", func(t *testing.T) {
		// It has set SO_REUSEADDR and not listened: the kernel lets others in, and
		// whoever listens first has the port. That is the reservation.
		fd, err := stranger(t, unix.SOCK_STREAM, "0.0.0.0:1102", true, false)
		if err != nil {
			t.Fatal(err)
		}
		try(req("a", "tcp", "0.0.0.0", 1102), 0)
		if err := unix.Listen(fd, 1); err != unix.EADDRINUSE {
			t.Errorf("the other one listened on a reserved port: %v", err)
		}
		taken(t, unix.SOCK_STREAM, "0.0.0.0:1102")
	})
	t.Run("bound, without reuse", func(t *testing.T) {
		if _, err := stranger(t, unix.SOCK_STREAM, "0.0.0.0:1103", false, false); err != nil {
			t.Fatal(err)
		}
		try(req("a", "tcp", "0.0.0.0", 1103), unix.EADDRINUSE)
	})
	t.Run("time wait", func(t *testing.T) {
		leaveTimeWait(t, "127.0.0.1:1104")
		if _, err := stranger(t, unix.SOCK_STREAM, "0.0.0.0:1104", false, false); err != unix.EADDRINUSE {
			t.Fatalf("the test made no TIME_WAIT: %v", err)
		}
		try(req("a", "tcp", "0.0.0.0", 1104), 0)
		taken(t, unix.SOCK_STREAM, "0.0.0.0:1104")
		taken(t, unix.SOCK_STREAM, "127.0.0.1:1104")
		if _, err := net.DialTimeout("tcp", "127.0.0.1:1104", time.Second); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("it listens: %v", err)
		}
	})
	t.Run("another UDP program", func(t *testing.T) {
		if _, err := stranger(t, unix.SOCK_DGRAM, "127.0.0.1:1105", false, false); err != nil {
			t.Fatal(err)
		}
		try(req("a", "udp", "0.0.0.0", 1105), unix.EADDRINUSE)
	})
	t.Run("an address that is not here", func(t *testing.T) {
		try(req("a", "tcp", "192.0.2.1", 1106), unix.EADDRNOTAVAIL)
	})
	t.Run("another owner", func(t *testing.T) {
		try(req("a", "tcp", "0.0.0.0", 1107), 0)
		try(req("a", "tcp", "0.0.0.0", 1107), 0) // the same again is success
		try(req("b", "tcp", "0.0.0.0", 1107), unix.EADDRINUSE)
		try(req("a", "sctp", "0.0.0.0", 1107), 0)
		try(req("b", "sctp", "127.0.0.1", 1107), unix.EADDRINUSE)
	})
}

// leaveTimeWait runs a server that closes its connection first and goes.
func leaveTimeWait(t *testing.T, at string) {
	t.Helper()
	l, err := net.Listen("tcp4", at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", at)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	c.Read(make([]byte, 1)) // its end came
	c.Close()
	time.Sleep(20 * time.Millisecond)
}

func TestReserveAllOrNone(t *testing.T) {
	pt := newTable(t)
	if _, err := stranger(t, unix.SOCK_STREAM, "0.0.0.0:1250", false, true); err != nil {
		t.Fatal(err)
	}
	before := openFiles(t)
	err := pt.reserve(context.Background(), []PortRequest{
		req("a", "tcp", "0.0.0.0", 1200, 1210),
		req("a", "udp", "0.0.0.0", 1200),
		req("a", "tcp", "0.0.0.0", 1240, 1260),
		req("a", "tcp", "0.0.0.0", 1300),
	})
	var pe *PortError
	if !errors.As(err, &pe) || pe.Index != 2 || pe.Port != 1250 || pe.Errno != int(unix.EADDRINUSE) {
		t.Fatalf("got %#v", err)
	}
	if !errors.Is(err, cnm.ErrConflict) {
		t.Error("it is no conflict")
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if l := pt.list(); len(l) != 0 {
		t.Errorf("still held: %v", l)
	}
}

func TestReserveRefuses(t *testing.T) {
	pt := newTable(t)
	fwd := func(q PortRequest, to string) PortRequest { q.ForwardTo = netip.MustParseAddrPort(to); return q }
	for _, c := range []struct {
		q    PortRequest
		want error
	}{
		{req("", "tcp", "0.0.0.0", 1), cnm.ErrInvalid},
		{req("a", "icmp", "0.0.0.0", 1), cnm.ErrInvalid},
		{PortRequest{Owner: "a", Proto: "tcp", Port: 1}, cnm.ErrInvalid},
		{req("a", "tcp", "0.0.0.0", 0), cnm.ErrInvalid},
		{req("a", "tcp", "0.0.0.0", 20, 10), cnm.ErrInvalid},
		{req("a", "tcp", "fe80::1%lo", 20), cnm.ErrInvalid},
		{fwd(req("a", "tcp", "::1", 20, 40), "10.0.0.1:65530"), cnm.ErrInvalid},
		{fwd(req("a", "sctp", "::1", 20), "10.0.0.1:80"), cnm.ErrUnsupported},
	} {
		if err := pt.reserve(context.Background(), []PortRequest{c.q}); !errors.Is(err, c.want) {
			t.Errorf("%+v: got %v, want %v", c.q, err, c.want)
		}
	}
}

// TestUDPReservationIsSmall: what arrives on a reserved port takes hardly any memory.
func TestUDPReservationIsSmall(t *testing.T) {
	pt := newTable(t)
	q, _ := req("a", "udp", "127.0.0.1", 1400).check(0)
	if err := pt.reserve(context.Background(), []PortRequest{q}); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", "127.0.0.1:1400")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 100 {
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	n, buf := 0, make([]byte, 2000)
	for {
		if _, _, err := unix.Recvfrom(int(pt.held[q].sockets[0]), buf, unix.MSG_DONTWAIT); err != nil {
			break
		}
		n++
	}
	if n > 3 {
		t.Errorf("%d datagrams of 100 wait in it", n)
	}
}

func TestThousandPortsAreFast(t *testing.T) {
	pt := newTable(t)
	best := time.Hour
	for i := range 5 {
		start := time.Now()
		if err := pt.reserve(context.Background(), []PortRequest{req("a", "tcp", "0.0.0.0", 20001, 21000)}); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
		start = time.Now()
		pt.release("a")
		t.Logf("run %d: released after %v", i, time.Since(start))
	}
	t.Logf("1,000 ports: %v", best)
	if best > 30*time.Millisecond {
		t.Errorf("1,000 ports took %v, want less than 30 ms", best)
	}
}

func TestPortsAreListedInOrder(t *testing.T) {
	pt := newTable(t)
	in := []PortRequest{
		req("b", "tcp", "127.0.0.1", 1502), req("a", "udp", "127.0.0.1", 1501),
		req("a", "tcp", "127.0.0.1", 1501), req("a", "tcp", "0.0.0.0", 1500),
	}
	if err := pt.reserve(context.Background(), in); err != nil {
		t.Fatal(err)
	}
	want := []PortRequest{in[3], in[2], in[1], in[0]}
	for i := range want {
		want[i].PortEnd = want[i].Port
	}
	if got := pt.list(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// BenchmarkThousandRequests is `docker run` with a thousand -p, through the
// socket: each port is a request of its own.
func BenchmarkThousandRequests(b *testing.B) {
	probe.Require(b, probe.Root, probe.NetNS)
	k := newKeeper(b)
	var reqs []PortRequest
	for i := range 1000 {
		reqs = append(reqs, req(strings.Repeat("o", 64), "tcp", "0.0.0.0", uint16(10000+i)))
	}
	for b.Loop() {
		k.must(k.Reserve(ctxT(b), reqs))
		b.StopTimer()
		k.must(k.Release(ctxT(b), reqs[0].Owner))
		b.StartTimer()
	}
}
