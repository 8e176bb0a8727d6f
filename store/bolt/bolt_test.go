package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/bbolt"

	"linkspan/cnm"
	"linkspan/store"
	"linkspan/store/storetest"
)

func open(t testing.TB, path string, o Options) *Store {
	t.Helper()
	if o.CopyEvery == 0 {
		o.CopyEvery = -1
	}
	s, err := Open(path, o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(key, value string) store.Op { return store.Op{Key: key, Value: []byte(value)} }

func commit(t testing.TB, s *Store, ops ...store.Op) int64 {
	t.Helper()
	rev, err := s.Commit(context.Background(), ops...)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return rev
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, filepath.Join(t.TempDir(), "state.db"), Options{})
	})
}

func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "er", "state.db")
	s := open(t, path, Options{})
	commit(t, s, put("a", "1"), put("b", "1"))
	r2 := commit(t, s, put("a", "2"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("the second Close: %v", err)
	}

	s = open(t, path, Options{})
	entries, rev, err := s.List(t.Context(), "")
	if err != nil || rev != r2 || len(entries) != 2 {
		t.Fatalf("List = %v, %d, %v", entries, rev, err)
	}
	if e := entries[0]; e.Key != "a" || string(e.Value) != "2" || e.Rev != r2 {
		t.Errorf("a = %+v", e)
	}
	if _, err := s.Watch(t.Context(), "", r2-1); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("a watch from before the restart: %v", err)
	}
	ch, err := s.Watch(t.Context(), "", rev)
	if err != nil {
		t.Fatal(err)
	}
	r3 := commit(t, s, store.Op{Key: "a", Guard: true, IfRev: r2})
	if r3 <= r2 {
		t.Errorf("revision %d after %d", r3, r2)
	}
	if e := <-ch; e.Key != "a" || e.Value != nil || e.Rev != r3 {
		t.Errorf("event %+v", e)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestGroup: commits that wait together share a transaction, and each gets its
// own answer.
func TestGroup(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s := open(t, filepath.Join(t.TempDir(), "state.db"), Options{Hook: func(p string) {
		if p == "store.first.before" {
			once.Do(func() { close(entered); <-leave })
		}
	}})
	var wg sync.WaitGroup
	wg.Go(func() { commit(t, s, put("first/x", "1")) })
	<-entered
	const n = 50
	revs, errs := make([]int64, n), make([]error, n)
	for i := range n {
		wg.Go(func() {
			// Each second one wants to create the same key.
			key := fmt.Sprint("k", i)
			if i%2 == 0 {
				key = "same"
			}
			revs[i], errs[i] = s.Commit(context.Background(), store.Op{Key: key, Value: []byte("x"), Guard: true})
		})
	}
	for {
		s.mu.Lock()
		waiting := len(s.queue)
		s.mu.Unlock()
		if waiting == n {
			break
		}
	}
	// bbolt's transaction id is the number of transactions ever committed.
	txid := func() (id int) {
		_ = s.db.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil })
		return id
	}
	before := txid()
	close(leave)
	wg.Wait()
	if got := txid() - before; got != 2 {
		t.Errorf("%d transactions for the first commit and %d that waited, want 2", got, n)
	}
	won := 0
	var seen []int64
	for i := range n {
		switch {
		case errs[i] == nil:
			seen = append(seen, revs[i])
			if i%2 == 0 {
				won++
			}
		case i%2 == 1 || !errors.Is(errs[i], store.ErrCompare) || revs[i] != 0:
			t.Errorf("commit %d: %d, %v", i, revs[i], errs[i])
		}
	}
	if won != 1 {
		t.Errorf("%d created the same key", won)
	}
	slices.Sort(seen)
	for i, r := range seen {
		if r != int64(i+2) {
			t.Fatalf("revisions %v", seen)
		}
	}
}

func TestTakeBack(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := open(t, filepath.Join(t.TempDir(), "state.db"), Options{Hook: func(p string) {
		if p == "store.first.before" {
			close(entered)
			<-leave
		}
	}})
	var wg sync.WaitGroup
	wg.Go(func() { commit(t, s, put("first/x", "1")) })
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		if _, err := s.Commit(ctx, put("second", "1")); !errors.Is(err, context.Canceled) {
			t.Errorf("Commit: %v", err)
		}
	})
	for {
		s.mu.Lock()
		waiting := len(s.queue)
		s.mu.Unlock()
		if waiting == 1 {
			break
		}
	}
	cancel()
	for {
		s.mu.Lock()
		waiting := len(s.queue)
		s.mu.Unlock()
		if waiting == 0 {
			break
		}
	}
	close(leave)
	wg.Wait()
	if _, ok, err := s.Get(t.Context(), "second"); ok || err != nil {
		t.Errorf("second: %v, %v", ok, err)
	}
}

func TestHookOrder(t *testing.T) {
	var points []string
	var s *Store
	s = open(t, filepath.Join(t.TempDir(), "state.db"), Options{Hook: func(p string) {
		_, ok, err := s.Get(context.Background(), "sandboxes/1")
		points = append(points, fmt.Sprint(p, " ", ok, " ", err))
	}})
	commit(t, s, put("sandboxes/1", "x"), put("names/a", "x"))
	_, _ = s.Commit(t.Context(), store.Op{Key: "sandboxes/1", Guard: true})
	commit(t, s)
	want := []string{"store.sandboxes.before false <nil>", "store.sandboxes.after true <nil>", "store.sandboxes.before true <nil>"}
	if !slices.Equal(points, want) {
		t.Errorf("points %q, want %q", points, want)
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	s := open(t, path, Options{})
	_, err := Open(path, Options{})
	if !errors.Is(err, cnm.ErrConflict) {
		t.Fatalf("Open: %v", err)
	}
	comm, _ := os.ReadFile("/proc/self/comm")
	want := fmt.Sprintf("data root %s is used by process %d (%s); ", dir, os.Getpid(), strings.TrimSpace(string(comm)))
	if !strings.HasPrefix(err.Error(), want) {
		t.Errorf("the error is\n%q, want\n%q…", err, want)
	}
	commit(t, s, put("a", "1")) // the holder is not disturbed
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path, Options{})
}
