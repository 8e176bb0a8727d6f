package wireguard

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/cnm"
)

func openKeys(t *testing.T, dir string) *Keys {
	t.Helper()
	k, err := OpenKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func files(t *testing.T, dir string) string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range all {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// TestKeys: made once, kept, changed in steps of which each survives a restart.
func TestKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mesh")
	first := openKeys(t, dir).Current()
	if first.IsZero() || files(t, dir) != "wireguard.key" {
		t.Fatalf("at first use: %s", files(t, dir))
	}
	k := openKeys(t, dir)
	if k.Current() != first || !k.Next().IsZero() {
		t.Fatal("another key after a restart")
	}
	next, err := k.Begin()
	if err != nil || next == first || k.Current() != first {
		t.Fatalf("begin: %v", err)
	}
	if k = openKeys(t, dir); k.Current() != first || k.Next() != next {
		t.Fatal("a change that was begun is not there after a restart")
	}
	if err := k.Finish(); err != nil || k.Current() != next || !k.Next().IsZero() {
		t.Fatalf("finish: %v", err)
	}
	if err := k.Finish(); err != nil || k.Current() != next {
		t.Fatalf("finish again: %v", err)
	}
	if k = openKeys(t, dir); k.Current() != next || !k.Next().IsZero() || files(t, dir) != "wireguard.key" {
		t.Fatalf("after the change: %s", files(t, dir))
	}
	if _, err := k.Begin(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := k.Abandon(); err != nil {
			t.Fatal(err)
		}
	}
	if k = openKeys(t, dir); k.Current() != next || !k.Next().IsZero() {
		t.Fatal("what was abandoned is there")
	}
	if made, err := k.Made(); err != nil || made.IsZero() {
		t.Errorf("made %v, %v", made, err)
	}
}

// TestKeyFileBroken: a file that holds no key is not replaced by another key in silence,
// since the others know this host by it; what is left of a change and what a crash left
// do not stand in the way.
func TestKeyFileBroken(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "wireguard.key")
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("wireguard.key", "garbage\n", 0o600)
	if _, err := OpenKeys(dir); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "garbage") {
		t.Errorf("garbage: %v", err)
	}
	k := newKey(t)
	write("wireguard.key", k.Secret()+"\n", 0o644)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	write("wireguard.key.next", "half a ke", 0o600)
	write("wireguard.key.tmp123", k.Secret()[:20], 0o600)
	if got := openKeys(t, dir); got.Current() != k || !got.Next().IsZero() {
		t.Error("the key is another")
	}
	if got := files(t, dir); got != "wireguard.key" {
		t.Errorf("left: %s", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeys(dir); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("a folder: %v", err)
	}
}
