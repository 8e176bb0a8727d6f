package mesh

import (
	"context"
	"testing"

	"linkspan/store"
)

// TestPathsRemembered: what passes on the way to a peer is known after a restart, with or
// without the common store, as long as the peer is the same one at the same address.
func TestPathsRemembered(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b, c := w.join("host1"), w.join("host2"), w.join("host3")
		w.settle()
		stored := func(peer *node) bool {
			_, ok, err := a.local.Get(context.Background(), pathKeys+peer.h.ID)
			return ok && err == nil
		}
		if got := a.PathMTU(b.h.ID); got != 0 {
			t.Errorf("before it was measured: %d", got)
		}
		a.SetPathMTU(b.h.ID, 1400)
		a.SetPathMTU(c.h.ID, 1380)
		a.SetPathMTU("nobody", 1300)
		if got := a.PathMTU(b.h.ID); got != 1400 || a.PathMTU("nobody") != 0 {
			t.Errorf("at once: %d, and %d for nobody", got, a.PathMTU("nobody"))
		}
		w.settle()
		a.crash()
		a.view.Cut(false)
		a.start()
		if x, y := a.PathMTU(b.h.ID), a.PathMTU(c.h.ID); x != 1400 || y != 1380 {
			t.Errorf("after a restart without the store: %d, %d", x, y)
		}
		a.view.Heal()
		w.settle()

		// The next measurement is what counts, and none is none.
		a.SetPathMTU(b.h.ID, 1450)
		a.SetPathMTU(c.h.ID, 0)
		w.settle()
		a.crash()
		a.start()
		if x, y := a.PathMTU(b.h.ID), a.PathMTU(c.h.ID); x != 1450 || y != 0 || stored(c) {
			t.Errorf("measured anew: %d, %d", x, y)
		}

		// A peer that is no more is not remembered; nor one that comes by its name.
		if err := a.Forget(t.Context(), "host2", true); err != nil {
			t.Fatal(err)
		}
		w.settle()
		if got := a.PathMTU(b.h.ID); got != 0 || stored(b) {
			t.Errorf("of a forgotten host: %d, stored %v", got, stored(b))
		}

		// Another address is another way.
		a.mu.Lock()
		h := a.hosts[c.h.ID]
		a.mu.Unlock()
		a.SetPathMTU(c.h.ID, 1380)
		a.mu.Lock()
		h.Addr = h.Addr.Next()
		a.hosts[c.h.ID] = h
		a.mu.Unlock()
		if got := a.PathMTU(c.h.ID); got != 0 {
			t.Errorf("at another address: %d", got)
		}
	})
}

// TestPathsOfAnotherTime: what is stored of who was forgotten meanwhile goes.
func TestPathsOfAnotherTime(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.join("host1"), w.join("host2")
		w.settle()
		a.SetPathMTU(b.h.ID, 1400)
		w.settle()
		a.crash()
		if _, err := a.local.Commit(t.Context(), store.Op{Key: pathKeys + "gone", Value: []byte(`{"addr":"10.9.0.9","mtu":1400}`)},
			store.Op{Key: pathKeys + b.h.ID, Value: []byte("no record")}); err != nil {
			t.Fatal(err)
		}
		a.start()
		w.settle()
		for _, peer := range []string{"gone", b.h.ID} {
			if e, ok, _ := a.local.Get(t.Context(), pathKeys+peer); ok {
				t.Errorf("of %s there is %s", peer, e.Value)
			}
		}
	})
}
