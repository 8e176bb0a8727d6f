package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"linkspan/probe"
)

// layerEntries reads a compressed layer.
func layerEntries(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(r)
	must(t, err)
	return entries(t, zip)
}

// entries reads a layer as one line per entry.
func entries(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	out := map[string]string{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if _, double := out[h.Name]; double {
			t.Errorf("%s is in the layer twice", h.Name)
		}
		line := fmt.Sprintf("%c %o", h.Typeflag, h.Mode)
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		if len(data) > 0 {
			line += " " + string(data)
		}
		for k, v := range h.PAXRecords {
			if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
				line += " " + name + "=" + v
			}
		}
		if h.Uname != "" || h.Gname != "" {
			t.Errorf("%s carries a user name of the build host", h.Name)
		}
		out[h.Name] = line
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sample(t *testing.T) string {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "usr/bin/tool"), []byte("bytes"), 0o755))
	must(t, os.Chmod(filepath.Join(dir, "usr/bin/tool"), 0o755|os.ModeSetuid))
	must(t, os.Link(filepath.Join(dir, "usr/bin/tool"), filepath.Join(dir, "usr/bin/zlink")))
	must(t, os.Symlink("usr/bin", filepath.Join(dir, "bin")))
	must(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o755))
	must(t, os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky))
	return dir
}

func TestWriteLayer(t *testing.T) {
	dir := sample(t)
	var buf bytes.Buffer
	must(t, writeLayer(dir, &buf))
	got := entries(t, &buf)
	for name, want := range map[string]string{
		"usr/":          "5 755",
		"usr/bin/tool":  "0 4755 bytes",
		"usr/bin/zlink": "1 4755 -> usr/bin/tool",
		"bin":           "2 777 -> usr/bin",
		"tmp/":          "5 1777",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
		delete(got, name)
	}
	delete(got, "usr/bin/")
	if len(got) > 0 {
		t.Errorf("also in the layer: %v", got)
	}
}

// What overlayfs says of things removed must reach the layer in the image's
// words. A kernel since 5.8 lets anybody make the 0/0 device.
func TestWriteLayerWhiteout(t *testing.T) {
	dir := sample(t)
	if err := syscall.Mknod(filepath.Join(dir, "usr/gone"), syscall.S_IFCHR, 0); err != nil {
		t.Fatalf("mknod of a whiteout: %v", err)
	}
	var buf bytes.Buffer
	must(t, writeLayer(dir, &buf))
	got := entries(t, &buf)
	if got["usr/.wh.gone"] != "0 600" || got["usr/gone"] != "" {
		t.Errorf("whiteout became %q, %q", got["usr/.wh.gone"], got["usr/gone"])
	}
}

func TestWriteLayerAttributes(t *testing.T) {
	probe.Require(t, probe.Root)
	dir := sample(t)
	// cap_net_raw+ep, as ping carries it (capability.h, VFS_CAP_REVISION_2).
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	must(t, syscall.Setxattr(filepath.Join(dir, "usr/bin/tool"), "security.capability", []byte(capability), 0))
	must(t, syscall.Setxattr(filepath.Join(dir, "usr"), "trusted.overlay.opaque", []byte("y"), 0))
	must(t, syscall.Setxattr(filepath.Join(dir, "tmp"), "trusted.overlay.impure", []byte("y"), 0))
	var buf bytes.Buffer
	must(t, writeLayer(dir, &buf))
	got := entries(t, &buf)
	if !strings.Contains(got["usr/bin/tool"], "security.capability="+capability) {
		t.Errorf("the file capability is lost: %q", got["usr/bin/tool"])
	}
	if got["usr/.wh..wh..opq"] == "" {
		t.Error("the opaque folder is not marked")
	}
	if strings.Contains(got["tmp/"]+got["usr/"], "overlay") {
		t.Errorf("overlayfs's own attributes are in the layer: %q %q", got["tmp/"], got["usr/"])
	}
}

func TestPackLayerIsReproducible(t *testing.T) {
	dir := sample(t)
	when := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	var infos []layerInfo
	for _, name := range []string{"one", "two"} {
		target := filepath.Join(t.TempDir(), name)
		must(t, os.Chtimes(filepath.Join(dir, "usr/bin/tool"), time.Now(), when))
		info, err := packLayer(dir, target)
		must(t, err)
		data, err := os.ReadFile(target)
		must(t, err)
		if info.Digest != digestOf(data) || info.Size != int64(len(data)) {
			t.Errorf("digest and size are not the file's: %+v", info)
		}
		zip, err := gzip.NewReader(bytes.NewReader(data))
		must(t, err)
		plain, err := io.ReadAll(zip)
		must(t, err)
		if info.DiffID != digestOf(plain) {
			t.Error("the diff id is not the tar's digest")
		}
		infos = append(infos, info)
	}
	if infos[0].Digest != infos[1].Digest || infos[0].DiffID != infos[1].DiffID {
		t.Errorf("two packs of one folder differ: %+v", infos)
	}
}

func TestCopyFiles(t *testing.T) {
	dir := t.TempDir()
	must(t, copyFiles("files/mysql/root", dir))
	for name, mode := range map[string]os.FileMode{
		"usr/local/bin/docker-entrypoint.sh":    0o755,
		"etc/mysql/mariadb.conf.d/90-image.cnf": 0o644,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), mode)
		}
	}
	// A layer without files of its own is no error.
	must(t, copyFiles("files/none/root", filepath.Join(dir, "none")))
}
