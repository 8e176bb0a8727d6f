package mem

import (
	"slices"
	"sync"
	"testing"

	"linkspan/store"
	"linkspan/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return New(Options{}) })
}

func TestHook(t *testing.T) {
	var mu sync.Mutex
	var points []string
	s := New(Options{Hook: func(p string) {
		mu.Lock()
		defer mu.Unlock()
		points = append(points, p)
	}})
	ctx := t.Context()
	if _, err := s.Commit(ctx, store.Op{Key: "sandboxes/1", Value: []byte("x")}, store.Op{Key: "other", Value: []byte{}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(ctx, store.Op{Key: "name", Guard: true, IfRev: 7}); err == nil {
		t.Fatal("the condition held")
	}
	if _, err := s.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	want := []string{"store.sandboxes.before", "store.sandboxes.after", "store.name.before"}
	if !slices.Equal(points, want) {
		t.Errorf("points %q, want %q", points, want)
	}
}
