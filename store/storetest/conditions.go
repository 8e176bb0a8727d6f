package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/store"
)

func revisions(t *testing.T, s store.Store) {
	last := int64(0)
	for i := range 20 {
		rev := commit(t, s, put("a", fmt.Sprint(i)), put(fmt.Sprint("k", i), ""))
		if rev <= last {
			t.Fatalf("revision %d after %d", rev, last)
		}
		_, now, err := s.List(t.Context(), "zz")
		if err != nil || now != rev {
			t.Fatalf("List's revision is %d (%v) after a commit of %d", now, err, rev)
		}
		last = rev
	}
	if rev := commit(t, s, del("never was")); rev != last {
		t.Errorf("a delete of nothing gives %d, want %d", rev, last)
	}
}

func compareAndSet(t *testing.T, s store.Store) {
	ctx := t.Context()
	try := func(want error, op store.Op) int64 {
		t.Helper()
		rev, err := s.Commit(ctx, op)
		if !errors.Is(err, want) {
			t.Fatalf("%+v: %v, want %v", op, err, want)
		}
		if err != nil && rev != 0 {
			t.Fatalf("%+v failed with revision %d", op, rev)
		}
		return rev
	}
	try(store.ErrCompare, guarded(put("a", "x"), 1))
	try(store.ErrCompare, guarded(del("a"), 1))
	try(nil, guarded(del("a"), 0))
	r1 := try(nil, guarded(put("a", "1"), 0))
	try(store.ErrCompare, guarded(put("a", "x"), 0))
	try(store.ErrCompare, guarded(put("a", "x"), r1+1))
	r2 := try(nil, guarded(put("a", "2"), r1))
	try(store.ErrCompare, guarded(put("a", "x"), r1))
	try(store.ErrCompare, guarded(del("a"), r1))
	if e, _ := get(t, s, "a"); string(e.Value) != "2" {
		t.Fatalf("a = %q", e.Value)
	}
	try(nil, guarded(del("a"), r2))
	try(store.ErrCompare, guarded(put("a", "x"), r2))
	try(nil, guarded(put("a", "3"), 0))
}

func allOrNone(t *testing.T, s store.Store) {
	r := commit(t, s, put("a", "1"), put("b", "1"))
	for i := range 3 { // the failing condition is first, in the middle, last
		ops := []store.Op{put("new", "x"), guarded(put("a", "x"), r), del("b")}
		ops = slices.Insert(ops, i, guarded(put("c", "x"), 99))
		if _, err := s.Commit(t.Context(), ops...); !errors.Is(err, store.ErrCompare) {
			t.Fatalf("Commit: %v", err)
		}
	}
	if got := keys(t, s, ""); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("keys = %q", got)
	}
	if e, _ := get(t, s, "a"); string(e.Value) != "1" || e.Rev != r {
		t.Errorf("a = %+v", e)
	}
	r2 := commit(t, s, guarded(put("a", "2"), r), guarded(del("b"), r), guarded(put("c", "2"), 0))
	for _, k := range []string{"a", "c"} {
		if e, _ := get(t, s, k); e.Rev != r2 || string(e.Value) != "2" {
			t.Errorf("%s = %+v, want revision %d", k, e, r2)
		}
	}
}

// keep: an op can be a condition and nothing else.
func keep(t *testing.T, s store.Store) {
	r := commit(t, s, put("a", "1"))
	events, err := s.Watch(t.Context(), "a", r)
	if err != nil {
		t.Fatal(err)
	}
	kept := func(key string, rev int64) store.Op {
		return store.Op{Key: key, Guard: true, IfRev: rev, Keep: true}
	}
	commit(t, s, kept("a", r), put("b", "1"), kept("none", 0))
	if e, _ := get(t, s, "a"); e.Rev != r || string(e.Value) != "1" {
		t.Errorf("a condition wrote: a = %+v", e)
	}
	for _, op := range []store.Op{kept("a", r+1), kept("a", 0), kept("none", r)} {
		if _, err := s.Commit(t.Context(), put("b", "2"), op); !errors.Is(err, store.ErrCompare) {
			t.Errorf("%+v: %v", op, err)
		}
	}
	if e, _ := get(t, s, "b"); string(e.Value) != "1" {
		t.Errorf("b = %+v", e)
	}
	r2 := commit(t, s, put("a", "2"))
	if e := <-events; e.Rev != r2 || string(e.Value) != "2" {
		t.Errorf("a condition made an event: %+v", e)
	}
	if _, err := s.Commit(t.Context(), store.Op{Key: "a", Keep: true}); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("an operation that does nothing: %v", err)
	}
}

func badOps(t *testing.T, s store.Store) {
	many := []store.Op{put("k1", "")}
	for i := range 20 {
		many = append(many, put(fmt.Sprint("k", i), ""))
	}
	for name, ops := range map[string][]store.Op{
		"empty key":         {put("", "x")},
		"long key":          {put(strings.Repeat("k", store.MaxKey+1), "x")},
		"twice":             {put("a", "1"), put("b", "1"), del("a")},
		"twice, among many": many,
	} {
		if _, err := s.Commit(t.Context(), ops...); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := keys(t, s, ""); got != nil {
		t.Errorf("something was written: %q", got)
	}
	long := strings.Repeat("k", store.MaxKey)
	commit(t, s, put(long, "x"))
	if e, ok := get(t, s, long); !ok || string(e.Value) != "x" {
		t.Error("the longest key does not come back")
	}
}
