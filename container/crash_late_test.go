package container

import (
	"context"
	"io"
	"sync"
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"
	apimount "github.com/moby/moby/api/types/mount"

	"linkspan/image"
)

// Layered takes a commit and keeps nothing.
func (f *fakeImages) Layered(_ context.Context, _ *image.Image, r io.Reader, _ image.Layered) (string, error) {
	_, err := io.Copy(io.Discard, r)
	return "sha256:made", err
}

// The daemon is killed between each pair of steps of what is done to a container
// that runs: new limits, a commit that pauses it, and the start with a part of a
// volume before.
func TestCrashLate(t *testing.T) {
	if testing.Short() {
		t.Skip("probe: short tests were asked for, and this takes a daemon for each step of a life (leave -short away)")
	}
	w := newWorld(t)
	kinds := map[string]bool{}
	var mu sync.Mutex
	seen := func(point string) {
		mu.Lock()
		defer mu.Unlock()
		kinds[point] = true
	}
	for n := 1; ; n++ {
		reached := w.crashIn(t, n, seen, w.lateLife)
		if t.Failed() {
			t.Fatalf("died at point %d: %s", n, reached)
		}
		if reached == "" {
			t.Logf("%d points", n-1)
			break
		}
	}
	for _, want := range []string{
		"container.commit.updated", "containerd.task.update", "container.commit.freezing", "containerd.task.pause",
		"container.commit.frozen", "containerd.task.resume", "container.commit.unfrozen",
	} {
		for _, side := range []string{".before", ".after"} {
			if !kinds[want+side] {
				t.Errorf("the fail point %s was never hit", want+side)
			}
		}
	}
}

func (w *world) lateLife(e *Engine, name string) {
	ctx := w.t.Context()
	r := request(name, "sleep 1000")
	r.HostConfig.Mounts = []apimount.Mount{{Type: "volume", Target: "/part", VolumeOptions: &apimount.VolumeOptions{Subpath: "."}}}
	id, _, err := e.Create(ctx, r)
	if err != nil || e.Start(ctx, id) != nil {
		return
	}
	if _, err := e.Update(ctx, id, apicontainer.UpdateConfig{Resources: apicontainer.Resources{Memory: 64 << 20, CPUShares: 100}}); err != nil {
		return
	}
	if _, err := e.Stats(ctx, id); err != nil {
		return
	}
	if _, err := e.Changes(ctx, id); err != nil {
		return
	}
	if _, err := e.Commit(ctx, id, CommitOptions{Pause: true}); err != nil {
		return
	}
	_ = e.Remove(ctx, id, RemoveOptions{Force: true, Volumes: true})
}
