package image

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"linkspan/cnm"
	"linkspan/image/imagetest"
)

func TestPrepare(t *testing.T) {
	reg := imagetest.New(t)
	_, id := reg.Push(imagetest.Simple("base", "app"), "lib/app:1")
	r := newRig(t)
	r.pull(reg.Host() + "/lib/app:1")
	img := r.get(id)
	for range 2 { // idempotent
		if err := r.Prepare(t.Context(), img, "c1"); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := r.Prepare(t.Context(), img, "c2"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// Without a lease the snapshot stays until somebody removes it.
	r.collect()
	r.files("c1")
	// Under a lease it goes with the lease.
	ctx, done, err := r.lease(r.ns(t.Context()), "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Prepare(ctx, img, "c3"); err != nil {
		t.Fatal(err)
	}
	r.collect()
	r.files("c3")
	done()
	r.collect()
	if _, err := r.snapshotter().Stat(r.ns(t.Context()), "c3"); err == nil {
		t.Error("the snapshot outlives its lease")
	}
	_, other := reg.Push(imagetest.Simple("else"), "lib/else:1")
	r.pull(reg.Host() + "/lib/else:1")
	if err := r.Prepare(t.Context(), r.get(other), "c1"); !errors.Is(err, cnm.ErrConflict) {
		t.Errorf("the key of another image's snapshot: %v", err)
	}
}

// Snapshots that somebody removed are made again from the layers.
func TestPrepareUnpacksAgain(t *testing.T) {
	reg := imagetest.New(t)
	_, id := reg.Push(imagetest.Simple("base", "app"), "lib/app:1")
	r := newRig(t)
	r.pull(reg.Host() + "/lib/app:1")
	ctx := r.ns(t.Context())
	img := r.get(id)
	p, err := r.parse(ctx, r.must(id).desc)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(p.chains) - 1; i >= 0; i-- {
		// Below the top one, which alone the image refers to, containerd's collector
		// may have been here before.
		if err := r.snapshotter().Remove(ctx, p.chains[i]); err != nil && (i == len(p.chains)-1 || !errdefs.IsNotFound(err)) {
			t.Fatal(err)
		}
	}
	r.collect()
	if err := r.Prepare(t.Context(), img, "c"); err != nil {
		t.Fatal(err)
	}
	if f := r.files("c"); f["layer-1"] != "app" {
		t.Errorf("files %v", f)
	}
	r.collect()
	if _, _, leased, _ := r.state(); len(leased) != 0 {
		t.Errorf("leases %v", leased)
	}
}

// must finds an image's manifest.
func (r *rig) must(ref string) *parsed {
	r.t.Helper()
	all, err := r.records(r.ns(r.t.Context()))
	if err != nil {
		r.t.Fatal(err)
	}
	p, _, err := r.find(all, ref)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// TestFoldersInTheWay: containerd was killed between making the folders of snapshots and
// writing down their numbers.
func TestFoldersInTheWay(t *testing.T) {
	reg := imagetest.New(t)
	_, id := reg.Push(imagetest.Simple("base", "app"), "lib/app:1")
	r := newRig(t)
	folders, err := filepath.Glob(filepath.Join(r.ctd.Dir, "root", "*overlayfs", "snapshots"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("%v %v", folders, err)
	}
	for i := 1; i < 3; i++ {
		if err := os.MkdirAll(filepath.Join(folders[0], strconv.Itoa(i), "fs"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := 1; ; i++ {
		err := r.Pull(t.Context(), reg.Host()+"/lib/app:1", "", nil, nil)
		if err == nil {
			break
		}
		folder := filepath.Join(folders[0], strconv.Itoa(i))
		if !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "rm -r "+folder+")") {
			t.Fatal(err)
		}
		if err := os.RemoveAll(folder); err != nil { // as it says
			t.Fatal(err)
		}
	}
	if err := r.Prepare(t.Context(), r.get(id), "c"); err != nil {
		t.Fatal(err)
	}
	if f := r.files("c"); f["layer-1"] != "app" {
		t.Errorf("files %v", f)
	}
}
