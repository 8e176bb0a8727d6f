package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"linkspan/store"
)

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
