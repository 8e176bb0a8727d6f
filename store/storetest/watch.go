package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"linkspan/store"
)

// patience bounds each wait; no test waits for it when things are well.
const patience = 10 * time.Second

func next(t testing.TB, ch <-chan store.Event) store.Event {
	t.Helper()
	select {
	case e, ok := <-ch:
		if !ok {
			t.Fatal("the watch ended")
		}
		return e
	case <-time.After(patience):
		t.Fatal("no event")
	}
	return store.Event{}
}

func drained(t testing.TB, ch <-chan store.Event) (n int) {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case _, ok := <-ch:
			if !ok {
				return n
			}
			n++
		case <-limit:
			t.Fatal("the watch does not end")
		}
	}
}

func begin(t testing.TB, s store.Store, prefix string, rev int64) (<-chan store.Event, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ch, err := s.Watch(ctx, prefix, rev)
	if err != nil {
		t.Fatalf("Watch(%q, %d): %v", prefix, rev, err)
	}
	return ch, cancel
}

func now(t testing.TB, s store.Store) int64 {
	t.Helper()
	_, rev, err := s.List(context.Background(), "none such")
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func watch(t *testing.T, s store.Store) {
	start := now(t, s)
	ch, cancel := begin(t, s, "", start)
	r1 := commit(t, s, put("a", "1"), put("b", ""))
	r2 := commit(t, s, del("a"))
	commit(t, s, del("never was"))
	if _, err := s.Commit(t.Context(), guarded(put("a", "x"), 99)); !errors.Is(err, store.ErrCompare) {
		t.Fatal(err)
	}
	r3 := commit(t, s, put("a", "2"))
	want := []store.Event{
		{Key: "a", Value: []byte("1"), Rev: r1},
		{Key: "b", Value: []byte{}, Rev: r1},
		{Key: "a", Rev: r2},
		{Key: "a", Value: []byte("2"), Rev: r3},
	}
	same := func(ch <-chan store.Event, want []store.Event) {
		t.Helper()
		for _, w := range want {
			e := next(t, ch)
			if e.Key != w.Key || string(e.Value) != string(w.Value) || (e.Value == nil) != (w.Value == nil) || e.Rev != w.Rev {
				t.Fatalf("event %+v, want %+v", e, w)
			}
		}
	}
	same(ch, want)
	late, _ := begin(t, s, "", start)
	same(late, want)
	later, _ := begin(t, s, "", r2)
	same(later, want[3:])

	cancel()
	drained(t, ch)
	commit(t, s, put("z", "1"))
	if e := next(t, later); e.Key != "z" {
		t.Fatalf("event %+v", e)
	}
}

func watchPrefix(t *testing.T, s store.Store) {
	start := now(t, s)
	ch, _ := begin(t, s, "net/", start)
	commit(t, s, put("nets", "x"), put("net/a", "1"), put("sandboxes/1", "x"))
	commit(t, s, put("net", "x"))
	commit(t, s, del("net/a"))
	if e := next(t, ch); e.Key != "net/a" || string(e.Value) != "1" {
		t.Fatalf("event %+v", e)
	}
	if e := next(t, ch); e.Key != "net/a" || e.Value != nil {
		t.Fatalf("event %+v", e)
	}
}

// watchFromList: followers that list, then watch from that revision, while many
// write, end with the same content as the store, having seen each change once.
func watchFromList(t *testing.T, s store.Store) {
	const writers, each, followers = 4, 40, 4
	var work, follow sync.WaitGroup
	done := make(chan struct{})
	for f := range followers {
		follow.Go(func() {
			time.Sleep(time.Duration(f) * 3 * time.Millisecond)
			entries, rev, err := s.List(context.Background(), "w/")
			if err != nil {
				t.Errorf("List: %v", err)
				return
			}
			have := map[string]string{}
			for _, e := range entries {
				if e.Rev > rev {
					t.Errorf("List at revision %d has %+v", rev, e)
				}
				have[e.Key] = string(e.Value)
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			ch, err := s.Watch(ctx, "w/", rev)
			if err != nil {
				t.Errorf("Watch: %v", err)
				return
			}
			last := store.Event{Rev: rev}
			if _, over := have["w/end"]; over {
				ch = nil // this follower came after all writers
			}
			for ch != nil {
				e, ok := <-ch
				if !ok {
					t.Error("the watch ended")
					return
				}
				if e.Rev <= rev || e.Rev < last.Rev || (e.Rev == last.Rev && e.Key == last.Key) {
					t.Errorf("event %+v after %+v, from revision %d", e, last, rev)
					return
				}
				last = e
				if e.Key == "w/end" {
					break
				}
				// Writers count up: a gap or a repetition shows.
				var was, is int
				_, _ = fmt.Sscan(have[e.Key], &was)
				_, _ = fmt.Sscan(string(e.Value), &is)
				if is != was+1 {
					t.Errorf("%s went from %d to %d", e.Key, was, is)
				}
				have[e.Key] = string(e.Value)
			}
			for w := range writers {
				if k := fmt.Sprint("w/", w); have[k] != fmt.Sprint(each) {
					t.Errorf("follower %d ends with %s = %s", f, k, have[k])
				}
			}
		})
	}
	for w := range writers {
		work.Go(func() {
			for i := range each {
				commit(t, s, put(fmt.Sprint("w/", w), fmt.Sprint(i+1)), put(fmt.Sprint("other/", w), "x"))
			}
		})
	}
	work.Wait()
	commit(t, s, put("w/end", ""))
	go func() { follow.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("a follower did not reach the end")
	}
}

// watchCompacted: who asks for what is no longer known is told to list again,
// rather than left with a gap.
func (tr Traits) watchCompacted(t *testing.T, s store.Store) {
	start := now(t, s)
	var ops []store.Op
	for i := range 500 {
		ops = append(ops, put(fmt.Sprint("k", i), "x"))
	}
	for range 10 {
		tr.fill(t, s, ops)
	}
	if tr.Compact != nil {
		tr.Compact(t, s)
	}
	if _, err := s.Watch(t.Context(), "", start); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("Watch: %v", err)
	}
	if _, err := s.Watch(t.Context(), "other/", start); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("Watch of another prefix: %v", err)
	}
	ch, _ := begin(t, s, "", now(t, s))
	commit(t, s, put("a", "1"))
	if e := next(t, ch); e.Key != "a" {
		t.Errorf("event %+v", e)
	}
}

// slowWatch: a reader that sleeps is neither waited for nor given a gap.
func (tr Traits) slowWatch(t *testing.T, s store.Store) {
	ch, _ := begin(t, s, "", now(t, s))
	first := commit(t, s, put("first", "x"))
	var ops []store.Op
	for i := range 500 {
		ops = append(ops, put(fmt.Sprint("k", i), "x"))
	}
	for range 10 {
		tr.fill(t, s, ops)
	}
	last, n := first, 0
	limit := time.After(patience)
	for {
		select {
		case e, ok := <-ch:
			if !ok {
				return // told to list again, perhaps before its first event
			}
			if e.Rev > last+1 {
				t.Fatalf("a gap: revision %d after %d", e.Rev, last)
			}
			last = e.Rev
			if n++; n == 5001 {
				return // a store that buffered all of it is as good
			}
		case <-limit:
			t.Fatal("the watch neither goes on nor ends")
		}
	}
}
