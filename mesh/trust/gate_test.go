package trust

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/store"
	"linkspan/store/mem"
)

// meshOfOne is a mesh with one host that has a gate.
type meshOfOne struct {
	t      *testing.T
	ca     *CA
	store  store.Store
	id     *Identity
	gate   *Gate
	addr   string
	tokens Tokens
	clock  *fake

	mu    sync.Mutex
	hosts map[string]Host
}

// fake is a clock that is set by hand.
type fake struct {
	mu sync.Mutex
	t  time.Time
}

func (f *fake) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.t
}

func (f *fake) add(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.t = f.t.Add(d)
}

func key(t testing.TB) *ecdsa.PrivateKey {
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newMesh(t *testing.T, name string) *meshOfOne {
	t.Helper()
	clk := &fake{t: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	ca, err := NewCA("id-of-"+name, name, clk.now())
	if err != nil {
		t.Fatal(err)
	}
	st := mem.New(mem.Options{})
	t.Cleanup(func() { st.Close() })
	m := &meshOfOne{t: t, ca: ca, store: st, clock: clk, tokens: Tokens{Store: st, Now: clk.now},
		hosts: map[string]Host{"h1": {Name: "host1", Addr: netip.MustParseAddr("10.0.0.1"), Member: true}}}
	k := key(t)
	leaf, err := ca.Issue(Subject{ID: "h1", Name: "host1", Addr: netip.MustParseAddr("10.0.0.1")}, k.Public(), clk.now())
	if err != nil {
		t.Fatal(err)
	}
	folder := Folder(t.TempDir())
	if err := folder.SaveCA(ca); err != nil {
		t.Fatal(err)
	}
	if err := folder.SaveHost(ca, leaf, k); err != nil {
		t.Fatal(err)
	}
	if m.id, err = folder.Identity(); err != nil {
		t.Fatal(err)
	}
	m.gate = &Gate{CA: ca, Identity: m.id, Store: st, Now: clk.now, Admit: m.admit, Host: m.host,
		Place: func(context.Context) (Place, error) {
			return Place{Endpoints: []string{"10.0.0.1:2379"}, Gates: []string{"10.0.0.1:2380"}}, nil
		}}
	m.addr = serve(t, m.gate)
	return m
}

func serve(t *testing.T, g *Gate) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// admit claims the host's name, as package mesh does.
func (m *meshOfOne) admit(ctx context.Context, r Request) ([]store.Op, error) {
	e, ok, err := m.store.Get(ctx, "hostnames/"+r.Name)
	if err != nil {
		return nil, err
	}
	if ok && string(e.Value) != r.ID {
		return nil, cnm.Conflict("the name %s is held by another host (%s): give another with --name", r.Name, e.Value)
	}
	if ok {
		return nil, nil
	}
	return []store.Op{{Key: "hostnames/" + r.Name, Value: []byte(r.ID), Guard: true}}, nil
}

func (m *meshOfOne) host(_ context.Context, id string) (Host, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h, ok := m.hosts[id]; ok {
		return h, nil
	}
	return Host{}, cnm.NotFound("no host %s", id)
}

func (m *meshOfOne) set(id string, h *Host) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h == nil {
		delete(m.hosts, id)
	} else {
		m.hosts[id] = *h
	}
}

func (m *meshOfOne) token() string {
	m.t.Helper()
	t, _, err := m.tokens.Create(context.Background(), m.ca, "host1", 0)
	if err != nil {
		m.t.Fatal(err)
	}
	return t.String()
}

func req(n int) Request {
	return Request{ID: fmt.Sprintf("h%d", n), Name: fmt.Sprintf("host%d", n), Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), Version: "test"}
}

func (m *meshOfOne) join(n int, token string) (*Answer, *ecdsa.PrivateKey, error) {
	k := key(m.t)
	a, err := Join(context.Background(), m.addr, token, req(n), k, m.clock.now)
	return a, k, err
}

// identity joins, and keeps what was answered.
func (m *meshOfOne) identity(n int) *Identity {
	m.t.Helper()
	a, k, err := m.join(n, m.token())
	if err != nil {
		m.t.Fatal(err)
	}
	f := Folder(m.t.TempDir())
	if err := errors.Join(f.SaveCA(a.CA), f.SaveHost(a.CA, a.Certificate, k)); err != nil {
		m.t.Fatal(err)
	}
	id, err := f.Identity()
	if err != nil {
		m.t.Fatal(err)
	}
	r := req(n)
	m.set(r.ID, &Host{Name: r.Name, Addr: r.Addr})
	return id
}

func TestJoin(t *testing.T) {
	m := newMesh(t, "shop")
	tok := m.token()
	a, k, err := m.join(2, tok)
	if err != nil {
		t.Fatal(err)
	}
	if a.CA.Mesh() != "id-of-shop" || a.CA.Name() != "shop" || a.Gate != "host1" || len(a.Warnings) != 0 || len(a.Endpoints) != 1 || a.CA.CanSign() {
		t.Errorf("%+v", a)
	}
	c := a.Certificate
	for _, name := range []string{"h2", "host2", "10.0.0.2", "127.0.0.1", "localhost"} {
		if err := c.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if !c.NotAfter.Equal(m.clock.now().Add(HostLife)) || !c.NotBefore.Before(m.clock.now().Add(-MaxSkew)) {
		t.Errorf("good from %v to %v", c.NotBefore, c.NotAfter)
	}
	f := Folder(t.TempDir())
	if err := f.SaveHost(a.CA, c, k); err != nil {
		t.Fatal(err)
	}
	if e, ok, _ := m.store.Get(context.Background(), "hostnames/host2"); !ok || string(e.Value) != "h2" {
		t.Error("what Admit wanted was not written")
	}
	// It did not hear the answer, and asks again: the same host with the same key gets one.
	if _, err := Join(context.Background(), m.addr, tok, req(2), k, m.clock.now); err != nil {
		t.Errorf("again: %v", err)
	}
	// Anyone else does not.
	for what, r := range map[string]Request{"another host": req(3), "the same host with another key": req(2)} {
		_, err := Join(context.Background(), m.addr, tok, r, key(t), m.clock.now)
		if !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), "was used by host host2 at 2026-11-21 12:00 UTC; a token lets one host in") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestOnce: of many hosts with one token one gets in.
func TestOnce(t *testing.T) {
	m := newMesh(t, "shop")
	tok := m.token()
	var wg sync.WaitGroup
	var mu sync.Mutex
	in := 0
	for n := 2; n < 12; n++ {
		wg.Go(func() {
			_, err := Join(context.Background(), m.addr, tok, req(n), key(t), m.clock.now)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				in++
			case !strings.Contains(err.Error(), "was used by host"):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if in != 1 {
		t.Errorf("%d hosts joined with one token", in)
	}
	es, _, _ := m.store.List(context.Background(), "hostnames/")
	if len(es) != 1 {
		t.Errorf("%d names were claimed", len(es))
	}
}

func TestBadJoin(t *testing.T) {
	m := newMesh(t, "shop")
	other := newMesh(t, "other")
	ctx := context.Background()
	bad := func(err error, class error, words ...string) {
		t.Helper()
		if !errors.Is(err, class) {
			t.Errorf("class of %v is not %v", err, class)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v\nlacks %q", err, w)
			}
		}
	}
	do := func(addr, token string, r Request, at func() time.Time) error {
		_, err := Join(ctx, addr, token, r, key(t), at)
		return err
	}
	now := m.clock.now

	// The token.
	bad(do(m.addr, other.token(), req(2), now), cnm.ErrForbidden, m.addr, "not of the mesh that the token is for", "host1 of mesh id-of-shop", "nothing was sent")
	forged := newToken(m.ca.Pin())
	bad(do(m.addr, forged.String(), req(2), now), cnm.ErrForbidden, "mesh shop knows no token "+forged.ID, "linkspan mesh token")
	good, _ := ParseToken(m.token())
	wrong := good
	wrong.secret[0] ^= 1
	bad(do(m.addr, wrong.String(), req(2), now), cnm.ErrForbidden, "the secret of token "+good.ID+" is wrong")
	if err := m.tokens.Revoke(ctx, good.ID); err != nil {
		t.Fatal(err)
	}
	bad(do(m.addr, good.String(), req(2), now), cnm.ErrForbidden, "was revoked at 2026-11-21 12:00 UTC", "linkspan mesh token")
	late := m.token()
	m.clock.add(27 * time.Hour)
	bad(do(m.addr, late, req(2), now), cnm.ErrForbidden, "expired 3 h ago, at 2026-11-22 12:00 UTC", "linkspan mesh token")

	// The host.
	tok := m.token()
	r := req(2)
	r.Addr = netip.Addr{}
	bad(do(m.addr, tok, r, now), cnm.ErrInvalid, "host2", "--listen")
	r = req(2)
	r.Name = "a b"
	bad(do(m.addr, tok, r, now), cnm.ErrInvalid, `"a b"`, "--name")
	if _, err := m.store.Commit(ctx, store.Op{Key: "hostnames/host2", Value: []byte("h9")}); err != nil {
		t.Fatal(err)
	}
	bad(do(m.addr, tok, req(2), now), cnm.ErrConflict, "host2", "held by another host (h9)")

	// The clocks: far apart is refused, somewhat is said; the token is not used up by it.
	ahead := func(d time.Duration) func() time.Time { return func() time.Time { return m.clock.now().Add(d) } }
	bad(do(m.addr, tok, req(3), ahead(6*time.Minute)), cnm.ErrConflict, "the clock of host3 (2026-11-22 15:06:00) is 6m0s ahead of that of host1 (2026-11-22 15:00:00)", "chrony")
	bad(do(m.addr, tok, req(3), ahead(-400*24*time.Hour)), cnm.ErrConflict, "400 days behind")
	a, err := Join(ctx, m.addr, tok, req(3), key(t), ahead(-time.Minute))
	if err != nil || len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "host3 (2026-11-22 14:59:00) is 1m0s behind that of host1") {
		t.Errorf("%v %+v", err, a)
	}

	// The address.
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	closed := l.Addr().String()
	l.Close()
	bad(do(closed, tok, req(2), now), cnm.ErrUnavailable, closed, "refused", "is the daemon there and TCP port")
	bad(do("no.such.host.invalid", tok, req(2), now), cnm.ErrNotFound, "no.such.host.invalid", "give an address")
	bad(do("http://10.0.0.1", tok, req(2), now), cnm.ErrInvalid, "no address of a gate")
	plain, _ := net.Listen("tcp", "127.0.0.1:0")
	defer plain.Close()
	go func() {
		for {
			c, err := plain.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "SSH-2.0-x\r\n")
			c.Close()
		}
	}()
	bad(do(plain.Addr().String(), tok, req(2), now), cnm.ErrUnavailable, "does not speak TLS")
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	silent, _ := net.Listen("tcp", "127.0.0.1:0")
	defer silent.Close()
	_, err = Join(short, silent.Addr().String(), tok, req(2), key(t), now)
	bad(err, cnm.ErrUnavailable, "timed out", "TCP port")

	// The store is away: the token is kept for later.
	tok = m.token()
	m.gate.Store = away{m.store}
	bad(do(m.addr, tok, req(4), now), cnm.ErrUnavailable, "no majority")
	m.gate.Store = m.store
	if err := do(m.addr, tok, req(4), now); err != nil {
		t.Error(err)
	}
}

type away struct{ store.Store }

func (away) Get(context.Context, string) (store.Entry, bool, error) {
	return store.Entry{}, false, cnm.Errorf(cnm.ErrUnavailable, "etcd has no majority")
}

func TestWrongTokensAreLimited(t *testing.T) {
	m := newMesh(t, "shop")
	good := m.token()
	var err error
	for range wrongMax {
		_, _, err = m.join(2, newToken(m.ca.Pin()).String())
	}
	if !strings.Contains(err.Error(), "knows no token") {
		t.Fatal(err)
	}
	if _, _, err = m.join(2, good); err == nil || !strings.Contains(err.Error(), "too many wrong tokens came from 127.0.0.1: try again in 1m0s") {
		t.Errorf("%v", err)
	}
	m.clock.add(61 * time.Second)
	if _, _, err = m.join(2, good); err != nil {
		t.Error(err)
	}
}

func TestRenewAndAuthority(t *testing.T) {
	m := newMesh(t, "shop")
	ctx := context.Background()
	id := m.identity(2)
	first := id.Certificate()

	m.clock.add(61 * 24 * time.Hour)
	dead, _ := net.Listen("tcp", "127.0.0.1:0")
	dead.Close()
	a, err := id.Renew(ctx, []string{dead.Addr().String(), m.addr}, m.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	c := id.Certificate()
	if c.Equal(first) || !c.NotAfter.Equal(m.clock.now().Add(HostLife)) || c.Subject.CommonName != "h2" || a.Gates[0] != "10.0.0.1:2380" {
		t.Errorf("%v %v", c.Subject, c.NotAfter)
	}
	if kept, err := id.folder.Identity(); err != nil || !kept.Certificate().Equal(c) {
		t.Errorf("it was not kept: %v", err)
	}

	// The CA's key is for members only.
	if _, err := id.Authority(ctx, []string{m.addr}, m.clock.now); !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), "linkspan mesh promote host2") {
		t.Errorf("a client host: %v", err)
	}
	m.set("h2", &Host{Name: "host2", Addr: netip.MustParseAddr("10.0.0.2"), Member: true})
	ca, err := id.Authority(ctx, []string{m.addr}, m.clock.now)
	if err != nil || !ca.CanSign() || ca.Pin() != m.ca.Pin() {
		t.Errorf("a member: %v", err)
	}

	// Forgotten: neither.
	m.set("h2", nil)
	for what, f := range map[string]func() error{
		"renew":     func() error { _, err := id.Renew(ctx, []string{m.addr}, m.clock.now); return err },
		"authority": func() error { _, err := id.Authority(ctx, []string{m.addr}, m.clock.now); return err },
	} {
		if err := f(); !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), "does not know host host2 any more: it was forgotten") {
			t.Errorf("%s: %v", what, err)
		}
	}

	// Another mesh's gate, and another mesh's host.
	other := newMesh(t, "other")
	other.clock.add(61 * 24 * time.Hour)
	if _, err := id.Renew(ctx, []string{other.addr}, m.clock.now); !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), "is of another mesh than this host (shop, id-of-shop): it shows the certificate of host host1 of mesh id-of-other") {
		t.Errorf("another mesh's gate: %v", err)
	}
	if err := m.gate.judge(other.id.Certificate()); err == nil || !strings.Contains(err.Error(), "host1 shows a certificate of another mesh (id-of-other) than this one (shop") {
		t.Errorf("another mesh's host: %v", err)
	}
	// No certificate at all.
	c2 := &caller{addr: m.addr, now: m.clock.now, ca: m.ca}
	if err := c2.call(ctx, "/v1/renew", renewBody{}, &certBody{}); !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), "none was shown") {
		t.Errorf("no certificate: %v", err)
	}
}
