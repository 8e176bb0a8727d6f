package network

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// TestGlobalKilled: a daemon that is killed at any point of the kernel while a container
// comes on a global network, or leaves it, is followed by one that finds or makes whole
// what it should, and nothing else; the others hear of the truth.
func TestGlobalKilled(t *testing.T) {
	for what, do := range map[string]func(w *world) error{
		"join":  func(w *world) error { _, err := w.Join(w.t.Context(), named("c1")); return err },
		"leave": func(w *world) error { return w.Leave(w.t.Context(), "c1", false) },
		"peers": func(w *world) error { w.Sink().Peers(w.t.Context()); return nil },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { killedGlobally(t, what, do) })
		})
	}
}

func killedGlobally(t *testing.T, what string, do func(w *world) error) {
	for step := 1; ; step++ {
		x, a, b := pair(t)
		ma, mb := x.members[0], x.members[1]
		b.join(named("c3"))
		if what != "join" {
			a.join(named("c1"))
		}
		x.settle()
		if what == "peers" {
			ma.mtu.Store(9000)
			mb.routed.Store(true)
		}
		var mu sync.Mutex
		var armed atomic.Bool
		armed.Store(true)
		count, done := 0, false
		a.kernel.Hook = func(string) {
			mu.Lock()
			defer mu.Unlock()
			if count++; count == step && armed.Load() {
				panic(died{})
			}
		}
		done = dying(func() {
			if err := do(a); err != nil {
				t.Fatal(err)
			}
		})
		mu.Lock()
		done = done && count < step
		mu.Unlock()
		synctest.Wait() // what is being written is
		armed.Store(false)
		ma.back(a)
		a.SetMesh(t.Context(), ma)
		x.peers()
		x.settle()
		a.settled(t, what, step)
		b.settled(t, what, step)
		_, there := a.Sandbox("c1")
		if knows := slices.ContainsFunc(b.knows(), func(s string) bool { return len(s) > 4 && s[:4] == "[c1]" }); knows != there {
			t.Errorf("%s, step %d: c1 is there: %v, the other host knows it: %v", what, step, there, knows)
		}
		if there {
			a.leave("c1", false)
		}
		x.settle()
		a.settled(t, what, step, "gone")
		if t.Failed() || done {
			if step < 5 {
				t.Errorf("only %d steps", step)
			}
			break
		}
	}
}
