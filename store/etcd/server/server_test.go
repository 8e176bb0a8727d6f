package server

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"linkspan/internal/testlog"
	"linkspan/internal/testmain"
)

// port is a free one on loopback.
func port(t *testing.T) netip.AddrPort {
	t.Helper()
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(testmain.FreePort()))
}

func config(t *testing.T, name string) (Config, *testlog.Log) {
	t.Helper()
	said := &testlog.Log{}
	return Config{Name: name, Dir: filepath.Join(t.TempDir(), name), Client: port(t), Peer: port(t), Token: "mesh-" + t.Name(),
		Log: slog.New(slog.NewTextHandler(said, nil))}, said
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, c Config) *Server {
	t.Helper()
	s, err := Start(within(t, time.Minute), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func client(t *testing.T, urls ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: urls, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func put(t *testing.T, c *clientv3.Client, k, v string) {
	t.Helper()
	if _, err := c.Put(within(t, time.Minute), k, v); err != nil {
		t.Fatalf("put %s: %v", k, err)
	}
}

func get(t *testing.T, c *clientv3.Client, k string) string {
	t.Helper()
	r, err := c.Get(within(t, time.Minute), k)
	if err != nil {
		t.Fatalf("get %s: %v", k, err)
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

// quietly runs f and fails when anything came to stderr.
func quietly(t *testing.T, f func()) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old, err := unix.Dup(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Dup3(int(w.Fd()), 2, 0); err != nil {
		t.Fatal(err)
	}
	w.Close()
	got := make(chan string, 1)
	go func() {
		var b bytes.Buffer
		_, _ = b.ReadFrom(r)
		got <- b.String()
	}()
	f()
	if err := unix.Dup3(old, 2, 0); err != nil { // the pipe has no writer now
		t.Fatal(err)
	}
	unix.Close(old)
	if s := <-got; s != "" {
		t.Errorf("on stderr:\n%s", s)
	}
}

func TestOne(t *testing.T) {
	c, said := config(t, "a")
	quietly(t, func() {
		began := time.Now()
		s := start(t, c)
		t.Logf("ready after %v", time.Since(began))
		cl := client(t, c.ClientURL())
		put(t, cl, "k", "v")
		st := s.Status()
		if st.Leader == 0 || st.Leader != st.ID || st.Members != 1 || st.Voters != 1 || st.Err != nil || st.DBSize == 0 || st.Free == 0 || st.Revision < 2 {
			t.Errorf("status: %+v", st)
		}
		s.Stop()
		if _, err := s.running(); err == nil {
			t.Error("it runs after Stop")
		}

		// The same folder, the same data; the first members' configuration is not read.
		s = start(t, c)
		if v := get(t, client(t, c.ClientURL()), "k"); v != "v" {
			t.Errorf("after a restart: %q", v)
		}
		s.Stop()
		s.Stop()
	})
	if got := said.String(); got != "" {
		t.Errorf("logged without need:\n%s", got)
	}
	if info, err := os.Stat(c.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
}

func TestBadConfig(t *testing.T) {
	good, _ := config(t, "a")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"name":       {func(c *Config) { c.Name = "a,b" }, "a member has a name without comma"},
		"folder":     {func(c *Config) { c.Dir = "etcd" }, "not an absolute path"},
		"no address": {func(c *Config) { c.Client = netip.AddrPort{} }, "an address and a port for clients"},
		"no port":    {func(c *Config) { c.Peer = netip.AddrPortFrom(c.Peer.Addr(), 0) }, "for the other members"},
		"half TLS":   {func(c *Config) { c.Cert = "/x" }, "certificate, key and CA go together"},
		"no file":    {func(c *Config) { c.Cert, c.Key, c.CA = "/none/x", "/none/x", "/none/x" }, "no such file"},
		"taken":      {func(c *Config) { c.Client = netip.MustParseAddrPort(taken.Addr().String()) }, "is taken by another program"},
		"taken peer": {func(c *Config) { c.Peer = netip.MustParseAddrPort(taken.Addr().String()) }, fmt.Sprintf("TCP port %d is taken", netip.MustParseAddrPort(taken.Addr().String()).Port())},
		"not ours":   {func(c *Config) { c.Client = netip.MustParseAddrPort("192.0.2.1:2379") }, "does not have the address 192.0.2.1"},
		"no cluster": {func(c *Config) {
			c.Existing, c.Cluster = true, "b=http://127.0.0.1:1,a="+c.PeerURL()
		}, "no member of the cluster answers"},
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			c.Dir = filepath.Join(t.TempDir(), "d")
			tt.change(&c)
			s, err := Start(within(t, time.Minute), c)
			if err == nil {
				s.Stop()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant %s", err, tt.want)
			}
		})
	}
}

// three members that begin at once.
func three(t *testing.T, tune ...func(*[3]Config)) (cs [3]Config, ss [3]*Server, cl *Cluster) {
	t.Helper()
	var all []string
	for i := range cs {
		cs[i], _ = config(t, string(rune('a'+i)))
		all = append(all, cs[i].Name+"="+cs[i].PeerURL())
	}
	for _, f := range tune {
		f(&cs)
	}
	for i := range cs {
		cs[i].Cluster = strings.Join(all, ",")
		s, err := Open(context.Background(), cs[i])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Stop)
		ss[i] = s
	}
	for _, s := range ss {
		if err := s.Wait(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	cl, err := NewCluster(ClusterConfig{Endpoints: []string{cs[0].ClientURL(), cs[1].ClientURL(), cs[2].ClientURL()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	return cs, ss, cl
}

// grown is three members, one after the other, as hosts are promoted.
func grown(t *testing.T) (cs [3]Config, ss [3]*Server, cl *Cluster) {
	t.Helper()
	for i := range cs {
		cs[i], _ = config(t, string(rune('a'+i)))
	}
	ss[0] = start(t, cs[0])
	cl, err := NewCluster(ClusterConfig{Endpoints: []string{cs[0].ClientURL()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	for i := 1; i < 3; i++ {
		ss[i] = promote(t, cl, &cs[i])
	}
	return cs, ss, cl
}

func promote(t *testing.T, cl *Cluster, c *Config) *Server {
	t.Helper()
	id, cluster, err := cl.AddLearner(within(t, time.Minute), c.Name, c.PeerURL())
	if err != nil {
		t.Fatal(err)
	}
	// What was cut off before the member started is repeated.
	if again, same, err := cl.AddLearner(within(t, time.Minute), c.Name, c.PeerURL()); err != nil || again != id || same != cluster {
		t.Fatalf("a second time: %x %s %v, first %x %s", again, same, err, id, cluster)
	}
	c.Cluster, c.Existing = cluster, true
	s := start(t, *c)
	if err := cl.Promote(within(t, time.Minute), id); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestThree(t *testing.T) {
	t.Parallel()
	cs, ss, cl := grown(t)
	var urls []string
	for _, c := range cs {
		urls = append(urls, c.ClientURL())
	}
	kv := client(t, urls...)
	put(t, kv, "k", "1")

	ms, err := cl.Members(within(t, time.Minute))
	if err != nil || len(ms) != 3 || ms[0].Name != "a" || ms[2].Name != "c" || ms[2].Learner {
		t.Fatalf("%+v %v", ms, err)
	}
	hs, err := cl.Health(within(t, time.Minute))
	leaders := 0
	for _, h := range hs {
		if h.Err != nil || h.Version == "" || h.DBSize == 0 {
			t.Errorf("%+v", h)
		}
		if h.Leader {
			leaders++
		}
	}
	if err != nil || len(hs) != 3 || leaders != 1 {
		t.Errorf("%d answer, %d lead: %v", len(hs), leaders, err)
	}
	if _, _, err := cl.AddLearner(within(t, time.Minute), "b", "http://127.0.0.1:9"); err == nil || !strings.Contains(err.Error(), "has one already, b at") {
		t.Errorf("a name twice: %v", err)
	}

	// One of three is gone: nothing changes.
	ss[2].Stop()
	put(t, kv, "k", "2")
	hs, err = cl.Health(within(t, time.Minute))
	if err != nil || hs[2].Err == nil || !strings.Contains(hs[2].Err.Error(), "does not answer") {
		t.Errorf("c is gone: %+v %v", hs, err)
	}

	// The majority is gone: nothing is written, and it is said.
	ss[1].Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if _, err := kv.Put(ctx, "k", "3"); err == nil {
		t.Error("one of three took a write")
	}
	if _, err := cl.Members(within(t, 3*time.Second)); err == nil || !strings.Contains(err.Error(), "etcd") {
		t.Errorf("members without a majority: %v", err)
	}
	hs, err = cl.Health(within(t, time.Minute))
	if err == nil || len(hs) != 1 || hs[0].Err != nil || len(hs[0].Alarms) != 1 || !strings.Contains(hs[0].Alarms[0], "sees no leader") {
		t.Errorf("health without a majority: %+v, %v", hs, err)
	}
	// A backup can still be made.
	var b bytes.Buffer
	if err := ss[0].Snapshot(within(t, time.Minute), &b); err != nil || b.Len() < 1000 {
		t.Errorf("a backup without a majority: %d bytes, %v", b.Len(), err)
	}
	if st := ss[0].Status(); st.Members != 3 {
		t.Errorf("%+v", st)
	}

	// They come back: healed without a hand.
	ss[1], ss[2] = start(t, cs[1]), start(t, cs[2])
	put(t, kv, "k", "4")
	if v := get(t, kv, "k"); v != "4" {
		t.Errorf("%q", v)
	}
}

func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	cs, ss, _ := three(t)
	for _, s := range ss {
		s.Stop()
	}
	// As after a power cut: none is ready before another one runs.
	for i := range cs {
		s, err := Open(context.Background(), cs[i])
		if err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		ss[i] = s
		if i == 0 {
			err := s.Wait(within(t, time.Second))
			if err == nil || !strings.Contains(err.Error(), "sees no majority") {
				t.Errorf("one of three: %v", err)
			}
		}
	}
	for _, s := range ss {
		if err := s.Wait(within(t, time.Minute)); err != nil {
			t.Error(err)
		}
	}
}

func TestDemote(t *testing.T) {
	t.Parallel()
	cs, ss, _ := grown(t)
	// The leader goes: the first one, as nobody else ever was.
	st := ss[0].Status()
	lead, _ := NewCluster(ClusterConfig{Endpoints: []string{cs[1].ClientURL(), cs[2].ClientURL()}})
	defer lead.Close()
	if err := lead.Remove(within(t, time.Minute), st.ID); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ss[0].Done():
	case <-time.After(time.Minute):
		t.Fatalf("the removed member still runs: %+v", ss[0].Status())
	}
	if !ss[0].Removed() || !strings.Contains(ss[0].Failed().Error(), "was removed from the cluster") {
		t.Errorf("%v", ss[0].Failed())
	}
	put(t, client(t, cs[1].ClientURL()), "k", "v")
	if err := lead.Remove(within(t, time.Minute), st.ID); err == nil || !strings.Contains(err.Error(), "no member") {
		t.Errorf("a second time: %v", err)
	}
	// Its old folder is no way back; a new one is.
	c := cs[0]
	c.Dir += "2"
	promote(t, lead, &c)
	last, _ := NewCluster(ClusterConfig{Endpoints: []string{c.ClientURL()}})
	defer last.Close()

	ms, err := lead.Members(within(t, time.Minute))
	if err != nil || len(ms) != 3 {
		t.Fatalf("%+v %v", ms, err)
	}
	for _, m := range ms {
		if m.Name == "b" || m.Name == "c" {
			if err := last.Remove(within(t, time.Minute), m.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	ms, err = last.Members(within(t, time.Minute))
	if err != nil || len(ms) != 1 {
		t.Fatalf("%+v %v", ms, err)
	}
	if err := last.Remove(within(t, time.Minute), ms[0].ID); err == nil || !strings.Contains(err.Error(), "the last member") {
		t.Errorf("the last one: %v", err)
	}
}

// TestRemovedWhileOff: a member that was removed while its host was off hears of it when
// it comes back, and stays out.
func TestRemovedWhileOff(t *testing.T) {
	t.Parallel()
	cs, ss, cl := three(t)
	id := ss[2].Status().ID
	ss[2].Stop()
	if err := cl.Remove(within(t, time.Minute), id); err != nil {
		t.Fatal(err)
	}
	s, err := Open(context.Background(), cs[2])
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	select {
	case <-s.Done():
	case <-time.After(time.Minute):
		t.Fatalf("it does not know: %+v", s.Status())
	}
	if !s.Removed() {
		t.Errorf("%v", s.Failed())
	}
	if err := s.Wait(within(t, time.Second)); err == nil || !strings.Contains(err.Error(), "was removed from the cluster") {
		t.Errorf("%v", err)
	}
}
