package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/probe"
	"linkspan/store/mem"
)

func mountStore(t *testing.T) *Store {
	t.Helper()
	probe.Require(t, probe.Root)
	db := mem.New(mem.Options{})
	t.Cleanup(func() { db.Close() })
	s, err := New(t.Context(), Config{Root: filepath.Join(t.TempDir(), "volumes"), Store: db})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mounted(t *testing.T, at string) bool {
	t.Helper()
	ok, err := mountinfo.Mounted(at)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return ok
}

func TestMount(t *testing.T) {
	s := mountStore(t)
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "mine"), []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for name, o := range map[string]map[string]string{
		"tmp":   {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=750,uid=33,noexec"},
		"bound": {"type": "none", "device": source, "o": "bind,ro"},
	} {
		v, err := s.Create(ctx, CreateRequest{Name: name, Options: o})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unmount(v.Mountpoint) })
		if mounted(t, v.Mountpoint) {
			t.Errorf("%s is mounted before anybody needs it", name)
		}
		for range 2 { // twice is once
			if err := s.Mount(ctx, name); err != nil {
				t.Fatal(err)
			}
		}
		if !mounted(t, v.Mountpoint) {
			t.Fatalf("%s is not mounted", name)
		}
		if _, err := s.Size(ctx, name); err == nil {
			t.Errorf("%s was counted", name)
		}
		if err := s.Unmount(ctx, name, func() bool { return true }); err != nil || !mounted(t, v.Mountpoint) {
			t.Errorf("%s in use was unmounted: %v", name, err)
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.mountpoint("tmp"), &fs); err != nil || fs.Type != unix.TMPFS_MAGIC || fs.Flags&unix.ST_NOEXEC == 0 || fs.Blocks*uint64(fs.Bsize) != 1<<20 {
		t.Errorf("the tmpfs: %+v %v", fs, err)
	}
	if err := os.WriteFile(filepath.Join(s.mountpoint("bound"), "x"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("a read-only bind takes a file: %v", err)
	}
	if err := s.Unmount(ctx, "bound", nil); err != nil || mounted(t, s.mountpoint("bound")) {
		t.Errorf("unmount: %v", err)
	}
	if err := s.Unmount(ctx, "bound", nil); err != nil {
		t.Errorf("twice: %v", err)
	}
	// A volume that is removed while it is mounted leaves what it shows alone.
	if err := s.Mount(ctx, "bound"); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"bound", "tmp"} {
		if err := s.Remove(ctx, n, false); err != nil {
			t.Error(err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(source, "mine")); err != nil || string(b) != "precious" {
		t.Errorf("the removal of a volume took what it was a mount of: %q %v", b, err)
	}
}

// What a person mounted in a volume is not deleted with it.
func TestForeignMount(t *testing.T) {
	s := mountStore(t)
	v, err := s.Create(t.Context(), CreateRequest{Name: "vol"})
	if err != nil {
		t.Fatal(err)
	}
	source, at := t.TempDir(), filepath.Join(v.Mountpoint, "here")
	if err := errors.Join(os.WriteFile(filepath.Join(source, "mine"), nil, 0o644), os.Mkdir(at, 0o755), unix.Mount(source, at, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unmount(at) })
	if err := s.Remove(t.Context(), "vol", true); err == nil || !strings.Contains(err.Error(), at) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(source, "mine")); err != nil {
		t.Error(err)
	}
	if err := unmount(at); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), "vol", true); err != nil {
		t.Error(err)
	}
}

func TestMountFails(t *testing.T) {
	s := mountStore(t)
	for name, o := range map[string]map[string]string{
		"gone": {"type": "none", "device": "/no/such/folder", "o": "bind"},
		"kind": {"type": "nosuchfs", "device": "x"},
		"host": {"type": "nfs", "device": ":/x", "o": "addr=no.such.host.invalid"},
		"pass": {"type": "nosuchfs", "device": "x", "o": "username=a,password=secret"},
	} {
		if _, err := s.Create(t.Context(), CreateRequest{Name: name, Options: o}); err != nil {
			t.Fatal(err)
		}
		err := s.Mount(t.Context(), name)
		if !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "volume "+name+": failed to mount local volume") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
		if mounted(t, s.mountpoint(name)) {
			t.Errorf("%s is mounted", name)
		}
	}
	if err := s.Mount(t.Context(), "nobody"); !errors.Is(err, cnm.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if err := s.Unmount(t.Context(), "nobody", nil); err != nil {
		t.Errorf("%v", err)
	}
}

func TestParseOptions(t *testing.T) {
	for _, c := range []struct {
		o            string
		flags, again uintptr
		data         string
	}{
		{"", 0, 0, ""},
		{"ro,noexec,size=1m", unix.MS_RDONLY | unix.MS_NOEXEC, 0, "size=1m"},
		{"ro,rw", 0, 0, ""},
		{"bind", unix.MS_BIND, 0, ""},
		{"bind,ro,nosuid", unix.MS_BIND, unix.MS_RDONLY | unix.MS_NOSUID, ""},
		{"rbind,rslave", unix.MS_BIND | unix.MS_REC, unix.MS_SLAVE | unix.MS_REC, ""},
		{"addr=1.2.3.4,rw,nfsvers=4", 0, 0, "addr=1.2.3.4,nfsvers=4"},
		{"defaults,,uid=1", 0, 0, "uid=1"},
	} {
		flags, again, data := parseOptions(c.o)
		if flags != c.flags || again != c.again || data != c.data {
			t.Errorf("%q: %x %x %q, want %x %x %q", c.o, flags, again, data, c.flags, c.again, c.data)
		}
	}
}

func TestResolveAddr(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for in, want := range map[string]string{
		"rw": "rw", "addr=10.0.0.1,rw": "addr=10.0.0.1,rw", "addr=::1": "addr=::1",
	} {
		if got, err := resolveAddr(ctx, in); err != nil || got != want {
			t.Errorf("%q: %q %v", in, got, err)
		}
	}
	if got, err := resolveAddr(ctx, "rw,addr=localhost"); err != nil || got != "rw,addr=127.0.0.1" && got != "rw,addr=::1" {
		t.Errorf("localhost: %q %v", got, err)
	}
}
