package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func forwardReq(proto, addr string, port uint16, to string) PortRequest {
	return PortRequest{Owner: "sb", Proto: proto, Addr: netip.MustParseAddr(addr), Port: port, PortEnd: port, ForwardTo: netip.MustParseAddrPort(to)}
}

// server runs a TCP server on 127.0.0.1 and returns its address.
func tcpServer(t testing.TB, serve func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); serve(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func dialTCP(t testing.TB, at string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", at, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

func TestForwardTCP(t *testing.T) {
	pt := newTable(t)
	// It answers only after the client's half-close, with everything reversed in
	// order of chunks: sum of what came.
	to := tcpServer(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		fmt.Fprintf(c, "%d bytes from %s", len(b), c.RemoteAddr().(*net.TCPAddr).IP)
	})
	if err := pt.reserve(context.Background(), []PortRequest{forwardReq("tcp", "::1", 2001, to)}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			c := dialTCP(t, "[::1]:2001")
			size := i * 100_000
			if _, err := c.Write(make([]byte, size)); err != nil {
				t.Error(err)
			}
			c.CloseWrite()
			got, err := io.ReadAll(c)
			if want := fmt.Sprintf("%d bytes from 127.0.0.1", size); err != nil || string(got) != want {
				t.Errorf("got %q %v, want %q", got, err, want)
			}
		})
	}
	wg.Wait()
	// It binds as a server does: after a restart TIME_WAIT is no obstacle.
	pt.release("sb")
	if err := pt.reserve(context.Background(), []PortRequest{forwardReq("tcp", "::1", 2001, to)}); err != nil {
		t.Errorf("bound again: %v", err)
	}
	// And it is exclusive.
	if err := pt.reserve(context.Background(), []PortRequest{req("other", "tcp", "::1", 2001)}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a second reservation: %v", err)
	}
}

func TestForwardRange(t *testing.T) {
	pt := newTable(t)
	var ports [3]uint16
	base := uint16(2110)
	for i := range ports {
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", base+uint16(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(c, i)
				c.Close()
			}
		}()
	}
	q := forwardReq("tcp", "::1", 2100, fmt.Sprintf("127.0.0.1:%d", base))
	q.PortEnd = 2102
	if err := pt.reserve(context.Background(), []PortRequest{q}); err != nil {
		t.Fatal(err)
	}
	for i := range ports {
		b, err := io.ReadAll(dialTCP(t, fmt.Sprintf("[::1]:%d", 2100+i)))
		if err != nil || string(b) != fmt.Sprint(i) {
			t.Errorf("port %d of the range: %q %v", i, b, err)
		}
	}
}

func TestForwardResets(t *testing.T) {
	pt := newTable(t)
	ctx := context.Background()
	reset := func(what string, c *net.TCPConn) {
		t.Helper()
		if _, err := io.ReadAll(c); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%s: %v, want a reset", what, err)
		}
	}
	if err := pt.reserve(ctx, []PortRequest{forwardReq("tcp", "::1", 2201, "127.0.0.1:9")}); err != nil {
		t.Fatal(err)
	}
	// The reset may be faster than connect's own look at the socket.
	if c, err := net.Dial("tcp", "[::1]:2201"); err == nil {
		reset("nothing listens in the container", c.(*net.TCPConn))
		c.Close()
	} else if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("nothing listens in the container: %v", err)
	}

	to := tcpServer(t, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 1))
		c.SetLinger(0)
	})
	if err := pt.reserve(ctx, []PortRequest{forwardReq("tcp", "::1", 2202, to)}); err != nil {
		t.Fatal(err)
	}
	c := dialTCP(t, "[::1]:2202")
	c.Write([]byte("x"))
	reset("the container resets", c)

	quiet := tcpServer(t, func(c *net.TCPConn) { c.Write([]byte("up")); io.Copy(io.Discard, c) })
	if err := pt.reserve(ctx, []PortRequest{forwardReq("tcp", "::1", 2203, quiet)}); err != nil {
		t.Fatal(err)
	}
	c = dialTCP(t, "[::1]:2203")
	io.ReadFull(c, make([]byte, 2))
	pt.release("sb")
	reset("released with a connection open", c)
	if _, err := net.Dial("tcp", "[::1]:2203"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after release: %v", err)
	}
}

func udpServer(t testing.TB) string {
	t.Helper()
	s, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 70000)
		for {
			n, from, err := s.ReadFrom(buf)
			if err != nil {
				return
			}
			s.WriteTo(append([]byte(fmt.Sprintf("%d:", from.(*net.UDPAddr).Port)), buf[:n]...), from)
		}
	}()
	t.Cleanup(func() { s.Close(); <-done })
	return s.LocalAddr().String()
}

func TestForwardUDP(t *testing.T) {
	pt := newTable(t)
	to := udpServer(t)
	// On the wildcard the answer must come from the address that was asked: a
	// connected client takes no other.
	for i, at := range []string{"::1", "::", "0.0.0.0", "127.0.0.5"} {
		port := uint16(2301 + i)
		if err := pt.reserve(context.Background(), []PortRequest{forwardReq("udp", at, port, to)}); err != nil {
			t.Fatal(err)
		}
		host := map[string]string{"::1": "::1", "::": "::1", "0.0.0.0": "127.0.0.7", "127.0.0.5": "127.0.0.5"}[at]
		seen := map[string]bool{}
		for range 3 {
			c, err := net.Dial("udp", net.JoinHostPort(host, fmt.Sprint(port)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			for _, msg := range []string{"hello", "", strings.Repeat("b", 60000)} {
				c.Write([]byte(msg))
				buf := make([]byte, 70000)
				n, err := c.Read(buf)
				if err != nil {
					t.Fatalf("%s, %d bytes: %v", at, len(msg), err)
				}
				from, got, _ := strings.Cut(string(buf[:n]), ":")
				if got != msg {
					t.Errorf("%s: sent %d bytes, got %d", at, len(msg), len(got))
				}
				seen[from] = true
			}
		}
		if len(seen) != 3 {
			t.Errorf("%s: 3 clients had %d ports towards the container", at, len(seen))
		}
	}
}

func TestForwardUDPSessionsEnd(t *testing.T) {
	pt := newTable(t)
	to := udpServer(t)
	fd, err := listenUDP(netip.MustParseAddrPort("[::1]:2401"))
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "udp")
	f, err := newUDP(pt.logger, pt.chunks, file, netip.MustParseAddrPort(to))
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	count := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.sessions) != f.recent.Len() {
			t.Errorf("%d sessions, %d in the list", len(f.sessions), f.recent.Len())
		}
		return len(f.sessions)
	}
	f.mu.Lock()
	f.life = 200 * time.Millisecond
	f.mu.Unlock()
	ask := func() {
		c, err := net.Dial("udp", "[::1]:2401")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		c.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Error(err)
		}
	}
	for range 5 {
		ask()
	}
	if n := count(); n != 5 {
		t.Errorf("%d sessions, want 5", n)
	}
	eventually(t, "idle sessions end", func() bool { return count() == 0 })
	before := openFiles(t)
	f.mu.Lock()
	f.life = time.Minute
	f.mu.Unlock()
	for range maxSessions + 50 {
		ask()
	}
	if n := count(); n != maxSessions {
		t.Errorf("%d sessions, want the bound %d", n, maxSessions)
	}
	ask() // the newest are served
	eventually(t, "evicted sessions close", func() bool { return openFiles(t)-before <= maxSessions })
}

// TestForwardUDPServerComesLater: a refusal of the container's kernel is not the
// end of a session.
func TestForwardUDPServerComesLater(t *testing.T) {
	pt := newTable(t)
	if err := pt.reserve(context.Background(), []PortRequest{forwardReq("udp", "::1", 2501, "127.0.0.1:2502")}); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", "[::1]:2501")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		c.Write([]byte("too early"))
		time.Sleep(5 * time.Millisecond)
	}
	s, err := net.ListenPacket("udp4", "127.0.0.1:2502")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_ = s.SetDeadline(time.Now().Add(time.Minute))
	c.Write([]byte("now"))
	buf := make([]byte, 100)
	n, _, err := s.ReadFrom(buf)
	if err != nil || !bytes.Equal(buf[:n], []byte("now")) {
		t.Errorf("%q %v", buf[:n], err)
	}
}

func BenchmarkForwardTCP(b *testing.B) {
	pt := newTable(b)
	to := tcpServer(b, func(c *net.TCPConn) { io.Copy(io.Discard, c) })
	if err := pt.reserve(context.Background(), []PortRequest{forwardReq("tcp", "::1", 2601, to)}); err != nil {
		b.Fatal(err)
	}
	c := dialTCP(b, "[::1]:2601")
	chunk := make([]byte, 256<<10)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, err := c.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
}
