// Package storetest is the suite that every store passes: what the engine
// relies on, written once.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"linkspan/cnm"
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

func putGetDelete(t *testing.T, s store.Store) {
	r1 := commit(t, s, put("a", "1"), put("b", ""))
	if e, ok := get(t, s, "a"); !ok || string(e.Value) != "1" || e.Rev != r1 {
		t.Errorf("a = %+v, %v", e, ok)
	}
	if e, ok := get(t, s, "b"); !ok || e.Value == nil || len(e.Value) != 0 {
		t.Errorf("an empty value comes back as %+v, %v", e, ok)
	}
	r2 := commit(t, s, put("a", "2"))
	if e, _ := get(t, s, "a"); string(e.Value) != "2" || e.Rev != r2 {
		t.Errorf("a = %+v", e)
	}
	commit(t, s, del("a"))
	if _, ok := get(t, s, "a"); ok {
		t.Error("a is still there")
	}
	r3 := commit(t, s, put("a", "3"))
	if e, _ := get(t, s, "a"); string(e.Value) != "3" || e.Rev != r3 {
		t.Errorf("a = %+v", e)
	}
}

func valuesAreCopies(t *testing.T, s store.Store) {
	v := []byte("one")
	commit(t, s, store.Op{Key: "a", Value: v})
	copy(v, "XXX")
	e, _ := get(t, s, "a")
	if string(e.Value) != "one" {
		t.Fatalf("the store kept the caller's slice: %q", e.Value)
	}
	copy(e.Value, "YYY")
	list, _, _ := s.List(t.Context(), "a")
	copy(list[0].Value, "ZZZ")
	if e, _ := get(t, s, "a"); string(e.Value) != "one" {
		t.Fatalf("the store gave out its own slice: %q", e.Value)
	}
}

func list(t *testing.T, s store.Store) {
	for _, k := range []string{"net/b", "net/a", "nets", "net", "ne", "net/\xff", "sandboxes/1", "net/a/x", "\x00", "ünet/"} {
		commit(t, s, put(k, k))
	}
	for prefix, want := range map[string][]string{
		"net/":  {"net/a", "net/a/x", "net/b", "net/\xff"},
		"net":   {"net", "net/a", "net/a/x", "net/b", "net/\xff", "nets"},
		"net/a": {"net/a", "net/a/x"},
		"x":     nil,
		"":      {"\x00", "ne", "net", "net/a", "net/a/x", "net/b", "net/\xff", "nets", "sandboxes/1", "ünet/"},
	} {
		if got := keys(t, s, prefix); !slices.Equal(got, want) {
			t.Errorf("List(%q) = %q, want %q", prefix, got, want)
		}
	}
}

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

func (tr Traits) bigValues(t *testing.T, s store.Store) {
	for _, n := range []int{1, 4095, 4096, 4097, 1 << 16, 1<<20 + 1} {
		if tr.MaxBytes > 0 && n > tr.MaxBytes {
			continue
		}
		v := bytes.Repeat([]byte{byte(n), 7}, n/2+1)
		commit(t, s, store.Op{Key: "big", Value: v}, put("small", "x"))
		if e, _ := get(t, s, "big"); !bytes.Equal(e.Value, v) {
			t.Errorf("%d bytes do not come back", len(v))
		}
	}
	var ops []store.Op
	for i := range 500 {
		ops = append(ops, store.Op{Key: fmt.Sprintf("many/%04d", i), Value: bytes.Repeat([]byte{'m'}, 1000)})
	}
	tr.fill(t, s, ops)
	if got := len(keys(t, s, "many/")); got != 500 {
		t.Errorf("%d of 500 keys", got)
	}
}

// tooMuch: what is too large for one commit is refused whole; what just fits is taken.
func (tr Traits) tooMuch(t *testing.T, s store.Store) {
	if tr.MaxOps > 0 {
		var ops []store.Op
		for i := range tr.MaxOps + 1 {
			ops = append(ops, put(fmt.Sprint("k", i), "x"))
		}
		if _, err := s.Commit(t.Context(), ops...); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%d operations: %v", len(ops), err)
		}
		commit(t, s, ops[1:]...)
		if got := len(keys(t, s, "")); got != tr.MaxOps {
			t.Errorf("%d keys of %d", got, tr.MaxOps)
		}
	}
	if tr.MaxBytes > 0 {
		if _, err := s.Commit(t.Context(), put("big", strings.Repeat("x", tr.MaxBytes+1))); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%d bytes: %v", tr.MaxBytes+1, err)
		}
		if _, ok := get(t, s, "big"); ok {
			t.Error("it was written")
		}
	}
}

// counterRace: lost updates would show in the sum.
func counterRace(t *testing.T, s store.Store) {
	const workers, each = 8, 25
	var lost atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				for {
					e, _ := get(t, s, "n")
					var n int
					_, _ = fmt.Sscan(string(e.Value), &n)
					_, err := s.Commit(context.Background(), guarded(put("n", fmt.Sprint(n+1)), e.Rev))
					if err == nil {
						break
					}
					if !errors.Is(err, store.ErrCompare) {
						t.Errorf("Commit: %v", err)
						return
					}
					lost.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if e, _ := get(t, s, "n"); string(e.Value) != fmt.Sprint(workers*each) {
		t.Errorf("n = %s, want %d", e.Value, workers*each)
	}
	t.Logf("%d lost races", lost.Load())
}

// createRace: of many who create one key, one does.
func createRace(t *testing.T, s store.Store) {
	for i := range 20 {
		key := fmt.Sprint("lock", i)
		var won atomic.Int64
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				_, err := s.Commit(context.Background(), guarded(put(key, fmt.Sprint(w)), 0), put(fmt.Sprint("by/", i, "/", w), "x"))
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, store.ErrCompare):
					t.Errorf("Commit: %v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d creators won", won.Load())
		}
		if got := keys(t, s, fmt.Sprint("by/", i, "/")); len(got) != 1 {
			t.Fatalf("losers wrote: %q", got)
		}
	}
}

// transfers: no reader ever sees a commit's half.
func transfers(t *testing.T, s store.Store) {
	const total = 1000
	commit(t, s, put("acc/a", fmt.Sprint(total)), put("acc/b", "0"))
	read := func() (a, b store.Entry, na, nb int) {
		l, _, err := s.List(context.Background(), "acc/")
		if err != nil || len(l) != 2 {
			t.Errorf("List = %v, %v", l, err)
			return
		}
		_, _ = fmt.Sscan(string(l[0].Value), &na)
		_, _ = fmt.Sscan(string(l[1].Value), &nb)
		return l[0], l[1], na, nb
	}
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, _, na, nb := read(); na+nb != total {
					t.Errorf("%d + %d", na, nb)
					return
				}
			}
		})
	}
	for range 4 {
		writers.Go(func() {
			for range 25 {
				a, b, na, nb := read()
				_, err := s.Commit(context.Background(),
					guarded(put("acc/a", fmt.Sprint(na-1)), a.Rev), guarded(put("acc/b", fmt.Sprint(nb+1)), b.Rev))
				if err != nil && !errors.Is(err, store.ErrCompare) {
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}

func contexts(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Commit(ctx, put("a", "1")); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit: %v", err)
	}
	if _, _, err := s.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if _, _, err := s.List(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("List: %v", err)
	}
	if _, err := s.Watch(ctx, "", 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Watch: %v", err)
	}
	if _, ok := get(t, s, "a"); ok {
		t.Error("a was written")
	}
	// Whatever a commit whose context ends on its way answers is what is true.
	for i := range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
		key := fmt.Sprint("c", i)
		_, err := s.Commit(ctx, put(key, "x"))
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Commit: %v", err)
		}
		if _, ok := get(t, s, key); ok != (err == nil) {
			t.Errorf("%s: answered %v, written %v", key, err, ok)
		}
		cancel()
	}
}

func closed(t *testing.T, s store.Store) {
	commit(t, s, put("a", "1"))
	ch, err := s.Watch(t.Context(), "", 0)
	if err != nil && !errors.Is(err, store.ErrCompacted) {
		t.Fatal(err)
	}
	// Commits that run into the close are done or refused, and never hang.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				if _, err := s.Commit(context.Background(), put("b", fmt.Sprint(i))); err != nil {
					if !errors.Is(err, store.ErrClosed) {
						t.Errorf("Commit: %v", err)
					}
					return
				}
			}
		})
	}
	time.Sleep(5 * time.Millisecond)
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	wg.Wait()
	if ch != nil {
		drained(t, ch)
	}
	if _, err := s.Commit(t.Context(), put("a", "2")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Commit: %v", err)
	}
	if _, _, err := s.Get(t.Context(), "a"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Get: %v", err)
	}
	if _, _, err := s.List(t.Context(), ""); !errors.Is(err, store.ErrClosed) {
		t.Errorf("List: %v", err)
	}
	if _, err := s.Watch(t.Context(), "", 0); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Watch: %v", err)
	}
}
