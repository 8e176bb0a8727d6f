package netns

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"linkspan/probe"
)

func TestVisible(t *testing.T) {
	const root = "29 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
	for _, c := range []struct {
		what, ours, theirs string
		want               bool
	}{
		{"a copy whose mounts are peers", root, root, true},
		{"a copy with private mounts", "40 39 254:1 / / rw,relatime - ext4 /dev/vda rw\n", root, false},
		{"a copy that follows, as systemd makes it", "40 39 254:1 / / rw,relatime master:1 - ext4 /dev/vda rw\n", root, false},
		{"that shares its own folder with its copies", "40 39 254:1 / / rw,relatime master:1 - ext4 /dev/vda rw\n" +
			"50 40 254:1 /run/x/netns /run/x/netns rw shared:77 master:1 - ext4 /dev/vda rw\n", root, false},
		{"what the first process follows", "40 39 254:1 / / rw shared:5 - ext4 /dev/vda rw\n", "29 1 254:1 / / rw master:5 - ext4 /dev/vda rw\n", true},
		{"another mount on the way", root, root + "30 29 0:5 / /run rw shared:2 - tmpfs none rw\n", false},
		{"both have it", root + "30 29 0:5 / /run rw shared:2 - tmpfs none rw\n", root + "30 29 0:5 / /run rw shared:2 - tmpfs none rw\n", true},
	} {
		dir := t.TempDir()
		ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
		for name, text := range map[string]string{ours: c.ours, theirs: c.theirs} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := visible("/run/x/netns", ours, theirs); err != nil || got != c.want {
			t.Errorf("%s: %v %v", c.what, got, err)
		}
	}
	if _, err := Visible("/no/such"); err == nil {
		t.Error("a folder that is not there is visible")
	}
}

// In the test's own mount namespace, and in a private copy of it.
func TestVisibleHere(t *testing.T) {
	probe.Require(t, probe.Root)
	dir := t.TempDir()
	if err := Prepare(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Dismantle(dir); err != nil {
			t.Error(err)
		}
	})
	here, err := Visible(dir)
	if errors.Is(err, fs.ErrPermission) { // not even root may look at the first process everywhere
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	// We are where the first process is, or in a copy that it does not follow.
	if m, _ := mountOf("/proc/1/mountinfo", dir); here != (m.point == dir) {
		t.Errorf("visible %v, and the first process has it at %s", here, m.point)
	}
	type answer struct {
		seen bool
		err  error
	}
	apart := make(chan answer)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine: it is not for others
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = Prepare(dir)
		}
		seen := false
		if err == nil {
			seen, err = Visible(dir)
		}
		apart <- answer{seen, err}
	}()
	if a := <-apart; a.err != nil || a.seen {
		t.Errorf("a private copy is visible: %v %v", a.seen, a.err)
	}
}
