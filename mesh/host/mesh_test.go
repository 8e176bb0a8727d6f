package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/internal/testlog"
	"linkspan/mesh"
	"linkspan/store/mem"
)

// machine is one host of a test: its data root and its own store outlive its daemon.
type machine struct {
	t     *testing.T
	n     int
	root  string
	local *mem.Store
	log   *testlog.Log
	cfg   func(*Config)

	mu       sync.Mutex
	attached []*mesh.Mesh
	host     *Host
}

// deaf is a controller that does nothing.
type deaf struct{}

func (deaf) Networks(context.Context, []*cnm.Network)              {}
func (deaf) Peers(context.Context)                                 {}
func (deaf) Remote(context.Context, string, cnm.RemoteChange)      {}
func (deaf) Ask(context.Context, string, netip.Addr, string) error { return nil }
func (deaf) Unask(context.Context, string, netip.Addr)             {}

func newMachine(t *testing.T, n int, cfg func(*Config)) *machine {
	m := &machine{t: t, n: n, root: t.TempDir(), local: mem.New(mem.Options{}), log: &testlog.Log{}, cfg: cfg}
	m.open()
	t.Cleanup(func() {
		m.close()
		if t.Failed() {
			t.Logf("host%d:\n%s", n, m.log)
		}
	})
	return m
}

func (m *machine) addr() string { return fmt.Sprintf("10.213.0.%d", m.n) }
func (m *machine) name() string { return fmt.Sprintf("host%d", m.n) }

func (m *machine) open() *Host {
	m.t.Helper()
	c := Config{DataRoot: m.root, Hostname: m.name(), Version: "test", Local: m.local, Sink: deaf{},
		Attach: func(_ context.Context, x *mesh.Mesh) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.attached = append(m.attached, x)
			return nil
		},
		Place: func(netip.Addr) mesh.Place { return mesh.Place{Dev: "lo", MTU: 1500} },
		Log:   slog.New(slog.NewTextHandler(m.log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	// What is not the host's own address on all hosts of the test collides: each has its
	// own ports of the kernel.
	if m.cfg != nil {
		m.cfg(&c)
	}
	began := time.Now()
	h, err := Open(m.t.Context(), c)
	if err != nil {
		m.t.Fatal(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		m.t.Errorf("host%d opened after %v: it waited for something", m.n, took)
	}
	h.Begin()
	m.host = h
	return h
}

func (m *machine) close() {
	if m.host == nil {
		return
	}
	if err := m.host.Close(); err != nil {
		m.t.Errorf("host%d: %v", m.n, err)
	}
	m.host = nil
}

func (m *machine) restart() { m.close(); m.open() }

func (m *machine) init(q InitRequest) *Joined {
	m.t.Helper()
	q.Listen = m.addr()
	j, err := m.host.Init(m.t.Context(), q)
	if err != nil {
		m.t.Fatal(err)
	}
	return j
}

func (m *machine) token() *JoinLine {
	m.t.Helper()
	l, err := m.host.CreateToken(m.t.Context(), 0)
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}

func (m *machine) join(l *JoinLine) *Joined {
	m.t.Helper()
	j, err := m.host.Join(m.t.Context(), JoinRequest{Gate: l.Gate, Token: l.Token, Listen: m.addr()})
	if err != nil {
		m.t.Fatal(err)
	}
	return j
}

func (m *machine) status() *Status {
	m.t.Helper()
	s, err := m.host.Status(m.t.Context(), true)
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

// eventually waits for something that is to come by itself.
func eventually(t *testing.T, within time.Duration, what string, is func() bool) {
	t.Helper()
	began := time.Now()
	for !is() {
		if time.Since(began) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if took := time.Since(began); took > time.Second {
		t.Logf("%.1f s until %s", took.Seconds(), what)
	}
}

func (m *machine) roleIs(r Role) func() bool {
	return func() bool {
		st, run := m.host.current()
		return st != nil && st.Role == r && !st.Learner && run != nil
	}
}

// fails says that an error has a class and all of some words.
func fails(t *testing.T, err error, class error, want ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("it succeeded; want %q", want)
		return
	}
	if class != nil && !errors.Is(err, class) {
		t.Errorf("class of %v: want %v", err, class)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v\nwant %q", err, w)
		}
	}
}

// TestLife is a mesh from its making to its end.
func TestLife(t *testing.T) {
	if !isolated(t) {
		return
	}
	a, b := newMachine(t, 1, nil), newMachine(t, 2, nil)
	if s := a.status(); s.Phase != PhaseNone {
		t.Errorf("%+v", s)
	}
	began := time.Now()
	j := a.init(InitRequest{})
	t.Logf("init took %v", time.Since(began))
	if j.Role != RoleMember || j.Join == nil || !strings.HasPrefix(j.Join.Command, "linkspan mesh join 10.213.0.1:2380 --token lsm1-") || time.Until(j.Join.Expires) < 23*time.Hour {
		t.Errorf("%+v", j)
	}
	if len(a.attached) != 1 || a.attached[0] == nil || a.attached[0] != a.host.Mesh() {
		t.Errorf("attached %v", a.attached)
	}
	_, err := a.host.Init(t.Context(), InitRequest{Listen: a.addr()})
	fails(t, err, cnm.ErrConflict, "this host is in mesh "+j.Mesh+" already, as host1 at 10.213.0.1", "linkspan mesh token create", "linkspan mesh leave")
	_, err = a.host.Join(t.Context(), JoinRequest{Gate: "10.213.0.2", Token: j.Join.Token})
	fails(t, err, cnm.ErrConflict, "a host is in one mesh only")

	began = time.Now()
	k := b.join(j.Join)
	t.Logf("join took %v", time.Since(began))
	if k.Mesh != j.Mesh || k.Role != RoleClient || k.Name != "host2" {
		t.Errorf("%+v", k)
	}
	eventually(t, time.Minute, "host1 sees host2 alive", func() bool {
		p := a.host.Mesh().Peers()
		return len(p) == 1 && p[0].Name == "host2" && p[0].Alive
	})
	s := b.status()
	if s.Phase != PhaseJoined || len(s.Hosts) != 2 || !s.Etcd.Reachable || s.Etcd.Voters != 1 || s.Etcd.Answering != 1 || s.Certificate == nil || len(s.Words) != 0 {
		t.Errorf("%+v\n%+v\n%q", s, s.Etcd, s.Words)
	}
	var text strings.Builder
	if err := s.WriteText(&text); err != nil || !strings.Contains(text.String(), "etcd: healthy, 1 of 1 member answer") || !strings.Contains(text.String(), "host1  10.213.0.1  member  yes") {
		t.Errorf("%v\n%s", err, text.String())
	}

	// A restart of each: nothing is asked again.
	a.restart()
	b.restart()
	eventually(t, time.Minute, "both see each other again", func() bool {
		p, q := a.host.Mesh().Peers(), b.host.Mesh().Peers()
		return len(p) == 1 && p[0].Alive && len(q) == 1 && q[0].Alive
	})

	// host2 leaves: nothing is left of it, and its name is free.
	_, err = a.host.Leave(t.Context(), false)
	fails(t, err, cnm.ErrConflict, "this host is the last that runs etcd, and host2 is left", "linkspan mesh promote host2 first")
	if _, err := b.host.Leave(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(b.root); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if es, _, err := b.local.List(t.Context(), ""); err != nil || len(es) != 0 {
		t.Errorf("left in the store: %v %v", es, err)
	}
	if b.attached[len(b.attached)-1] != nil {
		t.Error("the controller was not told")
	}
	_, r, _ := a.host.inside("")
	es, _, err := r.store.List(t.Context(), "")
	for _, e := range es {
		if strings.Contains(string(e.Value), "host2") && !strings.HasPrefix(e.Key, "tokens/") && !strings.HasPrefix(e.Key, "certificates/") {
			t.Errorf("left of host2: %s = %s (%v)", e.Key, e.Value, err)
		}
	}
	b.join(a.token())
	if _, err := b.host.Leave(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	d, err := a.host.Leave(t.Context(), false)
	if err != nil || !strings.Contains(strings.Join(d.Notes, ""), "the mesh is no more") {
		t.Fatalf("%+v %v", d, err)
	}
	if left, _ := os.ReadDir(a.root); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	a.init(InitRequest{Voters: 1}) // and another one
}

// TestGrow: with the third host three run etcd; one of them may die, two may not.
func TestGrow(t *testing.T) {
	if !isolated(t) {
		return
	}
	a, b, c, d := newMachine(t, 1, nil), newMachine(t, 2, nil), newMachine(t, 3, nil), newMachine(t, 4, nil)
	a.init(InitRequest{})
	b.join(a.token())
	j := c.join(a.token())
	if got := strings.Join(j.Notes, "; "); !strings.Contains(got, "host2 begins to run etcd") || !strings.Contains(got, "this host begins to run etcd") {
		t.Errorf("%q", got)
	}
	eventually(t, time.Minute, "three run etcd", func() bool { return b.roleIs(RoleMember)() && c.roleIs(RoleMember)() })
	s := a.status()
	if s.Etcd.Voters != 3 || s.Etcd.Answering != 3 {
		t.Errorf("%+v", s.Etcd)
	}
	d.join(b.token()) // at another gate
	eventually(t, time.Minute, "host4 knows all members", func() bool {
		_, r := d.host.current()
		return len(r.store.Endpoints()) == 3
	})

	// The first one dies: nothing changes.
	a.close()
	if _, err := d.host.CreateToken(t.Context(), time.Hour); err != nil {
		t.Errorf("one of three is away: %v", err)
	}
	eventually(t, time.Minute, "host1 is not alive", func() bool {
		return slices.ContainsFunc(d.host.Mesh().Peers(), func(p cnm.Peer) bool { return p.Name == "host1" && !p.Alive })
	})
	_, err := d.host.Promote(t.Context(), "host1")
	if err != nil { // it is one
		t.Error(err)
	}
	s = d.status()
	if all := strings.Join(s.Words, "\n"); !strings.Contains(all, "1 of 3 members of etcd do not answer") || !strings.Contains(all, "host host1 (10.213.0.1) gives no sign of life") || !strings.Contains(all, "linkspan mesh forget host1") {
		t.Errorf("%s", all)
	}
	// Two die: nothing common changes, and it is said.
	c.close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = d.host.CreateToken(ctx, time.Hour)
	fails(t, err, cnm.ErrUnavailable)
	s = d.status()
	if all := strings.Join(s.Words, "\n"); !strings.Contains(all, "has no majority (1 of 3 members answer)") || !strings.Contains(all, "What runs goes on") {
		t.Errorf("%s\n%+v", all, s.Etcd)
	}
	d.restart() // at full speed, see open
	if p := d.host.Mesh().Peers(); len(p) != 3 {
		t.Errorf("after a restart without etcd: %+v", p)
	}
	// They come back: no hand is needed.
	a.open()
	c.open()
	eventually(t, time.Minute, "all is well again", func() bool {
		s := d.status()
		return s.Etcd.Reachable && s.Etcd.Answering == 3 && len(s.Words) == 0
	})
}

// TestPowerCut: all members die at once, moments after they became members; when their
// daemons start again they find each other, though nobody has a majority before.
func TestPowerCut(t *testing.T) {
	if !isolated(t) {
		return
	}
	a, b, c := newMachine(t, 1, nil), newMachine(t, 2, nil), newMachine(t, 3, nil)
	a.init(InitRequest{})
	b.join(a.token())
	c.join(a.token())
	eventually(t, time.Minute, "three run etcd", func() bool { return b.roleIs(RoleMember)() && c.roleIs(RoleMember)() })
	for _, m := range []*machine{b, c, a} {
		began := time.Now()
		m.close()
		took := time.Since(began)
		t.Logf("%s: closed after %v", m.name(), took)
		if took > 30*time.Second { // a daemon that is stopped does not wait for those who are gone
			t.Errorf("%s took %v to close", m.name(), took)
		}
	}
	for _, m := range []*machine{a, b, c} {
		began := time.Now()
		m.open()
		eventually(t, time.Minute, "its etcd runs by itself", func() bool {
			_, r := m.host.current()
			return r != nil && r.serving() != nil
		})
		t.Logf("%s: etcd runs after %v", m.name(), time.Since(began))
	}
	eventually(t, time.Minute, "all is well", func() bool {
		s := a.status()
		return s.Etcd.Reachable && s.Etcd.Answering == 3 && len(s.Words) == 0
	})
	// One that lost its data is taken anew.
	dir := c.host.dir.etcd()
	c.close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	c.open()
	eventually(t, time.Minute, "host3 runs etcd again", func() bool {
		e := a.status().Etcd
		return c.roleIs(RoleMember)() && e.Voters == 3 && e.Answering == 3
	})
	// With the majority gone, --force does not wait long.
	a.close()
	b.close()
	if _, err := c.host.Leave(t.Context(), false); err == nil {
		t.Error("it left, and nobody could be told")
	}
	began := time.Now()
	if _, err := c.host.Leave(t.Context(), true); err != nil || time.Since(began) > 30*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	t.Logf("leave --force took %v", time.Since(began))
}

// TestPromoteTwo: two hosts that are promoted at the same moment become members one after
// the other.
func TestPromoteTwo(t *testing.T) {
	if !isolated(t) {
		return
	}
	a, b, c := newMachine(t, 1, nil), newMachine(t, 2, nil), newMachine(t, 3, nil)
	a.init(InitRequest{Voters: 1})
	b.join(a.token())
	c.join(a.token())
	for range 3 {
		for _, name := range []string{"host2", "host3"} {
			if _, err := a.host.Promote(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, time.Minute, "both run etcd", func() bool {
			e := a.status().Etcd
			return b.roleIs(RoleMember)() && c.roleIs(RoleMember)() && e.Voters == 3 && e.Answering == 3
		})
		for _, name := range []string{"host2", "host3"} {
			eventually(t, time.Minute, name+" is demoted", func() bool { _, err := a.host.Demote(t.Context(), name); return err == nil })
		}
		eventually(t, time.Minute, "both are clients", func() bool {
			e := a.status().Etcd
			return b.roleIs(RoleClient)() && c.roleIs(RoleClient)() && e.Voters == 1 && e.Reachable
		})
	}
}

// TestRoles: a person says who runs etcd.
func TestRoles(t *testing.T) {
	if !isolated(t) {
		return
	}
	a, b, c := newMachine(t, 1, nil), newMachine(t, 2, nil), newMachine(t, 3, nil)
	a.init(InitRequest{Voters: 1})
	b.join(a.token())
	c.join(a.token())
	_, err := a.host.Demote(t.Context(), "host1")
	fails(t, err, cnm.ErrConflict, "host1 is the last host that runs etcd", "linkspan mesh promote HOST")
	_, err = a.host.Promote(t.Context(), "host9")
	fails(t, err, cnm.ErrNotFound, "the mesh has no host host9; it has host1, host2, host3")
	d, err := a.host.Promote(t.Context(), "host2")
	if err != nil || !strings.Contains(strings.Join(d.Notes, ""), "2 members survive no more losses than 1") {
		t.Errorf("%+v %v", d, err)
	}
	eventually(t, time.Minute, "host2 runs etcd", b.roleIs(RoleMember))
	if d, err = c.host.Promote(t.Context(), "10.213.0.3"); err != nil || len(d.Notes) != 0 {
		t.Errorf("%+v %v", d, err)
	}
	eventually(t, time.Minute, "host3 runs etcd", c.roleIs(RoleMember))

	// The first one becomes a client of the others, and then leaves.
	if _, err := b.host.Demote(t.Context(), "host1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "host1 runs no etcd", a.roleIs(RoleClient))
	eventually(t, time.Minute, "neither its data nor the CA's key are there any more", func() bool {
		_, data := os.Stat(a.host.dir.etcd())
		_, key := os.Stat(a.host.dir.tls() + "/ca-key.pem")
		return os.IsNotExist(data) && os.IsNotExist(key)
	})
	eventually(t, time.Minute, "host1 is well", func() bool { s := a.status(); return s.Etcd.Reachable && s.Etcd.Voters == 2 })
	if _, err := a.host.Leave(t.Context(), false); err != nil {
		t.Fatal(err)
	}

	// A dead host is not promoted; it is demoted and forgotten.
	x := newMachine(t, 4, nil)
	x.join(b.token())
	_, err = b.host.Forget(t.Context(), "host4", false)
	fails(t, err, cnm.ErrConflict, "host host4 (10.213.0.4) is there: say linkspan mesh leave on it")
	x.close()
	eventually(t, time.Minute, "host4 is not alive", func() bool {
		return slices.ContainsFunc(b.host.Mesh().Peers(), func(p cnm.Peer) bool { return p.Name == "host4" && !p.Alive })
	})
	_, err = b.host.Promote(t.Context(), "host4")
	fails(t, err, cnm.ErrConflict, "host host4 (10.213.0.4) is not there", "start its daemon first")
	_, err = b.host.Forget(t.Context(), "host2", false)
	fails(t, err, cnm.ErrConflict, "host2 is this host: say linkspan mesh leave")
	if _, err := b.host.Forget(t.Context(), "host4", false); err != nil {
		t.Fatal(err)
	}
	// It comes back, finds itself forgotten, and joins again.
	x.open()
	eventually(t, time.Minute, "host4 knows", func() bool { return x.status().Phase == PhaseForgotten })
	_, err = x.host.CreateToken(t.Context(), 0)
	fails(t, err, cnm.ErrConflict, "has forgotten this host", "linkspan mesh join")
	x.join(b.token())
	if s := x.status(); s.Phase != PhaseJoined || len(s.Hosts) != 3 {
		t.Errorf("%+v", s)
	}
}
