package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"linkspan/cnm"
	"linkspan/internal/testmain"
	"linkspan/store"
	"linkspan/store/storetest"
)

// free are TCP ports of loopback that are free.
func free(n int) (out []int) {
	for range n {
		out = append(out, testmain.FreePort())
	}
	return out
}

func parse(t testing.TB, scheme string, port int) []url.URL {
	t.Helper()
	u, err := url.Parse(fmt.Sprintf("%s://127.0.0.1:%d", scheme, port))
	if err != nil {
		t.Fatal(err)
	}
	return []url.URL{*u}
}

// config is that of a cluster of n members, on loopback.
func config(t testing.TB, n int) []*embed.Config {
	t.Helper()
	ports := free(2 * n)
	initial, token := "", filepath.Base(t.TempDir())
	for i := range n {
		if i > 0 {
			initial += ","
		}
		initial += fmt.Sprintf("m%d=http://127.0.0.1:%d", i, ports[2*i])
	}
	var out []*embed.Config
	for i := range n {
		c := embed.NewConfig()
		c.Name, c.Dir = fmt.Sprint("m", i), filepath.Join(t.TempDir(), "etcd")
		c.InitialCluster, c.InitialClusterToken = initial, token
		c.ListenPeerUrls, c.AdvertisePeerUrls = parse(t, "http", ports[2*i]), parse(t, "http", ports[2*i])
		c.ListenClientUrls, c.AdvertiseClientUrls = parse(t, "http", ports[2*i+1]), parse(t, "http", ports[2*i+1])
		c.TickMs, c.ElectionMs = 50, 500
		c.UnsafeNoFsync = true // durability is not what is tested
		c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		out = append(out, c)
	}
	return out
}

// member is an etcd in this process. It can be closed twice, which etcd's own cannot.
type member struct {
	*embed.Etcd
	once sync.Once
}

func (m *member) Close() { m.once.Do(m.Etcd.Close) }

func start(t testing.TB, c *embed.Config) *member {
	t.Helper()
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatalf("etcd: %v", err)
	}
	m := &member{Etcd: e}
	t.Cleanup(m.Close)
	return m
}

func ready(t testing.TB, e *member) {
	t.Helper()
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(time.Minute):
		t.Fatal("etcd does not get ready")
	}
}

func clientURL(c *embed.Config) string { return c.AdvertiseClientUrls[0].Host }

// one starts a cluster of one member.
func one(t testing.TB) (*member, *embed.Config) {
	t.Helper()
	c := config(t, 1)[0]
	e := start(t, c)
	ready(t, e)
	return e, c
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(key, value string) store.Op { return store.Op{Key: key, Value: []byte(value)} }

func commit(t testing.TB, s store.Store, ops ...store.Op) int64 {
	t.Helper()
	rev, err := s.Commit(context.Background(), ops...)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return rev
}

// raw is etcd's own client, for what a store does not do.
func raw(t testing.TB, endpoint string, conf *tls.Config) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: conf, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// suite is what every etcd must pass: each store has a prefix of its own.
func suite(t *testing.T, endpoint string) {
	admin := raw(t, endpoint, nil)
	var n atomic.Int64
	run := fmt.Sprintf("/%d/", time.Now().UnixNano())
	openOne := func(t *testing.T) store.Store {
		return open(t, Options{Endpoints: []string{endpoint}, Prefix: fmt.Sprint(run, n.Add(1), "/")})
	}
	storetest.RunWith(t, storetest.Traits{
		MaxOps: MaxOps, MaxBytes: maxBytes,
		Compact: func(t *testing.T, s store.Store) {
			_, rev, err := s.List(t.Context(), "none such")
			if err == nil {
				_, err = admin.Compact(t.Context(), rev)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	}, openOne)
	storetest.RunLeaser(t, 2*time.Second, openOne)
}

func TestEmbedded(t *testing.T) {
	t.Parallel()
	_, c := one(t)
	suite(t, clientURL(c))
}

// TestNoPrefix: without a prefix the store is all of etcd.
func TestNoPrefix(t *testing.T) {
	t.Parallel()
	_, c := one(t)
	s := open(t, Options{Endpoints: []string{clientURL(c)}})
	ch, err := s.Watch(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	commit(t, s, put("a", "1"), put("z", "2"), put("\xff\xff", "3"))
	entries, _, err := s.List(t.Context(), "")
	if err != nil || len(entries) != 3 || entries[2].Key != "\xff\xff" {
		t.Fatalf("List: %+v, %v", entries, err)
	}
	if entries, _, err = s.List(t.Context(), "\xff"); err != nil || len(entries) != 1 {
		t.Fatalf("List of the last: %+v, %v", entries, err)
	}
	for _, want := range []string{"a", "z", "\xff\xff"} {
		if e := <-ch; e.Key != want {
			t.Fatalf("event %q, want %q", e.Key, want)
		}
	}
}

// TestPrefix: what is beside the prefix is neither seen nor told.
func TestPrefix(t *testing.T) {
	t.Parallel()
	_, c := one(t)
	a := open(t, Options{Endpoints: []string{clientURL(c)}, Prefix: "/a/"})
	b := open(t, Options{Endpoints: []string{"http://" + clientURL(c) + "/"}, Prefix: "/b/"})
	ch, err := a.Watch(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	commit(t, b, put("x", "b"))
	commit(t, a, put("x", "a"))
	if e := <-ch; e.Key != "x" || string(e.Value) != "a" {
		t.Fatalf("event %+v", e)
	}
	entries, _, err := a.List(t.Context(), "")
	if err != nil || len(entries) != 1 || string(entries[0].Value) != "a" {
		t.Fatalf("List: %+v, %v", entries, err)
	}
}

// TestPages: a long list is of one revision, although others write meanwhile.
func TestPages(t *testing.T) {
	t.Parallel()
	_, c := one(t)
	s := open(t, Options{Endpoints: []string{clientURL(c)}, Prefix: "/p/"})
	const n = 3*page + 7
	var ops []store.Op
	for i := range n {
		ops = append(ops, put(fmt.Sprintf("k/%06d", i), "0"))
		if len(ops) == MaxOps || i == n-1 {
			commit(t, s, ops...)
			ops = nil
		}
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			// The first and the last key always change together.
			_, _ = s.Commit(context.Background(), put("k/000000", fmt.Sprint(i)), put(fmt.Sprintf("k/%06d", n-1), fmt.Sprint(i)))
		}
	}()
	for range 10 {
		entries, rev, err := s.List(t.Context(), "k/")
		if err != nil || len(entries) != n {
			t.Fatalf("List: %d entries, %v", len(entries), err)
		}
		for i, e := range entries {
			if e.Key != fmt.Sprintf("k/%06d", i) || e.Rev > rev {
				t.Fatalf("entry %d is %s of %d, the list of %d", i, e.Key, e.Rev, rev)
			}
		}
		if first, last := entries[0], entries[n-1]; string(first.Value) != string(last.Value) {
			t.Fatalf("first %s, last %s: two revisions in one list", first.Value, last.Value)
		}
	}
	close(stop)
	<-done
}

func TestOpenWaitsForNoOne(t *testing.T) {
	t.Parallel()
	port := free(1)[0]
	begun := time.Now()
	s := open(t, Options{Endpoints: []string{fmt.Sprintf("127.0.0.1:%d", port)}, CallTimeout: 500 * time.Millisecond})
	if d := time.Since(begun); d > 30*time.Second {
		t.Errorf("Open took %v", d)
	}
	if h := s.Health(); h.OK || !h.Since.IsZero() || h.Err != nil {
		t.Errorf("before any call: %+v", h)
	}
	for name, do := range map[string]func() error{
		"Get":    func() error { _, _, err := s.Get(t.Context(), "a"); return err },
		"List":   func() error { _, _, err := s.List(t.Context(), ""); return err },
		"Watch":  func() error { _, err := s.Watch(t.Context(), "", 0); return err },
		"Commit": func() error { _, err := s.Commit(t.Context(), put("a", "1")); return err },
		"Hold":   func() error { _, err := s.Hold(t.Context(), put("a", "1"), time.Second); return err },
	} {
		begun := time.Now()
		err := do()
		if d := time.Since(begun); d > 30*time.Second {
			t.Errorf("%s took %v", name, d)
		}
		var away *AwayError
		if !errors.Is(err, cnm.ErrUnavailable) || !errors.As(err, &away) || errors.Is(err, store.ErrUnclear) || errors.Is(err, ErrCertificate) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if away.Members[0] != "connection refused" || away.Endpoints[0] != fmt.Sprintf("127.0.0.1:%d", port) {
			t.Errorf("%s: %+v", name, away)
		}
	}
	if h := s.Health(); h.OK || h.Since.IsZero() || h.Err == nil {
		t.Errorf("after: %+v", h)
	}
	_, _, err := s.Get(t.Context(), "a")
	t.Log(err)
}
