package rootfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"linkspan/cnm"
)

// inTree makes a root in a folder whose neighbour holds a secret.
func inTree(t *testing.T) (*View, string) {
	t.Helper()
	base := t.TempDir()
	root := filepath.Join(base, "root")
	for _, d := range []string{"root/etc", "root/deep/er", "outside"} {
		if err := os.MkdirAll(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(base, "outside/secret"), "the host's")
	put(t, filepath.Join(root, "etc/own"), "the container's")
	f, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	v := &View{root: f}
	t.Cleanup(v.Close)
	return v, root
}

func put(t *testing.T, path, s string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func TestOpenStaysInside(t *testing.T) {
	v, root := inTree(t)
	link(t, "../outside/secret", filepath.Join(root, "up"))
	link(t, "/etc/own", filepath.Join(root, "abs"))
	link(t, root+"/../outside", filepath.Join(root, "host"))
	link(t, "../../../../../../etc/own", filepath.Join(root, "deep/er/many"))
	link(t, "loop", filepath.Join(root, "loop"))
	link(t, "/proc/self/root/etc", filepath.Join(root, "magic"))
	for path, want := range map[string]string{
		"/etc/own": "the container's", "etc/own": "the container's", "/abs": "the container's",
		"/../../etc/own": "the container's", "/deep/er/many": "the container's",
		"/up": "", "/host/secret": "", "/../outside/secret": "", "/loop": "", "/magic/passwd": "", "/none": "",
	} {
		f, err := v.Open(path, unix.O_RDONLY)
		if want == "" {
			if err == nil {
				t.Errorf("%s could be opened", path)
				f.Close()
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		b, _ := io.ReadAll(f)
		f.Close()
		if string(b) != want {
			t.Errorf("%s: %q", path, b)
		}
	}
}

func TestReadFile(t *testing.T) {
	v, root := inTree(t)
	put(t, filepath.Join(root, "big"), strings.Repeat("x", 100))
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := v.ReadFile("/etc/own", 100); err != nil || string(b) != "the container's" {
		t.Errorf("%q %v", b, err)
	}
	if b, err := v.ReadFile("/big", 100); err != nil || len(b) != 100 {
		t.Errorf("%d %v", len(b), err)
	}
	for _, p := range []string{"/fifo", "/etc"} {
		if _, err := v.ReadFile(p, 100); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("%s: %v", p, err)
		}
	}
	if _, err := v.ReadFile("/big", 99); err == nil || !strings.Contains(err.Error(), "at most 99") {
		t.Error(err)
	}
	if _, err := v.ReadFile("/none", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestMkdirAll(t *testing.T) {
	v, root := inTree(t)
	link(t, "/deep", filepath.Join(root, "l"))
	link(t, "../outside", filepath.Join(root, "up"))
	for _, p := range []string{"/a/b/c", "/l/new", "/up/x", "/a/../b2", "/"} {
		f, err := MkdirAll(v.root, p, 0o755)
		if p == "/up/x" {
			// "up" leads nowhere inside: neither is it made, nor the host's used.
			if err == nil {
				t.Errorf("%s was made", p)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		f.Close()
	}
	for _, p := range []string{"a/b/c", "deep/new", "b2"} {
		if st, err := os.Stat(filepath.Join(root, p)); err != nil || !st.IsDir() {
			t.Errorf("%s: %v", p, err)
		}
	}
	if l, _ := os.ReadDir(filepath.Join(root, "../outside")); len(l) != 1 {
		t.Error("something was made outside")
	}
	if _, err := MkdirAll(v.root, "/etc/own/x", 0o755); err == nil {
		t.Error("below a file")
	}
}

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/var/www:/bin/false\n77:x:5:5::/:/bin/sh\n"
	group  = "root:x:0:\nweb:x:34:\naudio:x:29:web,root\ndisk:x:6:root\n"
)

func TestUser(t *testing.T) {
	for _, c := range []struct {
		spec string
		add  []string
		want specs.User
		err  string
	}{
		{spec: "", want: specs.User{AdditionalGids: []uint32{0, 29, 6}}},
		{spec: "web", want: specs.User{UID: 33, GID: 34, AdditionalGids: []uint32{34, 29}}},
		{spec: "33", want: specs.User{UID: 33, GID: 34, AdditionalGids: []uint32{34, 29}}},
		{spec: "web:disk", want: specs.User{UID: 33, GID: 6, AdditionalGids: []uint32{6}}},
		{spec: "1000", want: specs.User{UID: 1000, AdditionalGids: []uint32{0}}},
		{spec: "1000:1001", want: specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001}}},
		{spec: ":6", want: specs.User{GID: 6, AdditionalGids: []uint32{6}}},
		{spec: "77", want: specs.User{UID: 77, AdditionalGids: []uint32{0}}}, // a number is never a name
		{spec: "web", add: []string{"disk", "999"}, want: specs.User{UID: 33, GID: 34, AdditionalGids: []uint32{34, 29, 6, 999}}},
		{spec: "x", err: "unable to find user x: no matching entries in passwd file"},
		{spec: "web:x", err: "unable to find group x: no matching entries in group file"},
		{spec: "web", add: []string{"x"}, err: "unable to find group x: no matching entries in group file"},
		{spec: "-1", err: "uids and gids must be in range"},
		{spec: "99999999999999999999", err: "uids and gids must be in range"},
	} {
		got, err := resolve(c.spec, c.add, []byte(passwd), []byte(group))
		if c.err != "" {
			if !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", c.spec, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", c.spec, d)
		}
	}
}

func TestUserOfView(t *testing.T) {
	v, root := inTree(t)
	// No files: numbers work, names do not.
	if u, err := v.User("7:8", nil); err != nil || u.UID != 7 || u.GID != 8 {
		t.Error(u, err)
	}
	if _, err := v.User("web", nil); err == nil || !strings.Contains(err.Error(), "no matching entries in passwd file") {
		t.Error(err)
	}
	// A link inside is followed, one to the outside is not.
	put(t, filepath.Join(root, "deep/passwd"), passwd)
	link(t, "/deep/passwd", filepath.Join(root, "etc/passwd"))
	if u, err := v.User("web", nil); err != nil || u.UID != 33 {
		t.Error(u, err)
	}
}

func TestRelative(t *testing.T) {
	dir, out := relative([]string{"index=off", "lowerdir=/v/s/1/fs:/v/s/20/fs:/v/s/3/fs", "upperdir=/v/s/9/fs"})
	if dir != "/v/s" {
		t.Error(dir)
	}
	if d := cmp.Diff([]string{"index=off", "lowerdir=1/fs:20/fs:3/fs", "upperdir=/v/s/9/fs"}, out); d != "" {
		t.Error(d)
	}
}
