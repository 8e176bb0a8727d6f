// Package storetest is the suite that every store passes: what the engine
// relies on, written once.
package storetest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"linkspan/store"
)

// Traits are what one kind of store does otherwise than the others. The zero Traits are
// those of a store that takes commits of any size and keeps at least 256 and at most
// 4,096 events.
type Traits struct {
	// MaxOps and MaxBytes are the limits of one commit; 0: none. What is larger must be
	// refused as invalid.
	MaxOps, MaxBytes int
	// Compact makes the store forget all events up to now.
	Compact func(t *testing.T, s store.Store)
}

// fill commits ops, as few commits as the store takes them in.
func (tr Traits) fill(t testing.TB, s store.Store, ops []store.Op) {
	t.Helper()
	most := len(ops)
	if tr.MaxOps > 0 {
		most = min(most, tr.MaxOps)
	}
	for some := range slices.Chunk(ops, most) {
		commit(t, s, some...)
	}
}

// Run holds a store to its contract. open makes an empty store; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) store.Store) { RunWith(t, Traits{}, open) }

// RunWith is Run for a store with traits.
func RunWith(t *testing.T, tr Traits, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, store.Store)
	}{
		{"empty", empty},
		{"put get delete", putGetDelete},
		{"values are copies", valuesAreCopies},
		{"list by prefix in order", list},
		{"revisions grow", revisions},
		{"compare and set", compareAndSet},
		{"all or none", allOrNone},
		{"conditions that write nothing", keep},
		{"bad operations", badOps},
		{"too much at once", tr.tooMuch},
		{"big values", tr.bigValues},
		{"counter raced by many", counterRace},
		{"create raced by many", createRace},
		{"transfers keep the sum", transfers},
		{"watch sees each change once", watch},
		{"watch by prefix", watchPrefix},
		{"watch from a list misses nothing", watchFromList},
		{"watch of what is gone", tr.watchCompacted},
		{"slow watch ends", tr.slowWatch},
		{"contexts", contexts},
		{"closed", closed},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			c.test(t, s)
		})
	}
}

func put(key, value string) store.Op { return store.Op{Key: key, Value: []byte(value)} }
func del(key string) store.Op        { return store.Op{Key: key} }

func guarded(op store.Op, rev int64) store.Op {
	op.Guard, op.IfRev = true, rev
	return op
}

func commit(t testing.TB, s store.Store, ops ...store.Op) int64 {
	t.Helper()
	rev, err := s.Commit(context.Background(), ops...)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return rev
}

func get(t testing.TB, s store.Store, key string) (store.Entry, bool) {
	t.Helper()
	e, ok, err := s.Get(context.Background(), key)
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	if ok && (e.Key != key || e.Rev < 1) {
		t.Fatalf("Get(%q) = %+v", key, e)
	}
	return e, ok
}

func keys(t testing.TB, s store.Store, prefix string) []string {
	t.Helper()
	entries, _, err := s.List(context.Background(), prefix)
	if err != nil {
		t.Fatalf("List(%q): %v", prefix, err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Key)
	}
	return out
}

func empty(t *testing.T, s store.Store) {
	if _, ok := get(t, s, "a"); ok {
		t.Error("a key in an empty store")
	}
	entries, rev, err := s.List(t.Context(), "")
	if err != nil || len(entries) != 0 || rev < 0 {
		t.Errorf("List = %v, %d, %v", entries, rev, err)
	}
	if got := commit(t, s); got != rev {
		t.Errorf("a commit of nothing gives revision %d, want %d", got, rev)
	}
}
