package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

var when = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)

// tree makes a container's root beside a folder of the host.
func tree(t *testing.T) (root *os.File, dir, outside string) {
	t.Helper()
	base := t.TempDir()
	dir, outside = filepath.Join(base, "root"), filepath.Join(base, "outside")
	for _, d := range []string{"root/etc/sub", "root/data", "outside"} {
		if err := os.MkdirAll(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(outside, "secret"), "host")
	put(t, filepath.Join(dir, "etc/a"), "AAA")
	put(t, filepath.Join(dir, "etc/sub/b"), "B")
	if err := os.Link(filepath.Join(dir, "etc/a"), filepath.Join(dir, "etc/hard")); err != nil {
		t.Fatal(err)
	}
	link(t, "/etc/a", filepath.Join(dir, "etc/soft"))
	link(t, "/etc", filepath.Join(dir, "dirlink"))
	link(t, "../outside", filepath.Join(dir, "escape"))
	link(t, outside, filepath.Join(dir, "escapeabs"))
	root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, dir, outside
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

func TestStat(t *testing.T) {
	root, _, _ := tree(t)
	for _, c := range []struct {
		path, name, target string
		dir, link          bool
	}{
		{path: "/etc/a", name: "a"},
		{path: "etc", name: "etc", dir: true},
		{path: "/etc/", name: "etc", dir: true},
		{path: "/etc/.", name: ".", dir: true},
		{path: "/", name: "/", dir: true},
		{path: "/../../etc/a", name: "a"},
		{path: "/etc/soft", name: "soft", link: true, target: "/etc/a"},
		{path: "/dirlink", name: "dirlink", link: true, target: "/etc"},
		{path: "/dirlink/", name: "dirlink", dir: true},
		{path: "/dirlink/a", name: "a"},
		{path: "/escape", name: "escape", link: true, target: "/outside"},
	} {
		s, err := StatPath(root, c.path)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		if s.Name != c.name || s.LinkTarget != c.target || s.Mode.IsDir() != c.dir || (s.Mode&fs.ModeSymlink != 0) != c.link {
			t.Errorf("%s: %+v", c.path, s)
		}
	}
	for _, p := range []string{"/none", "/escape/secret", "/escapeabs/secret", "/escape/", "/etc/a/x"} {
		if s, err := StatPath(root, p); err == nil {
			t.Errorf("%s: %+v", p, s)
		}
	}
}

// list renders an archive as lines of text.
func list(t *testing.T, r io.Reader) (lines []string) {
	t.Helper()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(tr)
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%c %s %s%s", h.Typeflag, h.Name, h.Linkname, b)))
	}
}

func TestTar(t *testing.T) {
	root, dir, _ := tree(t)
	if err := unix.Mkfifo(filepath.Join(dir, "data/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	etc := []string{"5 %s/", "0 %s/a AAA", "1 %s/hard %s/a", "2 %s/soft /etc/a", "5 %s/sub/", "0 %s/sub/b B"}
	under := func(name string) (out []string) {
		for _, l := range etc {
			out = append(out, strings.ReplaceAll(l, "%s", name))
		}
		return out
	}
	for path, want := range map[string][]string{
		"/etc/a":     {"0 a AAA"},
		"/etc/soft":  {"2 soft /etc/a"},
		"/etc":       under("etc"),
		"/etc/.":     under("."),
		"/dirlink":   {"2 dirlink /etc"},
		"/dirlink/":  under("dirlink"),
		"/dirlink/.": under("."),
		"/data":      {"5 data/", "6 data/fifo"},
		"/escape":    {"2 escape ../outside"},
	} {
		var b bytes.Buffer
		if err := Tar(root, path, &b); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if d := cmp.Diff(want, list(t, &b)); d != "" {
			t.Errorf("%s: %s", path, d)
		}
	}
	var b bytes.Buffer
	if err := Tar(root, "/", &b); err != nil {
		t.Fatal(err)
	}
	for i, l := range list(t, &b) {
		if name := strings.Fields(l)[1]; name[0] != '/' || i == 0 && name != "/" {
			t.Errorf("entry %d of the root: %s", i, l)
		}
	}
	for _, p := range []string{"/none", "/escape/secret", "/escapeabs/"} {
		if err := Tar(root, p, io.Discard); err == nil {
			t.Errorf("%s came out", p)
		}
	}
}

type file struct {
	name string
	kind byte
	body string
	mode int64
}

func pack(t *testing.T, files ...file) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Typeflag: f.kind, Mode: f.mode, ModTime: when, Uid: os.Getuid(), Gid: os.Getgid()}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		switch f.kind {
		case tar.TypeReg:
			h.Size = int64(len(f.body))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = f.body
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if f.kind == tar.TypeReg {
			if _, err := io.WriteString(w, f.body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestUntar(t *testing.T) {
	root, dir, _ := tree(t)
	a := pack(t,
		file{"./", tar.TypeDir, "", 0},
		file{"d/", tar.TypeDir, "", 0o1770},
		file{"d/f", tar.TypeReg, "new", 0o4750},
		file{"d/s", tar.TypeSymlink, "f", 0},
		file{"d/h", tar.TypeLink, "d/f", 0},
		file{"d/p", tar.TypeFifo, "", 0o600},
		file{"deep/without/parents", tar.TypeReg, "x", 0o644},
	)
	if err := Untar(root, "/data/", a, Options{}); err != nil {
		t.Fatal(err)
	}
	at := func(p string) string { return filepath.Join(dir, "data", p) }
	st, err := os.Stat(at("d/f"))
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != 0o750|fs.ModeSetuid || !st.ModTime().Equal(when) {
		t.Errorf("%v %v", st.Mode(), st.ModTime())
	}
	if st, err = os.Stat(at("d")); err != nil || st.Mode() != fs.ModeDir|fs.ModeSticky|0o770 || !st.ModTime().Equal(when) {
		t.Errorf("%v %v: a directory's time is set after its content", st.Mode(), st.ModTime())
	}
	if l, _ := os.Readlink(at("d/s")); l != "f" {
		t.Error(l)
	}
	h, _ := os.Stat(at("d/h"))
	f, _ := os.Stat(at("d/f"))
	if !os.SameFile(h, f) {
		t.Error("the hard link is another file")
	}
	if p, _ := os.Stat(at("d/p")); p.Mode()&fs.ModeNamedPipe == 0 {
		t.Error("no FIFO")
	}
	if b, _ := os.ReadFile(at("deep/without/parents")); string(b) != "x" {
		t.Errorf("%q", b)
	}
}

func TestUntarFollowsLinksInsideOnly(t *testing.T) {
	root, dir, outside := tree(t)
	// "etc" through a link of the container's: followed, inside.
	if err := Untar(root, "/dirlink", pack(t, file{"x", tar.TypeReg, "1", 0o644}), Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "etc/x")); err != nil {
		t.Error(err)
	}
	for name, a := range map[string]*bytes.Buffer{
		"dots":            pack(t, file{"../../outside/evil", tar.TypeReg, "1", 0o644}),
		"absolute":        pack(t, file{outside + "/evil", tar.TypeReg, "1", 0o644}),
		"planted link":    pack(t, file{"l", tar.TypeSymlink, outside, 0}, file{"l/evil", tar.TypeReg, "1", 0o644}),
		"relative link":   pack(t, file{"r", tar.TypeSymlink, "../../outside", 0}, file{"r/evil", tar.TypeReg, "1", 0o644}),
		"link then file":  pack(t, file{"s", tar.TypeSymlink, outside + "/secret", 0}, file{"s", tar.TypeReg, "evil", 0o644}),
		"hard link out":   pack(t, file{"hl", tar.TypeLink, "../outside/secret", 0}, file{"hl", tar.TypeReg, "evil", 0o644}),
		"hard via a link": pack(t, file{"e", tar.TypeSymlink, outside, 0}, file{"hl2", tar.TypeLink, "e/secret", 0}),
	} {
		err := Untar(root, "/data", a, Options{})
		if b, _ := os.ReadFile(filepath.Join(outside, "secret")); string(b) != "host" {
			t.Fatalf("%s: the host's file was changed to %q", name, b)
		}
		if l, _ := os.ReadDir(outside); len(l) != 1 {
			t.Fatalf("%s: a file came out on the host (%v)", name, err)
		}
	}
	if err := Untar(root, "/escape", pack(t, file{"evil", tar.TypeReg, "1", 0o644}), Options{}); err == nil {
		t.Error("the destination itself led out")
	}
	if l, _ := os.ReadDir(outside); len(l) != 1 {
		t.Error("a file came out on the host")
	}
}

func TestUntarOverwrites(t *testing.T) {
	root, dir, _ := tree(t)
	strict := Options{NoOverwriteDirNonDir: true}
	for _, c := range []struct {
		name  string
		f     file
		o     Options
		words string
	}{
		{"file by file", file{"a", tar.TypeReg, "new", 0o644}, strict, ""},
		{"directory stays", file{"sub", tar.TypeDir, "", 0}, strict, ""},
		{"directory by file", file{"sub", tar.TypeReg, "x", 0o644}, strict, "cannot overwrite directory"},
		{"file by directory", file{"a", tar.TypeDir, "", 0}, strict, "cannot overwrite non-directory"},
		{"directory by file, allowed", file{"sub", tar.TypeReg, "x", 0o644}, Options{}, ""},
	} {
		err := Untar(root, "/etc", pack(t, c.f), c.o)
		if c.words == "" && err != nil || c.words != "" && (!errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "etc/a")); string(b) != "new" {
		t.Errorf("%q", b)
	}
	// The other name of what "a" was keeps the old content.
	if b, _ := os.ReadFile(filepath.Join(dir, "etc/hard")); string(b) != "AAA" {
		t.Errorf("%q", b)
	}
	if st, _ := os.Stat(filepath.Join(dir, "etc/sub")); st.IsDir() {
		t.Error("the directory is still there")
	}
}

func TestUntarRefuses(t *testing.T) {
	root, _, _ := tree(t)
	if err := Untar(root, "/etc/a", pack(t), Options{}); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "extraction point is not a directory") {
		t.Error(err)
	}
	if err := Untar(root, "/none", pack(t), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := Untar(root, "/data", strings.NewReader(strings.Repeat("x", 1024)), Options{}); !errors.Is(err, cnm.ErrInvalid) {
		t.Error(err)
	}
	if err := Untar(root, "/data", strings.NewReader("\xfd7zXZ\x00"), Options{}); !errors.Is(err, cnm.ErrUnsupported) {
		t.Error(err)
	}
	if err := Untar(root, "/data", strings.NewReader(""), Options{}); err != nil {
		t.Errorf("an empty body is an empty archive: %v", err)
	}
}

func TestUntarGzip(t *testing.T) {
	root, dir, _ := tree(t)
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := pack(t, file{"f", tar.TypeReg, "z", 0o644}).WriteTo(w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := Untar(root, "/data", &z, Options{}); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "data/f")); string(b) != "z" {
		t.Errorf("%q", b)
	}
}

// What goes out must come in the same.
func TestRoundTrip(t *testing.T) {
	root, dir, _ := tree(t)
	var a, again bytes.Buffer
	if err := Tar(root, "/etc/.", &a); err != nil {
		t.Fatal(err)
	}
	first := bytes.Clone(a.Bytes())
	if err := Untar(root, "/data", &a, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := Tar(root, "/data/.", &again); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(list(t, bytes.NewReader(first)), list(t, &again)); d != "" {
		t.Error(d)
	}
	_ = dir
}

func FuzzUntar(f *testing.F) {
	f.Add("../x", "../../outside/secret", byte(tar.TypeSymlink))
	f.Add("a/b", "/etc", byte(tar.TypeLink))
	f.Fuzz(func(t *testing.T, name, target string, kind byte) {
		root, _, outside := tree(t)
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if w.WriteHeader(&tar.Header{Name: name, Linkname: target, Typeflag: kind, Mode: 0o777, Uid: os.Getuid(), Gid: os.Getgid()}) != nil {
			return
		}
		_ = w.WriteHeader(&tar.Header{Name: name + "/evil", Typeflag: tar.TypeReg, Mode: 0o777, Uid: os.Getuid(), Gid: os.Getgid()})
		_ = w.Flush()
		_ = Untar(root, "/data", &b, Options{})
		if l, _ := os.ReadDir(outside); len(l) != 1 {
			t.Fatalf("%q -> %q came out on the host", name, target)
		}
	})
}
