package container

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/cnm"
)

func tarOf(t *testing.T, name, body string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	if err := tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(tw, body)
	tw.Close()
	return &b
}

func (w *world) read(ref, path string) (string, error) {
	w.t.Helper()
	r, _, err := w.e.GetArchive(w.t.Context(), ref, path)
	if err != nil {
		return "", err
	}
	defer r.Close()
	tr := tar.NewReader(r)
	if _, err := tr.Next(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(tr)
	if _, end := tr.Next(); !errors.Is(end, io.EOF) {
		w.t.Errorf("%s: more than one entry", path)
	}
	return string(b), err
}

func TestCopy(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "h"), []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	id := w.create("c1", "ln -s /vol/f /link; ln -s /etc/shadow /tmp/out; sleep 1000", func(r *CreateRequest) {
		r.HostConfig.Binds = []string{"cpvol:/vol", host + ":/bind:ro"}
	})
	put := func(dest, name, body string) error {
		return e.PutArchive(ctx, id, dest, tarOf(t, name, body), true, false)
	}
	check := func(when string) {
		t.Helper()
		ok(t, when+": put", put("/", "rootfile", when))
		ok(t, when+": put into the volume", put("/vol", "f", "vol "+when))
		refused(t, when+": put into a read-only mount", put("/bind", "x", ""), cnm.ErrInvalid, "marked read-only: /bind")
		refused(t, when+": put nowhere", put("/none", "x", ""), cnm.ErrNotFound, "Could not find the file /none in container "+id)
		refused(t, when+": put into a file", put("/etc/passwd", "x", ""), cnm.ErrInvalid, "extraction point is not a directory")
		for path, want := range map[string]string{"/rootfile": when, "/vol/f": "vol " + when, "/bind/h": "host", "/data/sub/deep": "deep\n"} {
			if got, err := w.read(id, path); got != want || err != nil {
				t.Errorf("%s: %s: %q %v", when, path, got, err)
			}
		}
		_, err := e.StatPath(ctx, id, "/none/x")
		refused(t, when+": stat", err, cnm.ErrNotFound, "Could not find the file /none/x")
		if s, err := e.StatPath(ctx, id, "/data"); err != nil || !s.Mode.IsDir() || s.Name != "data" {
			t.Errorf("%+v %v", s, err)
		}
	}
	check("created")
	ok(t, "start", e.Start(ctx, id))
	w.eventually("the links", func() bool { _, err := e.StatPath(ctx, id, "/tmp/out"); return err == nil })
	check("running")
	if s, err := e.StatPath(ctx, id, "/link"); err != nil || s.LinkTarget != "/vol/f" {
		t.Errorf("%+v %v", s, err)
	}
	// The link leads to the container's own shadow file, which it has not.
	if _, err := e.StatPath(ctx, id, "/tmp/out/"); err == nil {
		t.Error("a link led out of the container")
	}
	if _, out := w.execute(id, ExecConfig{Cmd: []string{"cat", "/rootfile", "/vol/f"}}, ""); out != "runningvol running" {
		t.Errorf("%q", out)
	}
	ok(t, "pause", e.Pause(ctx, id))
	check("paused")
	ok(t, "stop", e.Stop(ctx, id, StopOptions{Timeout: p(0)}))
	check("stopped")
	if _, err := os.Stat(filepath.Join(host, "x")); err == nil {
		t.Error("something was written through a read-only mount")
	}
	// All of a running container, without what is the kernel's.
	ok(t, "start", e.Start(ctx, id))
	r, _, err := e.GetArchive(ctx, id, "/")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names[h.Name] = true
		if strings.HasPrefix(h.Name, "/proc/") && h.Name != "/proc/" || strings.HasPrefix(h.Name, "/dev/") && h.Name != "/dev/" {
			t.Fatalf("%s is not the container's", h.Name)
		}
	}
	r.Close()
	if !names["/bin/busybox"] || !names["/vol/f"] || !names["/proc/"] {
		t.Errorf("%d names", len(names))
	}
	// A reader that leaves early holds nothing.
	ok(t, "stop", e.Stop(ctx, id, StopOptions{Timeout: p(0)}))
	r, _, err = e.GetArchive(ctx, id, "/")
	ok(t, "get", err)
	r.Close()
	ok(t, "rm", e.Remove(ctx, id, RemoveOptions{}))
	ok(t, "volume rm", w.volumes.Remove(ctx, "cpvol", false))

	own := w.create("c2", "true", func(r *CreateRequest) { r.Config.User = "web" })
	ok(t, "put", e.PutArchive(ctx, own, "/tmp", tarOf(t, "f", "x"), true, true))
	_, out := w.output("c3", "true")
	_ = out
	done, _ := e.Wait(ctx, own, WaitNextExit)
	ok(t, "start", e.Start(ctx, own))
	w.result(done)
	ro := w.create("c4", "true", func(r *CreateRequest) { r.HostConfig.ReadonlyRootfs = true })
	refused(t, "a read-only root", e.PutArchive(ctx, ro, "/tmp", tarOf(t, "f", "x"), true, false), cnm.ErrInvalid, "container rootfs is marked read-only")
	w.clean()
}
