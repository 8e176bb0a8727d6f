package wireguard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/cnm"
)

// fakeDevice holds what was set.
type fakeDevice struct {
	mu     sync.Mutex
	has    map[string]Config
	sets   int
	absent bool // the kernel's, while the data plane has not made it
	err    error
}

func (d *fakeDevice) Set(_ context.Context, c Config) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := c.Normal()
	switch {
	case d.err != nil:
		return d.err
	case err != nil:
		return err
	case d.absent:
		return cnm.NotFound("no device %s", c.Name)
	}
	if d.has == nil {
		d.has = map[string]Config{}
	}
	d.has[c.Name] = c
	d.sets++
	return nil
}

func (d *fakeDevice) Status(_ context.Context, name string) (Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.has[name]
	if !ok {
		return Status{}, cnm.NotFound("no device %s", name)
	}
	st := Status{Name: name, PublicKey: c.PrivateKey.Public(), Port: c.Port}
	for _, p := range c.Peers {
		st.Peers = append(st.Peers, PeerStatus{PublicKey: p.PublicKey, Endpoint: p.Endpoint, Handshake: time.Now(), Allowed: p.Allowed, Sent: 7})
	}
	return st, nil
}

func (d *fakeDevice) Remove(_ context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.has, name)
	return nil
}

func (d *fakeDevice) config() (Config, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.has["lswg"]
	return c, ok
}

func (d *fakeDevice) fail(err error) { d.mu.Lock(); d.err = err; d.mu.Unlock() }

// managed is a manager that runs, with a record as the mesh would have it.
type managed struct {
	*Manager
	t      *testing.T
	dir    string
	dev    *fakeDevice
	log    *strings.Builder
	cancel func()
	ended  chan struct{}

	mu        sync.Mutex
	published string
	cut       bool // the store does not answer
	changed   int
	hosts     []Host
	busy      bool
}

func manage(t *testing.T, dir string, published string, adjust ...func(*ManagerConfig)) *managed {
	t.Helper()
	m := &managed{t: t, dir: dir, dev: &fakeDevice{}, log: &strings.Builder{}, published: published}
	cfg := ManagerConfig{
		Dir: dir, Device: "lswg", UserSpace: m.dev, CheckEvery: 20 * time.Millisecond,
		Publish: func(k PublicKey) {
			m.mu.Lock()
			cut := m.cut
			if !cut {
				m.published = k.String()
			}
			m.mu.Unlock()
			if !cut {
				m.update()
			}
		},
		Changed: func() { m.mu.Lock(); m.changed++; m.mu.Unlock() },
		Log:     slog.New(slog.NewTextHandler(&lockedWriter{b: m.log}, nil)),
	}
	for _, f := range adjust {
		f(&cfg)
	}
	m.Manager = NewManager(cfg)
	m.run()
	t.Cleanup(func() { m.stop() })
	return m
}

func (m *managed) run() {
	ctx, cancel := context.WithCancel(m.t.Context())
	ended := make(chan struct{})
	m.cancel, m.ended = cancel, ended
	go func() { m.Run(ctx); close(ended) }()
}

type lockedWriter struct {
	mu sync.Mutex
	b  *strings.Builder
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (m *managed) stop() { m.cancel(); <-m.ended }

func (m *managed) update() {
	m.mu.Lock()
	w := Wanted{MTU: 1440, Published: m.published, Known: true, Hosts: m.hosts, Busy: m.busy}
	m.mu.Unlock()
	m.Update(w)
}

func (m *managed) with(hosts ...Host) {
	m.mu.Lock()
	m.hosts = hosts
	m.mu.Unlock()
	m.update()
}

func (m *managed) until(what string, is func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.stop()
			c, _ := m.dev.config()
			m.t.Fatalf("never: %s\npublished %s\n%+v\n%s", what, m.published, c, m.log)
		}
	}
}

func host(n byte, key PublicKey) Host {
	return Host{ID: fmt.Sprintf("id%d", n), Name: fmt.Sprintf("host%d", n), Key: key.String(),
		Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), DefaultPort), Addr: netip.AddrFrom16([16]byte{0: 0xfd, 15: n})}
}

// TestManager: hosts come, get addresses and go; the device follows.
func TestManager(t *testing.T) {
	m := manage(t, t.TempDir(), "")
	if _, _, err := m.Ready(); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("before anything is known: %v", err)
	}
	m.with(host(2, pub(2)), host(3, pub(3)), Host{ID: "id4", Name: "host4"})
	m.until("the key is published and two peers are there", func() bool {
		c, ok := m.dev.config()
		m.mu.Lock()
		defer m.mu.Unlock()
		return ok && len(c.Peers) == 2 && m.published == m.PublicKey().String()
	})
	if name, user, err := m.Ready(); name != "lswg" || !user || err != nil {
		t.Errorf("ready: %s %v %v", name, user, err)
	}
	c, _ := m.dev.config()
	if c.MTU != 1440 || c.Port != DefaultPort || text(Diff(Config{PrivateKey: c.PrivateKey, Port: c.Port}, c)) !=
		"peer 2 new at 10.0.0.2:51871 +fd00::2/128\npeer 3 new at 10.0.0.3:51871 +fd00::3/128\n" {
		t.Errorf("%s", text(Diff(Config{}, c)))
	}
	m.Allow("net1", map[string][]netip.Prefix{"id2": prefixes("10.1.0.0/24"), "id3": prefixes("10.1.1.0/24", "10.1.0.7/32")})
	m.Allow("net2", map[string][]netip.Prefix{"id2": prefixes("10.1.1.0/24", "10.2.0.0/24"), "nobody": prefixes("10.3.0.0/24")})
	m.mu.Lock()
	m.busy = true
	m.mu.Unlock()
	m.update()
	m.until("addresses and keepalives", func() bool {
		now, _ := m.dev.config()
		// 10.1.1.0/24 is said of two: the network of the smaller id... the host of it counts.
		return text(Diff(c, now)) == "peer 2 keepalive 25s +10.1.0.0/24 +10.1.1.0/24 +10.2.0.0/24\npeer 3 keepalive 25s +10.1.0.7/32\n"
	})
	m.Allow("net2", nil)
	m.until("the other has it", func() bool {
		now, _ := m.dev.config()
		return text(Diff(c, now)) == "peer 2 keepalive 25s +10.1.0.0/24\npeer 3 keepalive 25s +10.1.0.7/32 +10.1.1.0/24\n"
	})
	m.with(host(3, pub(9)))
	m.until("a host goes, another has a new key", func() bool {
		now, _ := m.dev.config()
		return len(now.Peers) == 1 && now.Peers[0].PublicKey == pub(9) && len(now.Peers[0].Allowed) == 3
	})
	r := m.Report(t.Context())
	if r.String() != KindUserSpace || len(r.Hosts) != 1 || !r.Hosts[0].Up || !r.Hosts[0].Peer || r.Hosts[0].Endpoint != "10.0.0.3:51871" || r.Hosts[0].Sent != 7 || r.Key != m.PublicKey() || r.Made.IsZero() {
		t.Errorf("report: %+v", r)
	}
	m.stop()
	if err := m.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, there := m.dev.config(); there {
		t.Error("the device is still there")
	}
	if _, _, err := m.Ready(); err == nil {
		t.Error("ready after it was removed")
	}
	if strings.Contains(m.log.String(), c.PrivateKey.Secret()) {
		t.Error("the log has the key")
	}
}

// TestManagerFaults: one host's broken record does not keep the others from their
// tunnels, and a device that cannot be set is said once.
func TestManagerFaults(t *testing.T) {
	m := manage(t, t.TempDir(), "")
	bad := host(2, pub(2))
	bad.Key = "no key"
	m.until("there is a key", func() bool { return !m.PublicKey().IsZero() })
	m.with(bad, host(3, pub(3)), host(4, pub(3)), host(5, m.PublicKey()), host(6, pub(6)))
	m.until("the good ones", func() bool { c, ok := m.dev.config(); return ok && len(c.Peers) == 2 })
	m.dev.fail(cnm.Conflict("UDP port 51871 is taken"))
	m.until("it is said", func() bool { _, _, err := m.Ready(); return errors.Is(err, cnm.ErrConflict) })
	time.Sleep(100 * time.Millisecond)
	m.dev.fail(nil)
	m.until("it works again", func() bool { _, _, err := m.Ready(); return err == nil })
	m.stop()
	for line, want := range map[string]int{"host=host2": 1, "host=host4": 1, "host=host5": 1, "is taken": 1, "data folder copied": 2} {
		if n := strings.Count(m.log.String(), line); n != want {
			t.Errorf("%q is said %d times, want %d:\n%s", line, n, want, m.log)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed != 3 {
		t.Errorf("told %d times, want 3: there, away, there", m.changed)
	}
}

// TestManagerKind: the kernel's if it is there; neither, and it says why.
func TestManagerKind(t *testing.T) {
	kernel := &fakeDevice{absent: true}
	m := manage(t, t.TempDir(), "", func(c *ManagerConfig) { c.Kernel, c.Probe = kernel, func() error { return nil } })
	m.with(host(2, pub(2)))
	m.until("ready for the data plane to make it", func() bool { _, user, err := m.Ready(); return err == nil && !user })
	kernel.mu.Lock()
	kernel.absent = false
	kernel.mu.Unlock()
	m.until("it is set when it is there", func() bool { c, ok := kernel.config(); return ok && len(c.Peers) == 1 })
	if r := m.Report(t.Context()); r.String() != KindKernel {
		t.Errorf("report: %+v", r)
	}

	none := manage(t, t.TempDir(), "", func(c *ManagerConfig) {
		c.Kernel, c.UserSpace, c.Probe = kernel, nil, func() error { return errors.New("no WireGuard here") }
	})
	none.with(host(2, pub(2)))
	none.until("neither is there", func() bool {
		_, _, err := none.Ready()
		return errors.Is(err, cnm.ErrUnavailable) && strings.Contains(err.Error(), "no WireGuard here")
	})
	if err := none.Rotate(t.Context()); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("a key for nothing: %v", err)
	}
	if r := none.Report(t.Context()); !strings.Contains(r.String(), "no WireGuard here") {
		t.Errorf("report: %+v", r)
	}
}

// TestRotate: on demand, by age, and while the store is away.
func TestRotate(t *testing.T) {
	m := manage(t, t.TempDir(), "")
	m.with(host(2, pub(2)))
	m.until("there is a key", func() bool { return !m.PublicKey().IsZero() })
	first := m.PublicKey()
	inUse := func(k func() PublicKey) func() bool {
		return func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			c, ok := m.dev.config()
			return ok && c.PrivateKey.Public() == k() && m.published == k().String()
		}
	}
	m.until("the first key", inUse(func() PublicKey { return first }))
	if err := m.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := m.PublicKey()
	if second == first {
		t.Fatal("the same key")
	}
	m.until("the second key", inUse(func() PublicKey { return second }))

	m.mu.Lock()
	m.cut = true
	m.mu.Unlock()
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := m.Rotate(short); !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "former one") {
		t.Errorf("with the store away: %v", err)
	}
	if m.PublicKey() != second {
		t.Error("a key that nobody knows is in use")
	}
	m.mu.Lock()
	m.cut = false
	m.mu.Unlock()
	m.until("it is changed when the store is back", func() bool { return m.PublicKey() != second && inUse(m.PublicKey)() })
	third := m.PublicKey()

	old := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(filepath.Join(m.dir, "wireguard.key"), old, old); err != nil {
		t.Fatal(err)
	}
	m.until("it is changed when it is old", func() bool { return m.PublicKey() != third && inUse(m.PublicKey)() })
	fourth := m.PublicKey()
	time.Sleep(100 * time.Millisecond)
	if m.PublicKey() != fourth {
		t.Error("a new key was changed again")
	}
	if all, err := filepath.Glob(filepath.Join(m.dir, "*")); err != nil || len(all) != 1 {
		t.Errorf("left: %v", all)
	}
}

// TestRotateCrash: the daemon dies after each step; the next one goes on from what the
// record says.
func TestRotateCrash(t *testing.T) {
	for _, c := range []struct {
		name      string
		published func(current, next PublicKey) string
		keeps     func(current, next, now PublicKey) bool
	}{
		{"before it was published", func(current, _ PublicKey) string { return current.String() },
			func(_, next, now PublicKey) bool { return now == next }}, // the change is completed
		{"after it was published", func(_, next PublicKey) string { return next.String() },
			func(_, next, now PublicKey) bool { return now == next }},
		{"and the record has another host's life", func(_, _ PublicKey) string { return pub(7).String() },
			func(current, _, now PublicKey) bool { return now == current }},
		{"and the record has none", func(_, _ PublicKey) string { return "" },
			func(current, _, now PublicKey) bool { return now == current }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			k := openKeys(t, dir)
			next, err := k.Begin()
			if err != nil {
				t.Fatal(err)
			}
			current, nextPublic := k.Current().Public(), next.Public()
			m := manage(t, dir, c.published(current, nextPublic))
			m.with(host(2, pub(2)))
			m.until("the right key in use and published", func() bool {
				now := m.PublicKey()
				m.mu.Lock()
				defer m.mu.Unlock()
				conf, ok := m.dev.config()
				return ok && c.keeps(current, nextPublic, now) && m.published == now.String() && conf.PrivateKey.Public() == now
			})
		})
	}
}

// TestUnknownRecord: as long as the record was not read, nothing is said of the key.
func TestUnknownRecord(t *testing.T) {
	m := manage(t, t.TempDir(), "")
	m.Update(Wanted{MTU: 1400, Hosts: []Host{host(2, pub(2))}})
	m.until("the tunnels work", func() bool { c, ok := m.dev.config(); return ok && len(c.Peers) == 1 })
	time.Sleep(60 * time.Millisecond)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.published != "" {
		t.Error("a key was published over one that may be there")
	}
}

// TestBrokenKey: a key that cannot be read is said, and the tunnels work when it is gone.
func TestBrokenKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "wireguard.key")
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := manage(t, dir, "")
	m.with(host(2, pub(2)))
	m.until("it is said", func() bool { _, _, err := m.Ready(); return errors.Is(err, cnm.ErrInvalid) })
	if err := m.Rotate(t.Context()); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("rotate: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	m.until("it works", func() bool { _, _, err := m.Ready(); return err == nil })
	m.stop()
	if n := strings.Count(m.log.String(), "no WireGuard private key") + strings.Count(m.log.String(), "not a WireGuard private key"); n != 1 {
		t.Errorf("said %d times:\n%s", n, m.log)
	}
}

// TestLeave: who leaves a mesh and joins another has another key there.
func TestLeave(t *testing.T) {
	m := manage(t, t.TempDir(), "")
	m.with(host(2, pub(2)))
	m.until("in the first mesh", func() bool { _, ok := m.dev.config(); return ok })
	first := m.PublicKey()
	m.stop()
	if err := errors.Join(m.Remove(t.Context()), os.RemoveAll(m.dir)); err != nil {
		t.Fatal(err)
	}
	if _, there := m.dev.config(); there {
		t.Error("the device is still there")
	}
	m.mu.Lock()
	m.published = ""
	m.mu.Unlock()
	m.run()
	m.with(host(3, pub(3)))
	m.until("in the second", func() bool {
		c, ok := m.dev.config()
		m.mu.Lock()
		defer m.mu.Unlock()
		return ok && len(c.Peers) == 1 && c.Peers[0].PublicKey == pub(3) && m.published == c.PrivateKey.Public().String() && c.PrivateKey.Public() != first
	})
}

func TestMTU(t *testing.T) {
	for _, c := range []struct {
		mtu   int
		outer string
		want  int
	}{{1500, "10.0.0.1", 1440}, {1500, "fd00::1", 1420}, {9000, "10.0.0.1", 8940}} {
		if got := MTU(c.mtu, netip.MustParseAddr(c.outer)); got != c.want {
			t.Errorf("MTU(%d, %s) is %d, want %d", c.mtu, c.outer, got, c.want)
		}
	}
}
