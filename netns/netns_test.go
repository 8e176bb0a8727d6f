package netns_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"linkspan/netns"
	"linkspan/probe"
)

// pins is a folder for pins that the test leaves without any.
func pins(t *testing.T) string {
	t.Helper()
	probe.Require(t, probe.Root, probe.NetNS)
	dir := filepath.Join(t.TempDir(), "pins")
	t.Cleanup(func() {
		if err := netns.Dismantle(dir); err != nil {
			t.Error(err)
		}
		if b, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(b), dir) {
			t.Errorf("a mount is left below %s", dir)
		}
	})
	return dir
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// TestLife: make, look, enter, remove; each twice where that must be success.
func TestLife(t *testing.T) {
	dir := pins(t)
	p := filepath.Join(dir, "web")
	if err := netns.Create(p); err != nil {
		t.Fatal(err)
	}
	if err := netns.Create(p); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	ino, err := netns.Inode(p)
	own, err2 := netns.Own()
	if err != nil || err2 != nil || ino == own || ino == 0 {
		t.Errorf("inode %d, own %d: %v %v", ino, own, err, err2)
	}
	err = netns.Do(p, func() error {
		if got := inode(t, "/proc/thread-self/ns/net"); got != ino {
			t.Errorf("inside is %d, want %d", got, ino)
		}
		out, err := exec.Command("ip", "-o", "link").CombinedOutput()
		if err != nil || strings.Count(string(out), "\n") < 1 || !strings.Contains(string(out), "LOOPBACK,UP") {
			t.Errorf("a program sees %s %v", out, err)
		}
		return fs.ErrInvalid
	})
	if !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("fn's error: %v", err)
	}
	if got, _ := netns.List(dir); len(got) != 1 || got[0] != p {
		t.Errorf("list: %q", got)
	}
	for range 2 {
		if err := netns.Remove(p); err != nil {
			t.Error(err)
		}
	}
	if _, err := netns.Inode(p); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("inode of nothing: %v", err)
	}
	if err := netns.Do(p, func() error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("entered nothing: %v", err)
	}
}

// TestLeftovers: a plain file, as a kill or a reboot leaves it, is no pin; it is
// used by the next create, and removed.
func TestLeftovers(t *testing.T) {
	dir := pins(t)
	if err := netns.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, "web")
	if err := os.WriteFile(p, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if got, err := netns.List(dir); len(got) != 0 || err != nil {
		t.Errorf("list: %q %v", got, err)
	}
	if _, err := netns.Open(p); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "plain file") {
		t.Errorf("opened a plain file: %v", err)
	}
	if err := netns.Create(p); err != nil {
		t.Fatal(err)
	}
	// Pins stacked on each other all go.
	if err := unix.Mount("/proc/self/ns/net", p, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := netns.Remove(p); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
	if got, err := netns.List(filepath.Join(dir, "nowhere")); got != nil || err != nil {
		t.Errorf("list of no folder: %q %v", got, err)
	}
}

// TestPinSelf: host mode's pin is the daemon's own namespace.
func TestPinSelf(t *testing.T) {
	dir := pins(t)
	p := filepath.Join(dir, "host")
	for range 2 {
		if err := netns.PinSelf(p); err != nil {
			t.Fatal(err)
		}
	}
	own, _ := netns.Own()
	if ino, err := netns.Inode(p); ino != own || err != nil {
		t.Errorf("pinned %d, own %d, %v", ino, own, err)
	}
	other := filepath.Join(dir, "other")
	if err := netns.Create(other); err != nil {
		t.Fatal(err)
	}
	if err := netns.PinSelf(other); !errors.Is(err, fs.ErrExist) {
		t.Errorf("pinned over another: %v", err)
	}
}

// TestCopiesSeeRemoval: a mount namespace copied after Prepare loses the pin when
// we remove it; else the namespace would live on in there.
func TestCopiesSeeRemoval(t *testing.T) {
	dir := pins(t)
	p := filepath.Join(dir, "web")
	if err := netns.Create(p); err != nil {
		t.Fatal(err)
	}
	count := "grep -c " + p + " /proc/self/mountinfo"
	// As a shim's mount namespace: propagation stays as it was.
	cmd := exec.Command("unshare", "--mount", "--propagation", "unchanged", "sh", "-c", count+"; read x; "+count)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	n, _ := out.Read(b)
	if err := netns.Remove(p); err != nil {
		t.Error(err)
	}
	in.Close()
	m, _ := out.Read(b[n:])
	cmd.Wait()
	if got := strings.Fields(string(b[:n+m])); len(got) != 2 || got[0] != "1" || got[1] != "0" {
		t.Errorf("the copy saw %q pins before and after, want 1 and 0", got)
	}
}

// TestThreadsComeBack: after many entries from many goroutines, every thread of
// this process is in the namespace it started in.
func TestThreadsComeBack(t *testing.T) {
	dir := pins(t)
	own, err := netns.Own()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := netns.Prepare(dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if b, _ := os.ReadFile("/proc/self/mountinfo"); strings.Count(string(b), " "+dir+" ") > 1 {
		t.Error("mounted more than once")
	}
	for i := range 8 {
		wg.Go(func() {
			p := filepath.Join(dir, string(rune('a'+i)))
			if err := netns.Create(p); err != nil {
				t.Error(err)
				return
			}
			for range 20 {
				if err := netns.Do(p, func() error { runtime.Gosched(); return nil }); err != nil {
					t.Error(err)
				}
			}
			if err := netns.Remove(p); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		var st unix.Stat_t
		err := unix.Stat("/proc/self/task/"+task.Name()+"/ns/net", &st)
		if err == nil && st.Ino != own {
			t.Errorf("thread %s is in namespace %d, not %d", task.Name(), st.Ino, own)
		}
	}
}

// TestPanic: a panic inside reaches the caller, and its thread is thrown away.
func TestPanic(t *testing.T) {
	dir := pins(t)
	p := filepath.Join(dir, "web")
	if err := netns.Create(p); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if r := recover(); r != "boom" {
				t.Errorf("recovered %v", r)
			}
		}()
		netns.Do(p, func() error { panic("boom") })
	}()
	own, err := netns.Own()
	if got := inode(t, "/proc/self/ns/net"); err != nil || got != own {
		t.Errorf("main thread in %d, own %d, %v", got, own, err)
	}
}

// TestCreateWith: fn runs inside; its error is told, the pin stays for the caller
// to remove.
func TestCreateWith(t *testing.T) {
	dir := pins(t)
	p := filepath.Join(dir, "web")
	err := netns.CreateWith(p, func() error {
		ino, err := netns.Inode(p)
		if here := inode(t, "/proc/thread-self/ns/net"); err != nil || here != ino {
			t.Errorf("fn runs in %d, not %d (%v)", here, ino, err)
		}
		return fs.ErrPermission
	})
	if !errors.Is(err, fs.ErrPermission) || !netns.Pinned(p) {
		t.Errorf("%v, pinned %v", err, netns.Pinned(p))
	}
}

// TestUnpinned: a namespace that only a descriptor holds gets a path once, and
// lives on by the path alone; without one it is gone with the descriptor.
func TestUnpinned(t *testing.T) {
	dir := pins(t)
	var ino uint64
	ns, err := netns.Unpinned(func() error { ino = inode(t, "/proc/thread-self/ns/net"); return nil })
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, "web")
	if err := netns.Pin(ns, p); err != nil {
		t.Fatal(err)
	}
	if err := netns.Pin(ns, p); !errors.Is(err, fs.ErrExist) {
		t.Errorf("pinned twice: %v", err)
	}
	if err := ns.Close(); err != nil {
		t.Error(err)
	}
	got, err := netns.Inode(p)
	if own, _ := netns.Own(); err != nil || got != ino || got == own {
		t.Errorf("inode %d, made %d, own %d: %v", got, ino, own, err)
	}
	if err := netns.Do(p, func() error {
		out, err := exec.Command("ip", "-o", "link", "show", "lo").Output()
		if err == nil && !strings.Contains(string(out), "UP") {
			t.Errorf("lo is down: %s", out)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	ns, err = netns.Unpinned(func() error { return fs.ErrPermission })
	if !errors.Is(err, fs.ErrPermission) || ns != nil {
		t.Errorf("after a failure: %v, %v", ns, err)
	}
}

// TestFolderKept: taking down a folder that holds something else leaves that.
func TestFolderKept(t *testing.T) {
	dir := pins(t)
	if err := netns.Create(filepath.Join(dir, "web")); err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(dir, "note")
	if err := os.WriteFile(note, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := netns.Dismantle(dir); err != nil {
			t.Error(err)
		}
	}
	if err := os.Remove(note); err != nil {
		t.Error(err)
	}
}

func BenchmarkCreateRemove(b *testing.B) {
	probe.Require(b, probe.Root, probe.NetNS)
	dir := filepath.Join(b.TempDir(), "pins")
	defer netns.Dismantle(dir)
	p := filepath.Join(dir, "web")
	for b.Loop() {
		if err := netns.Create(p); err != nil {
			b.Fatal(err)
		}
		if err := netns.Remove(p); err != nil {
			b.Fatal(err)
		}
	}
}
