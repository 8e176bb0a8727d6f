package images

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestOpenCache(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(CacheEnv, filepath.Join(dir, "env"))
	c, err := openCache("")
	must(t, err)
	if c.dir != filepath.Join(dir, "env") || !exists(c.path("layers")) {
		t.Errorf("cache is %s", c.dir)
	}
	c, err = openCache(filepath.Join(dir, "given"))
	must(t, err)
	if c.dir != filepath.Join(dir, "given") {
		t.Errorf("cache is %s: the option wins", c.dir)
	}
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	if _, err := openCache(filepath.Join(dir, "file")); err == nil {
		t.Error("a file was taken for a cache")
	}
}

func TestLockExcludes(t *testing.T) {
	c, err := openCache(t.TempDir())
	must(t, err)
	unlock, err := c.lock()
	must(t, err)
	second := make(chan struct{})
	go func() {
		defer close(second)
		u, err := c.lock()
		if err != nil {
			t.Error(err)
			return
		}
		u()
	}()
	select {
	case <-second:
		t.Fatal("two hold the lock")
	case <-time.After(50 * time.Millisecond):
	}
	unlock()
	select {
	case <-second:
	case <-time.After(time.Minute):
		t.Fatal("the lock was not passed on")
	}
}

func TestPublishAndSweep(t *testing.T) {
	c, err := openCache(t.TempDir())
	must(t, err)
	// Half a layer of an interrupted build: no record, so not there.
	must(t, os.MkdirAll(c.path("layers", "k"), 0o755))
	must(t, os.WriteFile(c.layerTar("k"), []byte("half"), 0o644))
	if _, ok := c.layer("k"); ok {
		t.Fatal("half a layer is taken for a whole one")
	}
	work := c.path("tmp", "w")
	must(t, os.MkdirAll(filepath.Join(work, "out"), 0o755))
	must(t, writeJSON(filepath.Join(work, "out", "layer.json"), layerInfo{Name: "x", Size: 7}))
	must(t, c.publish(filepath.Join(work, "out"), "layers", "k"))
	info, ok := c.layer("k")
	if !ok || info.Size != 7 {
		t.Fatalf("published layer reads as %+v, %v", info, ok)
	}
	if exists(c.layerTar("k")) {
		t.Error("a file of the half layer is still there")
	}
	must(t, c.sweep())
	if left, _ := os.ReadDir(c.path("tmp")); len(left) != 0 {
		t.Errorf("left in tmp: %v", left)
	}
	if _, ok := c.layer("k"); !ok {
		t.Error("sweep took a whole layer")
	}
}

func TestPrune(t *testing.T) {
	c, err := openCache(t.TempDir())
	must(t, err)
	old := time.Now().Add(-48 * time.Hour)
	for _, name := range []string{"layers/old", "layers/oldbutused", "layers/new", "registry/old", "base/old"} {
		must(t, os.MkdirAll(c.path(name), 0o755))
		if filepath.Base(name) != "new" {
			must(t, os.Chtimes(c.path(name), old, old))
		}
	}
	removed, err := c.prune(24*time.Hour, map[string]bool{"oldbutused": true})
	must(t, err)
	slices.Sort(removed)
	if want := []string{"base/old", "layers/old", "registry/old"}; !slices.Equal(removed, want) {
		t.Errorf("removed %v, want %v", removed, want)
	}
	if !exists(c.path("layers/oldbutused")) || !exists(c.path("layers/new")) {
		t.Error("prune took what is in use")
	}
}
