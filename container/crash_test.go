package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"linkspan/volume"
)

func writeFile(path string) error { return os.WriteFile(path, nil, 0o644) }

// The daemon is killed between each pair of steps of a whole life: create,
// start, exec, exit, removal. A new one must find the container whole or
// absent, and nothing else.
func TestCrashAnywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("probe: short tests were asked for, and this takes a daemon for each step of a life (leave -short away)")
	}
	w := newWorld(t)
	w.shops()
	kinds := map[string]bool{}
	var kindsMu sync.Mutex
	for n := 1; ; n++ {
		reached := w.crashAt(t, n, func(point string) {
			kindsMu.Lock()
			kinds[point] = true
			kindsMu.Unlock()
		})
		if t.Failed() {
			t.Fatalf("died at point %d: %s", n, reached)
		}
		if reached == "" {
			t.Logf("%d points of %d kinds", n-1, len(kinds))
			break
		}
	}
	for _, want := range []string{
		"container.commit.creating", "container.commit.created", "container.commit.starting", "container.commit.running",
		"container.commit.exited", "container.commit.removing", "container.commit.removed", "container.commit.exec.starting",
		"container.commit.exec.ended", "containerd.container.create", "containerd.container.update", "containerd.container.delete",
		"containerd.snapshot.mounts", "containerd.snapshot.remove", "containerd.task.create", "containerd.task.start", "containerd.task.delete",
		"container.commit.connected", "container.commit.disconnected", "network.update",
		"containerd.exec.create", "containerd.exec.start", "containerd.exec.delete", "network.join", "network.leave", "image.prepare",
	} {
		for _, side := range []string{".before", ".after"} {
			if !kinds[want+side] {
				t.Errorf("the fail point %s was never hit", want+side)
			}
		}
	}
}

// crashAt lives a life in which the daemon dies at its n-th fail point, and
// returns which that was, or "" if the life had fewer.
func (w *world) crashAt(t *testing.T, n int, seen func(string)) (reached string) {
	return w.crashIn(t, n, seen, w.life)
}

// crashIn is crashAt for any life.
func (w *world) crashIn(t *testing.T, n int, seen func(string), life func(*Engine, string)) (reached string) {
	var count atomic.Int64
	var dead atomic.Bool
	died := make(chan string, 1)
	w.hook = func(point string) {
		if strings.HasSuffix(point, "wait.before") || strings.HasSuffix(point, "wait.after") || strings.Contains(point, ".list") || strings.Contains(point, "lease") {
			if dead.Load() {
				select {}
			}
			return // not steps: they change nothing
		}
		if dead.Load() {
			select {} // of the dead daemon nothing moves any more
		}
		seen(point)
		if int(count.Add(1)) == n {
			dead.Store(true)
			died <- point
			select {}
		}
	}
	e := w.bare()
	done := make(chan struct{})
	name := fmt.Sprintf("life-%d", n)
	go func() {
		defer close(done)
		life(e, name)
	}()
	select {
	case reached = <-died:
		usleep(30) // what was already on its way to containerd arrives
	case <-done:
		dead.Store(true)
	}
	w.hook = nil
	e.cancel() // its calls end; its hooks hold what would follow
	w.e = w.bare()
	w.volumes.SetUsers(w.e)
	if err := w.e.Restore(t.Context()); err != nil {
		t.Errorf("restore: %v", err)
	}
	for _, c := range w.e.List() {
		if c.Name != name || c.State.Starting || c.State.Phase == Removing || c.State.Phase == Paused || c.State.Frozen {
			t.Errorf("%s is half made: %+v", c.Name, c.State)
		}
	}
	w.clean()
	w.stop(w.e)
	return reached
}

// bare makes an engine that the test ends itself.
func (w *world) bare() *Engine {
	hook := w.hook
	if hook == nil {
		hook = func(string) {}
	}
	// A daemon's holds on volumes die with it.
	var err error
	if w.volumes, err = volume.New(w.t.Context(), volume.Config{Root: filepath.Join(filepath.Dir(w.root), "volumes"), Store: w.store, Events: w.bus}); err != nil {
		w.t.Fatal(err)
	}
	e, err := New(Config{
		Client: w.ctd.Client(), Address: w.ctd.Address, Namespace: w.ns, Instance: "test", Store: w.store, Network: w.net,
		Images: w.images, Volumes: w.volumes, Keeper: w.keeper, Events: w.bus, Root: w.root, ExecRoot: w.exec, Hook: hook,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *world) life(e *Engine, name string) {
	ctx := w.t.Context()
	r := request(name, "sleep 1000")
	r.Config.Volumes = map[string]struct{}{"/data": {}}
	r.HostConfig.IpcMode = "shareable"
	id, _, err := e.Create(ctx, r)
	if err != nil {
		return
	}
	if e.Start(ctx, id) != nil || e.Connect(ctx, id, "shop", nil) != nil || e.Disconnect(ctx, id, "bridge", false) != nil {
		return
	}
	x, err := e.ExecCreate(ctx, id, ExecConfig{Cmd: []string{"true"}})
	if err == nil && e.ExecStart(ctx, x, false, nil, nil, nil) == nil {
		en, _ := e.findExec(x)
		<-en.done
	}
	zero := 0
	if e.Stop(ctx, id, StopOptions{Timeout: &zero}) != nil {
		return
	}
	_ = e.Remove(ctx, id, RemoveOptions{Volumes: true})
}
