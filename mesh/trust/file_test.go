package trust

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/probe"
)

// TestFullDisk: a certificate that cannot be written leaves the old one in use, in memory
// and on disk, and nothing beside it.
func TestFullDisk(t *testing.T) {
	probe.Require(t, probe.Root)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	ca := testCA(t)
	f := Folder(filepath.Join(dir, "tls"))
	k := key(t)
	leaf, err := ca.Issue(Subject{ID: "h1", Name: "host1"}, k.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.SaveCA(ca), f.SaveHost(ca, leaf, k)); err != nil {
		t.Fatal(err)
	}
	i, err := f.Identity()
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(f.HostFile())
	if err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	_ = os.WriteFile(ballast, make([]byte, 128<<10), 0o600) // as much as there is room for

	_, err = i.renewHere(ca, time.Now())
	if !errors.Is(err, cnm.ErrUnavailable) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), f.HostFile()+" was not written") {
		t.Errorf("%v", err)
	}
	if !i.Certificate().Equal(leaf) {
		t.Error("one is in use that was not kept")
	}
	after, err := os.ReadFile(f.HostFile())
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file is another: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(string(f), "*.new-*")); len(left) != 0 {
		t.Errorf("it left %v", left)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if _, err := i.renewHere(ca, time.Now()); err != nil || i.Certificate().Equal(leaf) {
		t.Errorf("with room: %v", err)
	}
}
