package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/probe"
)

// sample is a tree with one of everything that a copy must keep.
func sample(t *testing.T) string {
	t.Helper()
	src := filepath.Join(t.TempDir(), "src")
	must(t, os.MkdirAll(filepath.Join(src, "sub", "deep"), 0o755))
	write := func(name, text string, mode uint32) string {
		p := filepath.Join(src, name)
		must(t, os.WriteFile(p, []byte(text), 0o600))
		must(t, unix.Chmod(p, mode))
		return p
	}
	f := write("sub/file", "hello", 0o640)
	must(t, os.Chown(f, 999, 998))
	must(t, unix.Lsetxattr(f, "user.note", []byte("kept"), 0))
	write("setuid", "x", 0o4755)
	must(t, os.Link(f, filepath.Join(src, "hard")))
	must(t, os.Symlink("/etc/passwd", filepath.Join(src, "out")))
	must(t, os.Lchown(filepath.Join(src, "out"), 5, 6))
	must(t, unix.Mkfifo(filepath.Join(src, "fifo"), 0o600))
	must(t, unix.Mknod(filepath.Join(src, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, os.Chown(src, 999, 999))
	must(t, unix.Chmod(src, 0o1770))
	old := time.Unix(1000000000, 0)
	must(t, os.Chtimes(f, old, old))
	must(t, os.Chtimes(filepath.Join(src, "sub"), old, old))
	return src
}

func TestCopyUp(t *testing.T) {
	probe.Require(t, probe.Root)
	s := fresh(t)
	v := create(t, s, "db")
	src := sample(t)
	must(t, s.CopyUp(t.Context(), src, "db"))
	for _, p := range []string{".", "sub", "sub/deep", "sub/file", "setuid", "hard", "out", "fifo", "null"} {
		var a, b unix.Stat_t
		must(t, unix.Lstat(filepath.Join(src, p), &a))
		if err := unix.Lstat(filepath.Join(v.Mountpoint, p), &b); err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev || a.Mtim != b.Mtim {
			t.Errorf("%s: mode %o %o, owner %d:%d %d:%d, dev %d %d, time %v %v", p, a.Mode, b.Mode, a.Uid, a.Gid, b.Uid, b.Gid, a.Rdev, b.Rdev, a.Mtim, b.Mtim)
		}
	}
	var one, two unix.Stat_t
	must(t, unix.Lstat(filepath.Join(v.Mountpoint, "sub/file"), &one))
	must(t, unix.Lstat(filepath.Join(v.Mountpoint, "hard"), &two))
	if one.Ino != two.Ino {
		t.Error("a hard link became a file of its own")
	}
	if to, _ := os.Readlink(filepath.Join(v.Mountpoint, "out")); to != "/etc/passwd" {
		t.Errorf("symlink to %q", to)
	}
	if b, _ := os.ReadFile(filepath.Join(v.Mountpoint, "hard")); string(b) != "hello" {
		t.Errorf("content %q", b)
	}
	if x, _ := getXattr(filepath.Join(v.Mountpoint, "sub/file"), "user.note"); string(x) != "kept" {
		t.Errorf("extended attribute %q", x)
	}
	if _, err := os.Lstat(filepath.Join(s.dir("db"), populating)); !os.IsNotExist(err) {
		t.Errorf("the marker stays: %v", err)
	}
}

func TestCopyUpLeavesFullVolumesAlone(t *testing.T) {
	probe.Require(t, probe.Root)
	s := fresh(t)
	v := create(t, s, "db")
	must(t, os.WriteFile(filepath.Join(v.Mountpoint, "mine"), nil, 0o600))
	must(t, s.CopyUp(t.Context(), sample(t), "db"))
	entries, _ := os.ReadDir(v.Mountpoint)
	if len(entries) != 1 {
		t.Errorf("copied into a volume that held something: %v", entries)
	}
}

func TestCopyUpOfNothing(t *testing.T) {
	s := fresh(t)
	v := create(t, s, "db")
	f := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(f, nil, 0o600))
	for _, src := range []string{filepath.Join(t.TempDir(), "nosuch"), f, f + "/below"} {
		if err := s.CopyUp(t.Context(), src, "db"); err != nil {
			t.Errorf("%s: %v", src, err)
		}
	}
	if empty, err := isEmpty(v.Mountpoint); err != nil || !empty {
		t.Errorf("something was copied (%v)", err)
	}
}

// A copy that a crash cut short is completed by the next one, also where a file
// was written in part.
func TestCopyUpAgain(t *testing.T) {
	probe.Require(t, probe.Root)
	s := fresh(t)
	v := create(t, s, "db")
	src := sample(t)
	ctx := &shortLived{Context: t.Context(), calls: 5}
	if err := s.CopyUp(ctx, src, "db"); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(v.Mountpoint, "setuid"), []byte("half of someth"), 0o600))
	must(t, s.CopyUp(t.Context(), src, "db"))
	if b, _ := os.ReadFile(filepath.Join(v.Mountpoint, "setuid")); string(b) != "x" {
		t.Errorf("content %q", b)
	}
	var names []string
	entries, _ := os.ReadDir(v.Mountpoint)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"fifo", "hard", "null", "out", "setuid", "sub"}; !slices.Equal(names, want) {
		t.Errorf("entries %v, want %v", names, want)
	}
}

// shortLived is a context that is cancelled after some looks at it.
type shortLived struct {
	context.Context
	calls int
}

func (c *shortLived) Err() error {
	if c.calls--; c.calls < 0 {
		return context.Canceled
	}
	return nil
}
