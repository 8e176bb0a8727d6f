package network

import (
	"testing"
	"time"

	"linkspan/internal/lab"
	"linkspan/store"
)

// dies runs f in a daemon that is killed at the step-th point of the kernel, once
// its commit was written or, where f does not wait for the disk, never will be.
// Another daemon comes up after it. done says that f had no such point any more.
func (w *world) dies(t *testing.T, step int, written bool, f func() error) (done bool) {
	t.Helper()
	type killed struct{}
	from, count := w.store.tried.Load(), 0
	if !written {
		w.store.breaks(func(store.Op) error { return errBoom })
	}
	w.kernel.Hook = func(string) {
		if count++; count != step {
			return
		}
		for end := time.Now().Add(time.Minute); w.store.tried.Load() == from; time.Sleep(50 * time.Microsecond) {
			if time.Now().After(end) {
				t.Error("nothing is committed")
				break
			}
		}
		panic(killed{})
	}
	done = func() (done bool) {
		defer func() {
			if p := recover(); p != nil {
				if _, ours := p.(killed); !ours {
					panic(p)
				}
			}
		}()
		if err := f(); (err == nil) != written && count < step {
			t.Errorf("written %v: %v", written, err)
		}
		return true
	}()
	w.kernel.Hook = nil
	w.store.breaks(nil)
	w.restart()
	return done
}

// settled checks that a reconciliation finds nothing left to do.
func (w *world) settled(t *testing.T, what ...any) {
	t.Helper()
	before := w.things()
	if r, err := w.Reconcile(t.Context(), false); err != nil || len(r.Failures) > 0 || w.things() != before {
		t.Errorf("%v: not settled: %v %+v\n%s", what, err, r, lab.Differ(before, w.things()))
	}
}

// The daemon dies while a network is made: afterwards it is there, whole, or not at
// all, as the store says.
func TestCreateKilled(t *testing.T) {
	for _, written := range []bool{true, false} {
		for step := 1; ; step++ {
			w := newWorld(t)
			before := w.everything()
			done := w.dies(t, step, written, func() error {
				_, _, err := w.CreateNetwork(t.Context(), NetworkWish{Name: "shop"})
				return err
			})
			if _, err := w.Network("shop"); (err == nil) != written {
				t.Fatalf("step %d, written %v: %v", step, written, err)
			}
			w.settled(t, step, written)
			if d := lab.Differ(before, w.everything()); !written && d != "" {
				t.Errorf("step %d: not as before:\n%s", step, d)
			}
			if !written {
				w.network("shop", "")
			}
			w.join(on("a", "shop"))
			w.leave("a", false)
			w.remove("shop")
			if done {
				if step < 8 {
					t.Errorf("only %d points", step)
				}
				break
			}
		}
	}
}

// The daemon dies while a sandbox is made: the same.
func TestJoinKilled(t *testing.T) {
	for _, written := range []bool{true, false} {
		for step := 1; ; step++ {
			w := newWorld(t)
			w.network("shop", "172.18.0.0/16")
			before := w.everything()
			r := on("a", "shop", "8080:80")
			done := w.dies(t, step, written, func() error {
				_, err := w.Join(t.Context(), r)
				return err
			})
			if _, ok := w.Sandbox("a"); ok != written {
				t.Fatalf("step %d, written %v: %v", step, written, ok)
			}
			w.settled(t, step, written)
			if d := lab.Differ(before, w.everything()); !written && d != "" {
				t.Errorf("step %d: not as before:\n%s", step, d)
			}
			w.join(r)
			w.leave("a", false)
			w.remove("shop")
			if done {
				if step < 10 {
					t.Errorf("only %d points", step)
				}
				break
			}
		}
	}
}
