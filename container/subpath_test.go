package container

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apimount "github.com/moby/moby/api/types/mount"

	"linkspan/cnm"
	"linkspan/volume"
)

func subpath(p string) func(*CreateRequest) {
	return func(r *CreateRequest) {
		r.HostConfig.Mounts = []apimount.Mount{{Type: "volume", Source: "vol", Target: "/v", VolumeOptions: &apimount.VolumeOptions{Subpath: p}}}
	}
}

func TestVolumeSubpath(t *testing.T) {
	w := newWorld(t)
	w.start()
	defer func() {
		for _, c := range w.e.List() {
			w.remove(c.ID)
		}
		if err := w.volumes.Remove(t.Context(), "vol", true); err != nil {
			t.Error(err)
		}
		w.clean()
	}()
	v, err := w.volumes.Create(t.Context(), volume.CreateRequest{Name: "vol"})
	if err != nil {
		t.Fatal(err)
	}
	in := func(p string) string { return filepath.Join(v.Mountpoint, p) }
	for _, err := range []error{
		os.MkdirAll(in("a/b"), 0o755), os.WriteFile(in("a/b/file"), []byte("deep\n"), 0o644), os.WriteFile(in("secret"), []byte("x"), 0o644),
		os.Symlink("/etc", in("out")), os.Symlink("b", in("a/link")), os.Symlink("../../../../..", in("up")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, out := w.output("dir", "cat /v/file; echo new > /v/new; ls /v", subpath("a/b")); out != "deep\nfile\nnew\n" {
		t.Errorf("a directory: %q", out)
	}
	if b, err := os.ReadFile(in("a/b/new")); err != nil || string(b) != "new\n" {
		t.Errorf("written: %q %v", b, err)
	}
	if _, out := w.output("file", "cat /v", subpath("a/b/file")); out != "deep\n" {
		t.Errorf("a file: %q", out)
	}
	if _, out := w.output("link", "cat /v/file", subpath("a/link")); out != "deep\n" {
		t.Errorf("a link inside: %q", out)
	}
	// A link upwards ends at the volume's root, as ".." does at "/".
	if _, out := w.output("up", "cat /v/secret", subpath("up")); out != "x" {
		t.Errorf("a link upwards: %q", out)
	}
	for name, p := range map[string]string{"nothing there": "none", "a link out of it": "out"} {
		id := w.create(strings.ReplaceAll(name, " ", "-"), "true", subpath(p))
		if err := w.e.Start(t.Context(), id); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "of volume vol") {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := request("escape", "true")
	subpath("../x")(&r)
	if _, _, err := w.e.Create(t.Context(), r); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("a path out of the volume: %v", err)
	}
	// What a daemon that died left mounted goes with the next one.
	place := filepath.Join(w.e.subpathDir("dead"), "0")
	if err := mountSubpath(&Mount{Name: "vol", Source: v.Mountpoint, Subpath: "a"}, place); err != nil {
		t.Fatal(err)
	}
	w.e.sweepSubpaths()
	if _, err := os.Stat(w.e.subpathDir("")); err == nil {
		t.Error("what was mounted is still there")
	}
	if _, err := os.Stat(in("a/b/file")); err != nil {
		t.Error(err)
	}
	// At rest, `docker cp` sees the same.
	st, err := w.e.StatPath(t.Context(), "dir", "/v/new")
	if err != nil || st.Size != 4 {
		t.Errorf("%+v %v", st, err)
	}
}
