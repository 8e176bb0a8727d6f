package keeper

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/dns"
	"linkspan/netns"
	"linkspan/probe"
)

// sandbox is a namespace with a resolver's sockets in it.
type sandbox struct {
	id, path string
	sockets  *dns.Sockets // the daemon's copies
	ns       *os.File     // for asking
}

func newSandbox(t testing.TB, id string) *sandbox {
	t.Helper()
	probe.Require(t, probe.Root, probe.NetNS)
	pins, err := os.MkdirTemp("", "keeper-pins")
	if err != nil {
		t.Fatal(err)
	}
	s := &sandbox{id: id, path: filepath.Join(pins, id)}
	if err := netns.Create(s.path); err != nil {
		t.Fatal(err)
	}
	if s.ns, err = netns.Open(s.path); err != nil {
		t.Fatal(err)
	}
	s.sockets = s.open(t)
	t.Cleanup(func() {
		s.ns.Close()
		closeSockets(s.sockets)
		if err := netns.Dismantle(pins); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *sandbox) open(t testing.TB) *dns.Sockets {
	t.Helper()
	udp, tcp, ns, err := netns.ResolverSockets(s.path, dns.Addr, dns.Port)
	if err != nil {
		t.Fatal(err)
	}
	return &dns.Sockets{UDP: udp, TCP: tcp, Namespace: ns}
}

// handOver closes the daemon's copies, as the controller does.
func (s *sandbox) handOver(t testing.TB, k *testKeeper, v dns.View) {
	t.Helper()
	v.Sandbox = s.id
	k.must(k.SetView(ctxT(t), v, s.sockets))
	closeSockets(s.sockets)
	s.sockets = nil
}

var resolverAt = netip.AddrPortFrom(dns.Addr, dns.Port)

// ask looks a name up from within the sandbox, as a container does.
func (s *sandbox) ask(t testing.TB, network, name string) []string {
	t.Helper()
	r := net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return netns.DialIn(s.ns, network, resolverAt)
	}}
	addrs, err := r.LookupHost(ctxT(t), name+".")
	var none *net.DNSError
	if err != nil && !(errors.As(err, &none) && none.IsNotFound) {
		t.Errorf("%s over %s: %v", name, network, err)
	}
	slices.Sort(addrs)
	return addrs
}

// knows compares both ways of asking with what is wanted.
func (s *sandbox) knows(t testing.TB, name string, want ...string) {
	t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		if got := s.ask(t, network, name); !slices.Equal(got, want) {
			t.Errorf("%s asked over %s for %s: %q, want %q", s.id, network, name, got, want)
		}
	}
}

func record(endpoint, addr string, names ...string) dns.Record {
	r := dns.Record{Endpoint: endpoint, Names: names}
	for _, a := range strings.Fields(addr) {
		r.Addrs = append(r.Addrs, netip.MustParseAddr(a))
	}
	return r
}

// TestResolver: two sandboxes on two networks; names and views change while they
// are asked.
func TestResolver(t *testing.T) {
	k := newKeeper(t)
	web, db := newSandbox(t, "web"), newSandbox(t, "db")
	ctx := ctxT(t)
	k.must(k.SetNames(ctx, "front", []dns.Record{record("e1", "172.20.0.2 fd00::2", "web", "w")}, true))
	k.must(k.SetNames(ctx, "back", []dns.Record{record("e2", "172.21.0.2", "db")}, true))
	if err := k.SetView(ctx, dns.View{Sandbox: "web"}, nil); !errors.Is(err, cnm.ErrNotFound) {
		t.Errorf("a change of a view that is not there: %v", err)
	}
	web.handOver(t, k, dns.View{Zones: []string{"front"}, Closed: true})
	db.handOver(t, k, dns.View{Zones: []string{"back"}, Closed: true, Own: []dns.Host{{Name: "host.docker.internal", Addrs: []netip.Addr{netip.MustParseAddr("172.21.0.1")}}}})
	if got, err := k.Views(ctx); err != nil || !slices.Equal(got, []string{"db", "web"}) {
		t.Errorf("views: %q %v", got, err)
	}
	web.knows(t, "W", "172.20.0.2", "fd00::2")
	web.knows(t, "db")
	db.knows(t, "db", "172.21.0.2")
	db.knows(t, "host.docker.internal", "172.21.0.1")
	web.knows(t, "host.docker.internal")

	// Names come, change and go.
	k.must(k.SetNames(ctx, "front", []dns.Record{record("e3", "172.20.0.3", "cache"), record("e1", "172.20.0.9", "web")}, false))
	web.knows(t, "web", "172.20.0.9")
	web.knows(t, "w")
	web.knows(t, "cache", "172.20.0.3")
	k.must(k.RemoveNames(ctx, "front", []string{"e3", "nobody"}))
	web.knows(t, "cache")
	k.must(k.SetNames(ctx, "front", []dns.Record{record("e4", "172.20.0.4", "new")}, true))
	web.knows(t, "web")
	web.knows(t, "new", "172.20.0.4")

	// The view changes: connect to the other network, with a link.
	k.must(k.SetView(ctx, dns.View{Sandbox: "web", Zones: []string{"front", "back"}, Closed: true,
		Links: []dns.Alias{{Name: "sql", Zone: "back", Target: "db"}}}, nil))
	web.knows(t, "db", "172.21.0.2")
	web.knows(t, "sql", "172.21.0.2")
	k.must(k.KeepZones(ctx, []string{"front"}))
	web.knows(t, "db")
	web.knows(t, "new", "172.20.0.4")

	// Sockets in place of those that are there: their port is free in between.
	k.must(k.RemoveView(ctx, "web"))
	web.sockets = web.open(t)
	web.handOver(t, k, dns.View{Zones: []string{"front"}, Closed: true})
	web.knows(t, "new", "172.20.0.4")
	for range 2 {
		k.must(k.RemoveView(ctx, "web"))
	}
	if got, _ := k.Views(ctx); !slices.Equal(got, []string{"db"}) {
		t.Errorf("views: %q", got)
	}
	db.knows(t, "host.docker.internal", "172.21.0.1")
}

// TestResolverRefused: what is malformed is said, and no descriptor is kept.
func TestResolverRefused(t *testing.T) {
	k := newKeeper(t)
	sb := newSandbox(t, "sb")
	before := openFiles(t)
	for _, c := range []struct {
		name    string
		view    dns.View
		sockets *dns.Sockets
	}{
		{"no sandbox", dns.View{}, sb.sockets},
		{"a path", dns.View{Sandbox: "../x"}, sb.sockets},
		{"no tcp", dns.View{Sandbox: "sb"}, &dns.Sockets{UDP: sb.sockets.UDP}},
	} {
		if err := k.SetView(ctxT(t), c.view, c.sockets); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	null, err := os.Open(os.DevNull)
	k.must(err)
	if err := k.SetView(ctxT(t), dns.View{Sandbox: "sb"}, &dns.Sockets{UDP: null, TCP: null}); err == nil {
		t.Error("no sockets were taken for sockets")
	}
	null.Close()
	for _, r := range []viewBody{{View: dns.View{Sandbox: "sb"}, Sockets: 2}, {View: dns.View{Sandbox: "sb"}}} {
		if err := k.call(ctxT(t), opSetView, r, nil, sb.sockets.UDP); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("one descriptor: %v", err)
		}
	}
	if err := k.call(ctxT(t), opSetView, viewBody{View: dns.View{Sandbox: "sb"}, Sockets: 4}, nil, sb.sockets.UDP, sb.sockets.UDP, sb.sockets.UDP, sb.sockets.UDP); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("four descriptors: %v", err)
	}
	if err := k.SetNames(ctxT(t), "", nil, true); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("no zone: %v", err)
	}
	if err := k.SetNames(ctxT(t), "z", []dns.Record{{Names: []string{"x"}}}, false); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("no endpoint: %v", err)
	}
	if got, err := k.Views(ctxT(t)); len(got) != 0 || err != nil {
		t.Errorf("views: %q %v", got, err)
	}
	eventually(t, "the descriptors are closed", func() bool { return openFiles(t) <= before })
}

// TestResolverKeepsKeeper: a keeper with a view is not idle; and one more that
// closes everything leaves the namespace free to go.
func TestResolverKeepsKeeper(t *testing.T) {
	k := newKeeper(t, func(c *Config) { c.IdleExit = 20 * time.Millisecond })
	sb := newSandbox(t, "sb")
	k.must(k.SetNames(ctxT(t), "z", []dns.Record{record("e", "10.0.0.1", "a")}, true))
	sb.handOver(t, k, dns.View{Zones: []string{"z"}, Closed: true})
	k.Close()
	time.Sleep(200 * time.Millisecond)
	sb.knows(t, "a", "10.0.0.1")
	c, err := Dial(filepath.Join(k.dir, "sock"))
	k.must(err)
	k.must(c.RemoveView(ctxT(t), "sb"))
	c.Close()
	select {
	case err := <-k.done:
		k.done <- err
	case <-time.After(time.Minute):
		t.Error("an idle keeper stayed")
	}
}

// question is an A query as it travels.
func question(id uint16, name string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = append(b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0, 0, 1, 0, 1)
}

// stream asks without pause, each question once, until stop closes; it tells how
// many had no answer.
func (s *sandbox) stream(t testing.TB, name string, stop <-chan struct{}) (asked, lost int) {
	t.Helper()
	c, err := netns.DialIn(s.ns, "udp", resolverAt)
	if err != nil {
		t.Error(err)
		return 0, 0
	}
	defer c.Close()
	_ = c.(*net.UDPConn).SetReadBuffer(1 << 20) // all answers come at once after an upgrade
	answered := make(chan int)
	go func() {
		n, buf := 0, make([]byte, 1500)
		for {
			// Who asks is faster than who reads at times.
			_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
			m, err := c.Read(buf)
			if err != nil {
				answered <- n
				return
			}
			if m < 12 || buf[3]&15 != 0 || binary.BigEndian.Uint16(buf[6:]) == 0 {
				t.Errorf("an answer without address: % x", buf[:min(m, 12)])
				continue
			}
			n++
		}
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return asked, asked - <-answered
		case <-tick.C:
		}
		for range 3 {
			if _, err := c.Write(question(uint16(asked), name)); err != nil {
				t.Errorf("question %d: %v", asked, err)
			}
			asked++
		}
	}
}

// TestResolverUpgrade replaces the keeper while two sandboxes ask: not one
// question is lost.
func TestResolverUpgrade(t *testing.T) {
	probe.Require(t, probe.Root, probe.NetNS)
	k, cfg := newProcess(t)
	ctx := ctxT(t)
	k.must(k.SetNames(ctx, "z", []dns.Record{record("e", "10.0.0.1", "a")}, true))
	all := []*sandbox{newSandbox(t, "one"), newSandbox(t, "two")}
	for _, sb := range all {
		sb.handOver(t, k, dns.View{Zones: []string{"z"}, Closed: true})
	}
	stop := make(chan struct{})
	var work sync.WaitGroup
	for _, sb := range all {
		work.Go(func() {
			if asked, lost := sb.stream(t, "a", stop); lost != 0 || asked < 300 {
				t.Errorf("%s: %d of %d questions lost", sb.id, lost, asked)
			}
		})
	}
	for range 4 {
		time.Sleep(100 * time.Millisecond)
		k.must(k.Upgrade(ctx, cfg.Exe))
	}
	close(stop)
	work.Wait()
	if got, err := k.Views(ctx); err != nil || !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("views: %q %v", got, err)
	}
	// It is all there, and can be changed.
	k.must(k.SetNames(ctx, "z", []dns.Record{record("e2", "10.0.0.2", "b")}, false))
	k.must(k.SetView(ctx, dns.View{Sandbox: "two", Closed: true}, nil))
	all[0].knows(t, "a", "10.0.0.1")
	all[0].knows(t, "b", "10.0.0.2")
	all[1].knows(t, "b")
	// Sockets gone, namespace gone: nothing of the former processes holds it.
	k.must(k.RemoveView(ctx, "one"))
	all[0].sockets = all[0].open(t)
	k.must(k.RemoveView(ctx, "two"))
}

// TestResolverUpgradeFails: the same process goes on with them.
func TestResolverUpgradeFails(t *testing.T) {
	probe.Require(t, probe.Root, probe.NetNS)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	views := 0
	k := newKeeper(t, func(c *Config) {
		c.Exec = func(exe string, state *os.File) error {
			if st, err := readState(state); err == nil && st.Names != nil && len(st.Names.Views) == len(st.Views) {
				views += len(st.Views)
			}
			return errors.New("exec format error")
		}
	})
	sb := newSandbox(t, "sb")
	k.must(k.SetNames(ctxT(t), "z", []dns.Record{record("e", "10.0.0.1", "a")}, true))
	sb.handOver(t, k, dns.View{Zones: []string{"z"}, Closed: true})
	for range 3 {
		if err := k.Upgrade(ctxT(t), self); !errors.Is(err, cnm.ErrUnavailable) {
			t.Fatal(err)
		}
		sb.knows(t, "a", "10.0.0.1")
	}
	if views != 3 {
		t.Errorf("%d views in three states", views)
	}
	k.must(k.RemoveView(ctxT(t), "sb"))
}

// actNaming is a daemon that sets up a resolver and is killed.
func actNaming(dir, path string) int {
	ctx := context.Background()
	fail := func(err error) int { fmt.Println("failed:", err); return 1 }
	self, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	k, _, err := Ensure(ctx, EnsureConfig{Socket: filepath.Join(dir, "sock"), Dir: filepath.Join(dir, "k"), Exe: self, Name: "test"})
	if err != nil {
		return fail(err)
	}
	udp, tcp, ns, err := netns.ResolverSockets(path, dns.Addr, dns.Port)
	if err != nil {
		return fail(err)
	}
	err = errors.Join(k.SetNames(ctx, "z", []dns.Record{record("e", "10.0.0.1", "a")}, true),
		k.SetView(ctx, dns.View{Sandbox: "sb", Zones: []string{"z"}, Closed: true}, &dns.Sockets{UDP: udp, TCP: tcp, Namespace: ns}))
	if err != nil {
		return fail(err)
	}
	fmt.Println("ready")
	select {}
}

// TestResolverSurvivesTheDaemon: answers go on while no daemon is there, and the
// next one finds the view.
func TestResolverSurvivesTheDaemon(t *testing.T) {
	sb := newSandbox(t, "sb")
	closeSockets(sb.sockets)
	sb.sockets = nil
	dir, err := os.MkdirTemp("", "keeper")
	if err != nil {
		t.Fatal(err)
	}
	cfg := ensureConfig(t, dir)
	daemon := exec.Command(cfg.Exe, "naming", dir, sb.path)
	out, err := daemon.StdoutPipe()
	if err == nil {
		err = daemon.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the daemon said %q, %v", line, err)
	}
	defer endProcess(t, dir, cfg)
	stop := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		if asked, lost := sb.stream(t, "a", stop); lost != 0 || asked == 0 {
			t.Errorf("%d of %d questions lost", lost, asked)
		}
	})
	time.Sleep(50 * time.Millisecond)
	daemon.Process.Signal(syscall.SIGKILL)
	daemon.Wait()
	time.Sleep(200 * time.Millisecond)
	sb.knows(t, "a", "10.0.0.1")
	close(stop)
	work.Wait()
	k, started, err := Ensure(ctxT(t), cfg)
	if err != nil || started {
		t.Fatalf("the next daemon: started %v, %v", started, err)
	}
	defer k.Close()
	if got, err := k.Views(ctxT(t)); err != nil || !slices.Equal(got, []string{"sb"}) {
		t.Errorf("views: %q %v", got, err)
	}
	if err := k.SetView(ctxT(t), dns.View{Sandbox: "sb", Closed: true}, nil); err != nil {
		t.Error(err)
	}
	sb.knows(t, "a")
}

// TestOldKeeper: a keeper from before resolvers says what it lacks and what to do,
// takes no descriptor, and goes on.
func TestOldKeeper(t *testing.T) {
	sb := newSandbox(t, "sb")
	k := newKeeper(t)
	before := openFiles(t)
	for range 3 {
		err := k.call(ctxT(t), "from-the-future", struct{}{}, nil, sb.sockets.UDP, sb.sockets.TCP, sb.sockets.Namespace)
		if !errors.Is(err, cnm.ErrUnsupported) || !strings.Contains(err.Error(), "upgrade") || !strings.Contains(err.Error(), "from-the-future") {
			t.Errorf("%v", err)
		}
	}
	if _, err := k.Info(ctxT(t)); err != nil {
		t.Error(err)
	}
	eventually(t, "the descriptors are closed", func() bool { return openFiles(t) <= before })
	// A daemon that made a socket blocking by os.File.Fd is no danger either.
	_ = unix.SetNonblock(int(sb.sockets.UDP.Fd()), false)
	k.must(k.SetNames(ctxT(t), "z", []dns.Record{record("e", "10.0.0.1", "a")}, true))
	sb.handOver(t, k, dns.View{Zones: []string{"z"}, Closed: true})
	sb.knows(t, "a", "10.0.0.1")
	k.must(k.RemoveView(ctxT(t), "sb"))
}
