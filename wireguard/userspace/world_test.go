package userspace_test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"linkspan/internal/lab"
	"linkspan/keeper"
	"linkspan/probe"
	"linkspan/wireguard"
)

// TestMain: this binary is the keeper that the tests start on the lab's hosts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		os.Exit(keeper.Run(os.Args[2:], cmp.Or(os.Getenv("TUNNEL_TEST_VERSION"), "test")))
	}
	if len(os.Args) > 2 && os.Args[1] == "greet" {
		os.Exit(greet(os.Args[2]))
	}
	if len(os.Args) > 2 && os.Args[1] == "welcome" {
		os.Exit(welcome(os.Args[2:]))
	}
	os.Exit(m.Run())
}

const (
	device = "lswgtest"
	port   = 51871
)

// site is a host with a keeper and one tunnel.
type site struct {
	*lab.Host
	t       testing.TB
	dir     string
	process *lab.Process
	k       *keeper.Client
	outer   netip.Addr
	inner   netip.Addr // IPv6 in the tunnel
	inner4  netip.Addr
	config  wireguard.Config
}

// world is two sites on a switch; wire watches the first's.
func world(t testing.TB) (a, b *site, sw *lab.Switch) {
	t.Helper()
	probe.Require(t, probe.TUN)
	if t, ok := t.(*testing.T); ok {
		t.Parallel()
	}
	l := lab.New(t)
	sw = l.Switch("sw")
	a, b = &site{Host: l.Host("a"), t: t}, &site{Host: l.Host("b"), t: t}
	for i, s := range []*site{a, b} {
		n := i + 1
		s.outer = netip.MustParseAddr(fmt.Sprintf("10.77.0.%d", n))
		s.inner = netip.MustParseAddr(fmt.Sprintf("fd77::%d", n))
		s.inner4 = netip.MustParseAddr(fmt.Sprintf("192.168.77.%d", n))
		sw.Plug(s.Host, s.outer.String()+"/24")
		key, err := wireguard.NewPrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		s.config = wireguard.Config{Name: device, PrivateKey: key, Port: port, MTU: 1420}
	}
	l.LeakCheck()
	a.config.Peers, b.config.Peers = []wireguard.Peer{b.peer()}, []wireguard.Peer{a.peer()}
	for _, s := range []*site{a, b} {
		s.start()
		s.set()
		s.up()
	}
	return a, b, sw
}

// peer is what the other is told of a site.
func (s *site) peer() wireguard.Peer {
	return wireguard.Peer{
		PublicKey: s.config.PrivateKey.Public(), Endpoint: netip.AddrPortFrom(s.outer, port), Keepalive: 25 * time.Second,
		Allowed: []netip.Prefix{netip.PrefixFrom(s.inner, 128), netip.PrefixFrom(s.inner4, 32)},
	}
}

// start runs a keeper.
func (s *site) start() {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	if s.dir == "" {
		s.dir = s.t.TempDir()
	}
	s.process = s.Start([]string{self, "keeper", "--socket", s.socket(), "--dir", filepath.Join(s.dir, "k")})
	p := s.process
	s.t.Cleanup(func() { p.Signal(syscall.SIGTERM); <-p.Done() })
	s.process.WaitFor("keeper serves", lab.Patience)
	s.connect()
}

func (s *site) socket() string { return filepath.Join(s.dir, "sock") }

func (s *site) connect() {
	s.t.Helper()
	var err error
	if s.k, err = keeper.Dial(s.socket()); err != nil {
		s.t.Fatal(err)
	}
	k := s.k
	s.t.Cleanup(func() { k.Close() })
}

func (s *site) set() {
	s.t.Helper()
	if err := s.k.SetTunnel(ctx(s.t), s.config); err != nil {
		s.t.Fatal(err)
	}
}

// up does what the data plane does.
func (s *site) up() {
	s.t.Helper()
	s.Run("ip", "addr", "add", s.inner4.String()+"/24", "dev", device)
	s.Run("ip", "addr", "add", s.inner.String()+"/64", "dev", device, "nodad")
	s.Run("ip", "link", "set", device, "up")
}

func (s *site) status() wireguard.Status {
	s.t.Helper()
	st, err := wireguard.InKeeper(s.k).Status(ctx(s.t), device)
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

// pings sends until one comes back.
func (s *site) pings(to netip.Addr) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%s reaches %s", s.Name, to), func() error {
		_, err := s.Try("ping", "-c1", "-W1", to.String())
		return err
	})
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(t.Context(), lab.Patience)
	t.Cleanup(cancel)
	return c
}

func eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(lab.Patience); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s: %v", lab.Patience, what, err)
		}
	}
}

// stream is numbered lines over one TCP connection, one each millisecond: none may be
// missing, and how long none came is measured.
type stream struct {
	t    testing.TB
	sent atomic.Int64
	got  atomic.Int64
	stop chan struct{}
	wg   sync.WaitGroup

	mu   sync.Mutex
	last time.Time
	gap  time.Duration
	err  error
}

// streamTo begins one from s to o, with marker in each line.
func (s *site) streamTo(o *site, marker string) *stream {
	s.t.Helper()
	l := o.Listen("tcp4", o.inner4.String()+":0")
	st := &stream{t: s.t, stop: make(chan struct{}), last: time.Now()}
	out, err := s.Dial("tcp4", l.Addr().String(), lab.Patience)
	if err != nil {
		s.t.Fatal(err)
	}
	in, err := l.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	st.wg.Go(func() {
		defer out.Close()
		for n := 0; ; n++ {
			select {
			case <-st.stop:
				return
			case <-time.After(time.Millisecond):
			}
			if _, err := fmt.Fprintf(out, "%d %s\n", n, marker); err != nil {
				st.fail(err)
				return
			}
			st.sent.Add(1)
		}
	})
	st.wg.Go(func() { defer in.Close(); st.read(in) })
	s.t.Cleanup(func() { out.Close(); in.Close() })
	return st
}

func (st *stream) read(in net.Conn) {
	lines := bufio.NewReader(in)
	for want := 0; ; want++ {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return
		}
		if err != nil {
			st.fail(err)
			return
		}
		if n, _, _ := cut(line); n != want {
			st.fail(fmt.Errorf("line %d came when %d was due", n, want))
			return
		}
		st.got.Add(1)
		now := time.Now()
		st.mu.Lock()
		st.gap = max(st.gap, now.Sub(st.last))
		st.last = now
		st.mu.Unlock()
	}
}

func cut(line string) (n int, rest string, err error) {
	for i := range line {
		if line[i] == ' ' {
			n, err = strconv.Atoi(line[:i])
			return n, line[i+1:], err
		}
	}
	return -1, "", nil
}

func (st *stream) fail(err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.err == nil {
		st.err = err
	}
}

// moves waits until n more lines have come, and returns the longest time without any
// since it was last asked.
func (st *stream) moves(n int64) time.Duration {
	st.t.Helper()
	want := st.got.Load() + n
	eventually(st.t, "the stream goes on", func() error {
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.err != nil {
			st.t.Fatalf("the stream broke: %v", st.err)
		}
		if got := st.got.Load(); got < want {
			return fmt.Errorf("%d lines of %d came", got, want)
		}
		return nil
	})
	st.mu.Lock()
	defer st.mu.Unlock()
	gap := st.gap
	st.gap = 0
	return gap
}

// end stops the stream; everything sent must have come.
func (st *stream) end() {
	st.t.Helper()
	close(st.stop)
	st.wg.Wait()
	if st.err != nil || st.got.Load() != st.sent.Load() {
		st.t.Errorf("the stream: %d sent, %d came, %v", st.sent.Load(), st.got.Load(), st.err)
	}
}
