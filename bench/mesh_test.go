package main

import (
	"context"
	"os"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
)

func TestEar(t *testing.T) {
	e := &ear{heard: map[string][]uint64{}, networks: map[string]*cnm.Network{}}
	ctx := context.Background()
	h := &member{host: mesh.Host{ID: "h"}}
	some := func(ids ...int) (out []cnm.Remote) {
		for _, i := range ids {
			out = append(out, endpoint(h, "n", i))
		}
		return out
	}
	e.Remote(ctx, "n", cnm.RemoteChange{Came: some(0, 63, 64, 9999)})
	e.Remote(ctx, "n", cnm.RemoteChange{Came: some(64, 65)}) // 64 again
	e.Remote(ctx, "other", cnm.RemoteChange{Came: some(7)})
	if got := e.count("n"); got != 5 {
		t.Errorf("%d endpoints", got)
	}
	if !e.has("n", 9999) || e.has("n", 7) || e.has("n", 100_000) || !e.has("other", 7) {
		t.Error("the wrong ones")
	}
	e.Remote(ctx, "n", cnm.RemoteChange{Whole: true, Came: some(1)})
	if got := e.count("n"); got != 1 || !e.has("n", 1) {
		t.Errorf("after the whole: %d", got)
	}
	if got := e.changes.Load(); got != 8 {
		t.Errorf("%d changes", got)
	}
	e.Networks(ctx, []*cnm.Network{{ID: "n"}})
	if !e.knows("n") || e.knows("other") {
		t.Error("networks")
	}
}

// TestEndpointIsReal: what is measured has the size of a record of a real container.
func TestEndpointIsReal(t *testing.T) {
	r := endpoint(&member{host: mesh.Host{ID: mesh.NewID()}}, "n", 4711)
	if size := mesh.ByteSize(r); size < 150 || size > 600 {
		t.Errorf("%d bytes", size)
	}
	if a, b := endpoint(&member{}, "n", 300), endpoint(&member{}, "n", 44); a.Addrs[0] == b.Addrs[0] || a.MAC == b.MAC {
		t.Error("two endpoints with one address")
	}
}

func TestProcessCost(t *testing.T) {
	for begun := time.Now(); time.Since(begun) < 50*time.Millisecond; {
	}
	cpu, rss := processCost(os.Getpid())
	if cpu < 20*time.Millisecond || rss < 1<<20 {
		t.Errorf("%v, %d bytes", cpu, rss)
	}
	if cpu, rss := processCost(1 << 30); cpu != 0 || rss != 0 {
		t.Errorf("of none: %v, %d", cpu, rss)
	}
}

// TestSmallMesh: the whole measurement, small.
func TestSmallMesh(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	members, err := startMembers(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer members.stop()
	f, err := newFleet(ctx, members.endpoints, 5)
	if f != nil {
		defer f.close()
	}
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.network(ctx, "shop", "10.90.0.0/16", f.hosts[:4])
	if err != nil {
		t.Fatal(err)
	}
	f.hosts = f.hosts[:4]
	if err := f.fill(ctx, n, 0, 100); err != nil {
		t.Fatal(err)
	}
}
