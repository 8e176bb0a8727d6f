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
