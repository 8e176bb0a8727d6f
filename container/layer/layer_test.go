package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"linkspan/container/rootfs"
	"linkspan/probe"
)

// trees is an image and a container on it, by a real overlay.
type trees struct {
	t                              *testing.T
	lower, upper, work, at, second string
}

func newTrees(t *testing.T) *trees {
	t.Helper()
	probe.Require(t, probe.Root, probe.Overlayfs)
	base := t.TempDir()
	// An overlay on an overlay has no upper layer: /dev/shm is a tmpfs.
	if d, err := os.MkdirTemp("/dev/shm", "layer-"); err == nil {
		base = d
		t.Cleanup(func() { os.RemoveAll(d) })
	}
	x := &trees{t: t}
	for p, name := range map[*string]string{&x.lower: "lower", &x.upper: "upper", &x.work: "work", &x.at: "at", &x.second: "second"} {
		*p = filepath.Join(base, name)
		if err := os.Mkdir(*p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"etc/deep/er", "gone/sub", "again/sub", "var/log", "kind-dir/x"} {
		x.check(os.MkdirAll(filepath.Join(x.lower, d), 0o755))
	}
	for f, s := range map[string]string{
		"etc/passwd": "root", "etc/deep/er/file": "deep", "gone/sub/f": "1", "again/sub/old": "2", "again/kept": "3",
		"var/log/syslog": "log", "kind-file": "file", "kind-dir/x/y": "4", "same": "same", "mode": "mode",
	} {
		x.check(os.WriteFile(filepath.Join(x.lower, f), []byte(s), 0o644))
	}
	return x
}

func (x *trees) check(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x *trees) layers() []mount.Mount {
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"workdir=" + x.work, "upperdir=" + x.upper, "lowerdir=" + x.lower + ":" + x.second}}}
}

// change mounts the overlay and lets f work in it.
func (x *trees) change(f func(root string)) {
	x.t.Helper()
	x.check(mount.All(x.layers(), x.at))
	defer func() { x.check(mount.UnmountAll(x.at, 0)) }()
	f(x.at)
}

func (x *trees) compare(hint bool, places ...string) ([]Change, *rootfs.View) {
	x.t.Helper()
	below, upper, err := rootfs.Lower(x.layers())
	x.check(err)
	if upper != x.upper {
		x.t.Fatalf("upper layer %s", upper)
	}
	lower, err := rootfs.Stopped(below, nil, x.at)
	x.check(err)
	defer lower.Close()
	merged, err := rootfs.Stopped(rootfs.ReadOnly(x.layers()), nil, x.at)
	x.check(err)
	x.t.Cleanup(merged.Close)
	if !hint {
		upper = ""
	}
	list, err := Compare(Trees{Lower: lower.Root(), Merged: merged.Root(), Upper: upper, Places: places})
	x.check(err)
	return list, merged
}

func text(list []Change) (out []string) {
	for _, c := range list {
		out = append(out, c.Kind.String()+" "+c.Path)
	}
	return out
}

func (x *trees) edit(root string) {
	p := func(s string) string { return filepath.Join(root, s) }
	x.check(os.WriteFile(p("etc/deep/er/file"), []byte("deeper"), 0o644))
	x.check(os.RemoveAll(p("gone")))
	x.check(os.RemoveAll(p("again")))
	x.check(os.MkdirAll(p("again/new"), 0o755))
	x.check(os.WriteFile(p("again/kept"), []byte("three"), 0o644))
	x.check(os.Remove(p("var/log/syslog")))
	x.check(os.Remove(p("kind-file")))
	x.check(os.MkdirAll(p("kind-file/in"), 0o755))
	x.check(os.RemoveAll(p("kind-dir")))
	x.check(os.Symlink("etc", p("kind-dir")))
	x.check(os.Chmod(p("mode"), 0o600))
	f, err := os.OpenFile(p("same"), os.O_RDWR, 0) // copied up, and not changed
	x.check(err)
	f.Close()
	x.check(os.WriteFile(p("etc/hosts"), nil, 0o644))
	x.check(os.MkdirAll(p("sbin"), 0o755))
	x.check(os.WriteFile(p("sbin/docker-init"), nil, 0o755))
	x.check(os.MkdirAll(p("proc"), 0o755))
	x.check(os.MkdirAll(p("new/dir"), 0o755))
	x.check(os.WriteFile(p("new/a"), []byte("twice"), 0o644))
	x.check(os.Link(p("new/a"), p("new/b")))
	x.check(unix.Mkfifo(p("new/pipe"), 0o644))
}

var places = []string{"/proc", "/sys", "/dev", "/etc/hosts", "/sbin/docker-init"}

var changed = []string{
	"C /again", "C /again/kept", "A /again/new", "D /again/sub", "C /etc", "C /etc/deep", "C /etc/deep/er", "C /etc/deep/er/file",
	"D /gone", "C /kind-dir", "C /kind-file", "A /kind-file/in", "C /mode", "A /new", "A /new/a", "A /new/b", "A /new/dir", "A /new/pipe",
	"C /var", "C /var/log", "D /var/log/syslog",
}

func TestCompare(t *testing.T) {
	x := newTrees(t)
	if list, _ := x.compare(true, places...); len(list) != 0 {
		t.Errorf("untouched: %q", text(list))
	}
	x.change(x.edit)
	for _, hint := range []bool{true, false} {
		list, _ := x.compare(hint, places...)
		if d := cmp.Diff(changed, text(list)); d != "" {
			t.Errorf("with the upper layer as a hint %v: %s", hint, d)
		}
	}
	// Without places, what the engine made is seen.
	list, _ := x.compare(true)
	for _, want := range []string{"A /etc/hosts", "A /sbin", "A /sbin/docker-init", "A /proc"} {
		if !strings.Contains(strings.Join(text(list), "\n")+"\n", want+"\n") {
			t.Errorf("%s is not in %q", want, text(list))
		}
	}
}

// A place that somebody filled is a change.
func TestFilledPlace(t *testing.T) {
	x := newTrees(t)
	x.change(func(root string) {
		x.check(os.MkdirAll(filepath.Join(root, "sbin"), 0o755))
		x.check(os.WriteFile(filepath.Join(root, "sbin/docker-init"), []byte("own"), 0o755))
	})
	list, _ := x.compare(true, places...)
	if d := cmp.Diff([]string{"A /sbin", "A /sbin/docker-init"}, text(list)); d != "" {
		t.Error(d)
	}
}

// A renamed directory shows another one's content where the kernel redirects.
func TestRenamedDirectory(t *testing.T) {
	x := newTrees(t)
	x.change(func(root string) {
		err := os.Rename(filepath.Join(root, "etc"), filepath.Join(root, "moved"))
		if errors.Is(err, unix.EXDEV) { // no redirect_dir: mv copies
			x.check(os.Mkdir(filepath.Join(root, "moved"), 0o755))
			return
		}
		x.check(err)
	})
	list, _ := x.compare(true)
	if !strings.Contains(strings.Join(text(list), "\n"), "A /moved") {
		t.Errorf("%q", text(list))
	}
}

func TestWrite(t *testing.T) {
	x := newTrees(t)
	x.change(x.edit)
	list, merged := x.compare(true, places...)
	var buf bytes.Buffer
	if err := Write(list, merged.Root(), &buf); err != nil {
		t.Fatal(err)
	}
	got := map[string]*tar.Header{}
	var order []string
	bodies := map[string]string{}
	for r := tar.NewReader(&buf); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		x.check(err)
		b, _ := io.ReadAll(r)
		got[h.Name], bodies[h.Name] = h, string(b)
		order = append(order, h.Name)
	}
	want := []string{
		"again/", "again/kept", "again/new/", "again/.wh.sub", "etc/", "etc/deep/", "etc/deep/er/", "etc/deep/er/file", ".wh.gone",
		"kind-dir", "kind-file/", "kind-file/in/", "mode", "new/", "new/a", "new/b", "new/dir/", "new/pipe", "var/", "var/log/", "var/log/.wh.syslog",
	}
	if d := cmp.Diff(want, order); d != "" {
		t.Fatal(d)
	}
	if bodies["etc/deep/er/file"] != "deeper" || bodies["again/kept"] != "three" {
		t.Errorf("contents: %q", bodies)
	}
	if h := got["kind-dir"]; h.Typeflag != tar.TypeSymlink || h.Linkname != "etc" {
		t.Errorf("a directory that became a link: %+v", h)
	}
	if h := got["new/b"]; h.Typeflag != tar.TypeLink || h.Linkname != "new/a" {
		t.Errorf("a hard link: %+v", h)
	}
	if h := got["mode"]; h.Mode != 0o600 {
		t.Errorf("mode %o", h.Mode)
	}
	if h := got["new/pipe"]; h.Typeflag != tar.TypeFifo {
		t.Errorf("a pipe: %+v", h)
	}
}

func TestLower(t *testing.T) {
	for _, c := range []struct {
		name  string
		in    []mount.Mount
		lower []mount.Mount
		upper string
		bad   bool
	}{
		{"one lower", []mount.Mount{{Type: "overlay", Options: []string{"index=off", "workdir=/w", "upperdir=/u", "lowerdir=/l"}}},
			[]mount.Mount{{Type: "bind", Source: "/l", Options: []string{"rbind", "ro"}}}, "/u", false},
		{"two", []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"userxattr", "upperdir=/u", "lowerdir=/l:/m", "workdir=/w"}}},
			[]mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"userxattr", "lowerdir=/l:/m", "ro"}}}, "/u", false},
		{"no image layers", []mount.Mount{{Type: "bind", Source: "/u", Options: []string{"rw", "rbind"}}}, nil, "/u", false},
		{"a view", []mount.Mount{{Type: "overlay", Options: []string{"lowerdir=/l:/m"}}}, nil, "", true},
		{"another file system", []mount.Mount{{Type: "btrfs"}}, nil, "", true},
		{"several", make([]mount.Mount, 2), nil, "", true},
	} {
		lower, upper, err := rootfs.Lower(c.in)
		if (err != nil) != c.bad {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if d := cmp.Diff(c.lower, lower); d != "" || upper != c.upper {
			t.Errorf("%s: %s %s", c.name, upper, d)
		}
	}
}
