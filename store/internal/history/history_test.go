package history

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"linkspan/store"
)

func event(rev int64, key string) store.Event {
	return store.Event{Key: key, Value: []byte(fmt.Sprint(rev)), Rev: rev}
}

// read takes n events, or fewer when the channel closes.
func read(t *testing.T, ch <-chan store.Event, n int) (revs []int64, open bool) {
	t.Helper()
	for range n {
		select {
		case e, ok := <-ch:
			if !ok {
				return revs, false
			}
			revs = append(revs, e.Rev)
		case <-time.After(5 * time.Second):
			t.Fatalf("no event after %v", revs)
		}
	}
	return revs, true
}

func want(t *testing.T, got []int64, want ...int64) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("revisions %v, want %v", got, want)
	}
}

func TestFloor(t *testing.T) {
	l := New(4, 10)
	if _, err := l.Watch(t.Context(), "", 9); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("before the start: %v", err)
	}
	for rev := int64(11); rev <= 14; rev++ {
		l.Append([]store.Event{event(rev, "a")})
	}
	ch, err := l.Watch(t.Context(), "", 10)
	if err != nil {
		t.Fatal(err)
	}
	revs, _ := read(t, ch, 4)
	want(t, revs, 11, 12, 13, 14)
	// A fifth pushes the first out: from its revision on nothing is missed.
	l.Append([]store.Event{event(15, "a")})
	if _, err := l.Watch(t.Context(), "", 10); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("from 10: %v", err)
	}
	ch, err = l.Watch(t.Context(), "", 11)
	if err != nil {
		t.Fatal(err)
	}
	revs, _ = read(t, ch, 4)
	want(t, revs, 12, 13, 14, 15)
}

// TestHalfACommit: a commit of which one event was pushed out cannot be watched
// from before it, not even its other half.
func TestHalfACommit(t *testing.T) {
	l := New(3, 0)
	l.Append([]store.Event{event(1, "a"), event(1, "b")})
	l.Append([]store.Event{event(2, "a"), event(2, "b")})
	if _, err := l.Watch(t.Context(), "", 0); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("from 0: %v", err)
	}
	ch, err := l.Watch(t.Context(), "", 1)
	if err != nil {
		t.Fatal(err)
	}
	revs, _ := read(t, ch, 2)
	want(t, revs, 2, 2)
}

// TestAhead: List can know a revision that is not appended yet; its events do
// not come a second time.
func TestAhead(t *testing.T) {
	l := New(8, 0)
	ch, err := l.Watch(t.Context(), "", 2)
	if err != nil {
		t.Fatal(err)
	}
	l.Append([]store.Event{event(1, "a")})
	l.Append([]store.Event{event(2, "a")})
	l.Append([]store.Event{event(3, "a")})
	revs, _ := read(t, ch, 1)
	want(t, revs, 3)
}

func TestPrefix(t *testing.T) {
	l := New(300, 0)
	ch, err := l.Watch(t.Context(), "b/", 0)
	if err != nil {
		t.Fatal(err)
	}
	for rev := int64(1); rev <= 200; rev++ { // more than one piece of serve
		key := "a"
		if rev%100 == 0 {
			key = "b/x"
		}
		l.Append([]store.Event{event(rev, key)})
	}
	revs, _ := read(t, ch, 2)
	want(t, revs, 100, 200)
}

func TestOverrun(t *testing.T) {
	l := New(100, 0)
	ch, err := l.Watch(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for rev := int64(1); rev <= 1000; rev++ {
		l.Append([]store.Event{event(rev, "a")})
	}
	revs, open := read(t, ch, 1000)
	for i, r := range revs {
		if r != int64(i+1) {
			t.Fatalf("a gap: %v", revs)
		}
	}
	if open && len(revs) != 1000 {
		t.Errorf("%d events and still open", len(revs))
	}
}

func TestEnds(t *testing.T) {
	l := New(4, 0)
	ctx, cancel := context.WithCancel(t.Context())
	one, err := l.Watch(ctx, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	two, err := l.Watch(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, open := read(t, one, 1); open {
		t.Error("open after its context ended")
	}
	if _, err := l.Watch(ctx, "", 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Watch: %v", err)
	}
	l.Append(nil)
	l.Append([]store.Event{event(1, "a")})
	revs, _ := read(t, two, 1)
	want(t, revs, 1)
	l.Close()
	l.Close()
	if _, open := read(t, two, 1); open {
		t.Error("open after Close")
	}
	l.Append([]store.Event{event(2, "a")})
	if _, err := l.Watch(t.Context(), "", 0); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Watch: %v", err)
	}
}
