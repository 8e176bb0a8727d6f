package image

import (
	"bytes"
	"os"
	"slices"
	"testing"
	"time"

	"linkspan/probe"
	testimages "linkspan/test/images"
)

// TestPullFromDockerRegistry pulls servers of many layers, which share a base,
// from Debian's docker-registry through the mirror setting, as the tour does.
func TestPullFromDockerRegistry(t *testing.T) {
	probe.Require(t, probe.Root, probe.Containerd, probe.Overlayfs)
	url := testimages.RegistryFor(t, "", "127.0.0.1:0")
	r := newRig(t, func(c *Config) { c.Mirrors = []string{url} })
	for _, name := range []string{"docker.io/mysql", "postgres:9.4", "busybox"} {
		begun := time.Now()
		l := r.pull(name)
		img := r.get(name)
		t.Logf("%s: %d layers, %d MB, %v", name, len(img.Config.RootFS.DiffIDs), img.Size>>20, time.Since(begun).Round(time.Millisecond))
		l.has(t, ": Pull complete", "Status: Downloaded newer image for ")
	}
	img := r.get("mysql:latest")
	if _, ok := img.Config.Config.ExposedPorts["33060/tcp"]; !ok {
		t.Errorf("config %+v", img.Config.Config)
	}
	r.collect()
	if err := r.Prepare(t.Context(), img, "c"); err != nil {
		t.Fatal(err)
	}
	if f := r.files("c"); len(f) < 10 {
		t.Errorf("the root has %d entries", len(f))
	}
	if err := r.snapshotter().Remove(r.ns(t.Context()), "c"); err != nil {
		t.Fatal(err)
	}

	set, err := testimages.Build(t.Context(), testimages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	redis, err := set.Find("redis")
	if err != nil {
		t.Fatal(err)
	}
	if err := testimages.Archive(&archive, redis); err != nil {
		t.Fatal(err)
	}
	names, err := r.Load(t.Context(), &archive, nil)
	if err != nil || !slices.Contains(names, "redis:latest") {
		t.Errorf("loaded %q, %v", names, err)
	}
	list, err := r.List(t.Context())
	if err != nil || len(list) != 4 {
		t.Fatalf("images %v, %v", list, err)
	}
	for _, img := range list {
		r.remove(img.ID, true)
	}
	r.empty()
	if entries, err := os.ReadDir(r.ctd.Dir + "/root/io.containerd.content.v1.content/blobs/sha256"); err == nil && len(entries) > 0 {
		t.Errorf("%d blobs are left on disk", len(entries))
	}
}
