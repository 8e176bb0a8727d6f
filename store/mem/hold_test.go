package mem

import (
	"context"
	"errors"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/store"
	"linkspan/store/storetest"
)

func TestLeaser(t *testing.T) {
	storetest.RunLeaser(t, 40*time.Millisecond, func(t *testing.T) store.Store { return New(Options{}) })
}

func TestView(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return New(Options{}).View() })
	storetest.RunLeaser(t, 40*time.Millisecond, func(t *testing.T) store.Store { return New(Options{}).View() })
}

func has(t *testing.T, s store.Store, key string) bool {
	t.Helper()
	_, ok, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestCut(t *testing.T) {
	s := New(Options{})
	v := s.View()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ch, err := v.Watch(ctx, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	lost, err := v.Hold(ctx, store.Op{Key: "alive/a", Value: []byte("x")}, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	<-ch
	v.Cut(false)
	if _, ok := <-ch; ok {
		t.Error("the watch goes on")
	}
	if _, _, err := v.Get(ctx, "a"); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("Get: %v", err)
	}
	if _, _, err := v.List(ctx, ""); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("List: %v", err)
	}
	if _, err := v.Commit(ctx, store.Op{Key: "a", Value: []byte("x")}); !errors.Is(err, cnm.ErrUnavailable) || errors.Is(err, store.ErrUnclear) {
		t.Errorf("Commit: %v", err)
	}
	if _, err := v.Watch(ctx, "", 0); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("Watch: %v", err)
	}
	if _, err := v.Hold(ctx, store.Op{Key: "b", Value: []byte("x")}, time.Second); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("Hold: %v", err)
	}
	if !has(t, s, "alive/a") {
		t.Error("gone at once")
	}
	select {
	case <-lost:
	case <-time.After(time.Minute):
		t.Fatal("not lost after the ttl")
	}
	for has(t, s, "alive/a") {
		time.Sleep(time.Millisecond)
	}
	v.Heal()
	if has(t, v, "a") || has(t, v, "b") {
		t.Error("something went through")
	}
}

// TestShortCut: a hold outlives a cut shorter than its ttl; its end during a cut is told
// when it heals, or by the ttl.
func TestShortCut(t *testing.T) {
	s := New(Options{})
	v := s.View()
	ctx, cancel := context.WithCancel(t.Context())
	lost, err := v.Hold(ctx, store.Op{Key: "alive/a", Value: []byte("x")}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		v.Cut(false)
		time.Sleep(2 * time.Millisecond)
		v.Heal()
	}
	select {
	case <-lost:
		t.Fatal("lost")
	case <-time.After(20 * time.Millisecond):
	}
	v.Cut(false)
	cancel()
	time.Sleep(20 * time.Millisecond)
	if !has(t, s, "alive/a") {
		t.Fatal("given back through a cut")
	}
	v.Heal()
	for has(t, s, "alive/a") {
		time.Sleep(time.Millisecond)
	}
}

func TestUnclear(t *testing.T) {
	s := New(Options{})
	v := s.View()
	v.Cut(true)
	_, err := v.Commit(t.Context(), store.Op{Key: "a", Value: []byte("x")})
	if !errors.Is(err, store.ErrUnclear) || !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("Commit: %v", err)
	}
	if !has(t, s, "a") {
		t.Error("not written")
	}
	if _, err := v.Commit(t.Context(), store.Op{Key: "b", Value: []byte("x")}); errors.Is(err, store.ErrUnclear) {
		t.Errorf("the second: %v", err)
	}
	if has(t, s, "b") {
		t.Error("the second was written")
	}
}
