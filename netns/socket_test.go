package netns_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/netns"
	"linkspan/probe"
)

var resolver = netip.MustParseAddr("127.0.0.11")

// TestResolverSockets: opened in the sandbox, served from here, asked from there.
func TestResolverSockets(t *testing.T) {
	dir := pins(t)
	web, other := filepath.Join(dir, "web"), filepath.Join(dir, "other")
	for _, p := range []string{web, other} {
		if err := netns.Create(p); err != nil {
			t.Fatal(err)
		}
	}
	udp, tcp, ns, err := netns.ResolverSockets(web, resolver, 11053)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	for _, f := range []*os.File{udp, tcp} {
		raw, err := f.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			flags, _ := unix.FcntlInt(fd, unix.F_GETFL, 0)
			onExec, _ := unix.FcntlInt(fd, unix.F_GETFD, 0)
			reuse, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR)
			if flags&unix.O_NONBLOCK == 0 || onExec&unix.FD_CLOEXEC == 0 || reuse != 1 {
				t.Errorf("flags %x, on exec %x, reuse %d", flags, onExec, reuse)
			}
		})
	}
	// Taken in there; free in the other sandbox, and here.
	if _, _, _, err := netns.ResolverSockets(web, resolver, 11053); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("opened twice: %v", err)
	}
	a, b, c, err := netns.ResolverSockets(other, resolver, 11053)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{a, b, c} {
		f.Close()
	}
	pc, err := net.FilePacketConn(udp)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	l, err := net.FileListener(tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	udp.Close()
	tcp.Close()
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo(append([]byte("udp "), buf[:n]...), from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(c).ReadString('\n')
			fmt.Fprint(c, "tcp "+line)
			c.Close()
		}
	}()
	server := netip.AddrPortFrom(resolver, 11053)
	for _, network := range []string{"udp", "tcp"} {
		c, err := netns.DialIn(ns, network, server)
		if err != nil {
			t.Fatal(network, err)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(c, "hello\n")
		if got, err := bufio.NewReader(c).ReadString('\n'); got != network+" hello\n" || err != nil {
			t.Errorf("%s: %q %v", network, got, err)
		}
		if c.RemoteAddr().String() != server.String() || c.RemoteAddr().Network() != network {
			t.Errorf("remote: %v", c.RemoteAddr())
		}
		c.Close()
	}
	// Nobody is there in this namespace.
	if c, err := net.DialTimeout("tcp", server.String(), time.Second); err == nil {
		c.Close()
		t.Error("the sandbox's resolver answers outside")
	}
}

// TestResolverSocketsRefused: what cannot be says where, and leaves nothing open.
func TestResolverSocketsRefused(t *testing.T) {
	dir := pins(t)
	if _, _, _, err := netns.ResolverSockets(filepath.Join(dir, "none"), resolver, 11053); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no namespace: %v", err)
	}
	p := filepath.Join(dir, "web")
	if err := netns.Create(p); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	_, _, _, err := netns.ResolverSockets(p, netip.MustParseAddr("192.0.2.1"), 11053)
	if !errors.Is(err, unix.EADDRNOTAVAIL) || !strings.Contains(err.Error(), p) || !strings.Contains(err.Error(), "192.0.2.1:11053") {
		t.Errorf("a foreign address: %v", err)
	}
	// The UDP socket is bound when TCP fails.
	ns, err := netns.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	err = netns.Do(p, func() (err error) { l, err = net.Listen("tcp4", "127.0.0.11:11053"); return err })
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := netns.ResolverSockets(p, resolver, 11053); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a taken port: %v", err)
	}
	l.Close()
	ns.Close()
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, were %d", after, before)
	}
}

// TestDialIn: errors are net's, and come soon; a zone is an interface in there.
func TestDialIn(t *testing.T) {
	dir := pins(t)
	p := filepath.Join(dir, "web")
	if err := netns.Create(p); err != nil {
		t.Fatal(err)
	}
	ns, err := netns.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		network, server string
		want            error
	}{
		{"tcp", "127.0.0.1:1", unix.ECONNREFUSED},
		{"tcp", "[::1]:1", unix.ECONNREFUSED},
		{"tcp", "[::ffff:127.0.0.1]:1", unix.ECONNREFUSED},
		{"udp", "192.0.2.1:53", unix.ENETUNREACH},
		{"tcp", "192.0.2.1:53", unix.ENETUNREACH},
		{"udp", "[fe80::1%nosuch]:53", unix.ENODEV},
	} {
		began := time.Now()
		conn, err := netns.DialIn(ns, c.network, netip.MustParseAddrPort(c.server))
		var op *net.OpError
		if conn != nil || !errors.Is(err, c.want) || !errors.As(err, &op) || op.Op != "dial" || op.Net != c.network {
			t.Errorf("%s %s: %v", c.network, c.server, err)
		}
		if time.Since(began) > 30*time.Second {
			t.Errorf("%s %s took %v", c.network, c.server, time.Since(began))
		}
	}
	if _, err := netns.DialIn(ns, "ip", netip.MustParseAddrPort("127.0.0.1:53")); !errors.As(err, new(net.UnknownNetworkError)) {
		t.Errorf("network ip: %v", err)
	}
	if _, err := netns.DialIn(ns, "udp", netip.AddrPort{}); !errors.Is(err, unix.EDESTADDRREQ) {
		t.Errorf("no server: %v", err)
	}
	ns.Close()
	if _, err := netns.DialIn(ns, "udp", netip.MustParseAddrPort("127.0.0.1:53")); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a closed namespace: %v", err)
	}
}

// TestDialInWaits: a handshake that takes its time, and one that never ends.
func TestDialInWaits(t *testing.T) {
	dir := pins(t)
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, p := range []string{a, b} {
		if err := netns.Create(p); err != nil {
			t.Fatal(err)
		}
	}
	in := func(p string, words string) {
		t.Helper()
		err := netns.Do(p, func() error {
			f := strings.Fields(words)
			if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", words, err, out)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	in(a, "ip link add x type veth peer name y netns "+b)
	in(a, "ip addr add 192.0.2.1/24 dev x")
	in(a, "ip link set x up")
	in(b, "ip addr add 192.0.2.2/24 dev y")
	// y is down: SYNs go nowhere until it comes up; 192.0.2.3 never answers.
	var l net.Listener
	if err := netns.Do(b, func() (err error) { l, err = net.Listen("tcp4", ":53"); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ns, err := netns.Open(a)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := netns.DialIn(ns, "tcp", netip.MustParseAddrPort("192.0.2.2:53"))
		if err != nil {
			t.Error("the slow one:", err)
			return
		}
		c.Close()
	})
	wg.Go(func() {
		began := time.Now()
		c, err := netns.DialIn(ns, "tcp", netip.MustParseAddrPort("192.0.2.3:53"))
		var ne net.Error
		if c != nil || err == nil {
			t.Error("a server that is not there was connected")
		}
		// Its time is over, or ARP has given up (EHOSTUNREACH after three seconds).
		if took := time.Since(began); took > 30*time.Second || took < time.Second || !errors.As(err, &ne) {
			t.Errorf("after %v: %v", took, err)
		}
	})
	time.Sleep(300 * time.Millisecond)
	in(b, "ip link set y up")
	wg.Wait()
}

// TestDialInOften: threads come back, sockets are not lost.
func TestDialInOften(t *testing.T) {
	dir := pins(t)
	p := filepath.Join(dir, "web")
	if err := netns.Create(p); err != nil {
		t.Fatal(err)
	}
	own, err := netns.Own()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := netns.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				c, err := netns.DialIn(ns, "udp", netip.MustParseAddrPort("127.0.0.1:53"))
				if err != nil {
					t.Error(err)
					return
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, were %d", after, before)
	}
	ns.Close()
	if got := inode(t, "/proc/self/ns/net"); got != own {
		t.Errorf("the main thread is in %d, was in %d", got, own)
	}
}

// descriptors counts what this process has open, the poller's own aside.
func descriptors(t *testing.T) (n int) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && !strings.HasPrefix(to, "anon_inode:") {
			n++
		}
	}
	return n
}

func BenchmarkDialIn(b *testing.B) {
	probe.Require(b, probe.Root, probe.NetNS)
	dir := filepath.Join(b.TempDir(), "pins")
	defer netns.Dismantle(dir)
	p := filepath.Join(dir, "web")
	if err := netns.Create(p); err != nil {
		b.Fatal(err)
	}
	ns, err := netns.Open(p)
	if err != nil {
		b.Fatal(err)
	}
	defer ns.Close()
	for b.Loop() {
		c, err := netns.DialIn(ns, "udp", netip.MustParseAddrPort("127.0.0.1:53"))
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
