package storetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// RunLeaser holds a store that is a [store.Leaser] to its contract. ttl is a short one
// that the store can keep.
func RunLeaser(t *testing.T, ttl time.Duration, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, store.Store, store.Leaser, time.Duration)
	}{
		{"held while its context lasts", held},
		{"renewed beyond its ttl", renewed},
		{"conditional", holdGuarded},
		{"lost when deleted", lostDeleted},
		{"lost when overwritten", lostOverwritten},
		{"bad holds", badHolds},
		{"many at once", manyHolds},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			l, ok := s.(store.Leaser)
			if !ok {
				t.Fatalf("%T is no store.Leaser", s)
			}
			c.test(t, s, l, ttl)
		})
	}
}

func hold(t testing.TB, l store.Leaser, op store.Op, ttl time.Duration) (lost <-chan struct{}, end context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	lost, err := l.Hold(ctx, op, ttl)
	if err != nil {
		t.Fatalf("Hold(%q): %v", op.Key, err)
	}
	return lost, cancel
}

// soon waits until a key is there, or is not.
func soon(t testing.TB, s store.Store, key string, there bool) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < patience; time.Sleep(10 * time.Millisecond) {
		if _, ok := get(t, s, key); ok == there {
			return
		}
	}
	t.Fatalf("%s: there %v, want %v", key, !there, there)
}

func isLost(t testing.TB, lost <-chan struct{}, want bool) {
	t.Helper()
	limit := 200 * time.Millisecond
	if want {
		limit = patience
	}
	select {
	case <-lost:
		if !want {
			t.Fatal("said to be lost")
		}
	case <-time.After(limit):
		if want {
			t.Fatal("not said to be lost")
		}
	}
}

func held(t *testing.T, s store.Store, l store.Leaser, ttl time.Duration) {
	ch, _ := begin(t, s, "", now(t, s))
	lost, end := hold(t, l, put("alive/a", "1"), ttl)
	if e, ok := get(t, s, "alive/a"); !ok || string(e.Value) != "1" || e.Rev == 0 {
		t.Fatalf("the held key is %+v, %v", e, ok)
	}
	if e := next(t, ch); e.Key != "alive/a" || string(e.Value) != "1" {
		t.Fatalf("event %+v", e)
	}
	end()
	if e := next(t, ch); e.Key != "alive/a" || e.Value != nil {
		t.Fatalf("event %+v", e)
	}
	if _, ok := get(t, s, "alive/a"); ok {
		t.Error("still there")
	}
	isLost(t, lost, false) // its own end is no loss
}

func renewed(t *testing.T, s store.Store, l store.Leaser, ttl time.Duration) {
	lost, end := hold(t, l, put("alive/a", "1"), ttl)
	e, _ := get(t, s, "alive/a")
	select {
	case <-lost:
		t.Fatal("lost")
	case <-time.After(ttl * 5 / 2):
	}
	if again, ok := get(t, s, "alive/a"); !ok || again.Rev != e.Rev {
		t.Fatalf("after the ttl: %+v, %v; a renewal is no write", again, ok)
	}
	end()
	soon(t, s, "alive/a", false)
}

func holdGuarded(t *testing.T, s store.Store, l store.Leaser, ttl time.Duration) {
	commit(t, s, put("alive/a", "other"))
	if _, err := l.Hold(t.Context(), guarded(put("alive/a", "1"), 0), ttl); !errors.Is(err, store.ErrCompare) {
		t.Fatalf("Hold: %v", err)
	}
	e, ok := get(t, s, "alive/a")
	if !ok || string(e.Value) != "other" {
		t.Fatalf("a refused Hold left %+v, %v", e, ok)
	}
	_, end := hold(t, l, guarded(put("alive/a", "1"), e.Rev), ttl)
	if _, err := l.Hold(t.Context(), guarded(put("alive/a", "2"), 0), ttl); !errors.Is(err, store.ErrCompare) {
		t.Fatalf("Hold of a held key: %v", err)
	}
	end()
	soon(t, s, "alive/a", false)
	_, end = hold(t, l, guarded(put("alive/a", "3"), 0), ttl)
	end()
	soon(t, s, "alive/a", false)
}

func lostDeleted(t *testing.T, s store.Store, l store.Leaser, ttl time.Duration) {
	lost, _ := hold(t, l, put("alive/a", "1"), ttl)
	other, _ := hold(t, l, put("alive/b", "1"), ttl)
	commit(t, s, del("alive/a"))
	isLost(t, lost, true)
	isLost(t, other, false)
	// Hold again, as the contract says.
	_, end := hold(t, l, guarded(put("alive/a", "2"), 0), ttl)
	if e, _ := get(t, s, "alive/a"); string(e.Value) != "2" {
		t.Fatalf("held again: %+v", e)
	}
	end()
	soon(t, s, "alive/a", false)
}

func lostOverwritten(t *testing.T, s store.Store, l store.Leaser, ttl time.Duration) {
	lost, end := hold(t, l, put("alive/a", "1"), ttl)
	commit(t, s, put("alive/a", "of another"))
	isLost(t, lost, true)
	end()
	time.Sleep(50 * time.Millisecond)
	if e, ok := get(t, s, "alive/a"); !ok || string(e.Value) != "of another" {
		t.Fatalf("the other's key is %+v, %v", e, ok)
	}
	// Nor does the first holder's end take a second holder's key.
	first, endFirst := hold(t, l, put("alive/b", "1"), ttl)
	_, endSecond := hold(t, l, put("alive/b", "2"), ttl)
	isLost(t, first, true)
	endFirst()
	time.Sleep(50 * time.Millisecond)
	if e, ok := get(t, s, "alive/b"); !ok || string(e.Value) != "2" {
		t.Fatalf("the second holder's key is %+v, %v", e, ok)
	}
	endSecond()
	soon(t, s, "alive/b", false)
}

func badHolds(t *testing.T, s store.Store, l store.Leaser, ttl time.Duration) {
	for name, op := range map[string]store.Op{"no key": put("", "x"), "no value": del("a")} {
		if _, err := l.Hold(t.Context(), op, ttl); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Hold(ctx, put("a", "x"), ttl); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
	if got := keys(t, s, ""); got != nil {
		t.Errorf("something was written: %q", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Hold(t.Context(), put("a", "x"), ttl); !errors.Is(err, store.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func manyHolds(t *testing.T, s store.Store, l store.Leaser, ttl time.Duration) {
	var ends []context.CancelFunc
	for i := range 30 {
		_, end := hold(t, l, put("alive/"+string(rune('a'+i)), "1"), ttl)
		ends = append(ends, end)
	}
	if got := len(keys(t, s, "alive/")); got != 30 {
		t.Fatalf("%d of 30 keys", got)
	}
	for _, end := range ends[:15] {
		end()
	}
	for i := range 15 {
		soon(t, s, "alive/"+string(rune('a'+i)), false)
	}
	if got := len(keys(t, s, "alive/")); got != 15 {
		t.Fatalf("%d of 15 keys", got)
	}
}
