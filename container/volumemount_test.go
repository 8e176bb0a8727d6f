package container

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"

	"linkspan/cnm"
	"linkspan/volume"
)

// Volumes that are mounts: there while a container runs with them, and shared by
// those that run at the same time.
func TestMountedVolumes(t *testing.T) {
	w := newWorld(t)
	w.start()
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "there"), []byte("before\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	for name, o := range map[string]map[string]string{
		"tmpvol": {"type": "tmpfs", "device": "tmpfs", "o": "size=2m"}, "bindvol": {"type": "none", "device": source, "o": "bind"},
		"badvol": {"type": "none", "device": "/no/such", "o": "bind"},
	} {
		v, err := w.volumes.Create(t.Context(), volume.CreateRequest{Name: name, Options: o})
		if err != nil {
			t.Fatal(err)
		}
		at[name] = v.Mountpoint
	}
	binds := func(b ...string) func(*CreateRequest) {
		return func(r *CreateRequest) { r.HostConfig.Binds = b }
	}
	mounted := func(name string, want bool) {
		t.Helper()
		if ok, err := mountinfo.Mounted(at[name]); err != nil || ok != want {
			t.Errorf("%s is mounted: %v, %v", name, ok, err)
		}
	}
	one := w.run("one", "echo one > /t/f; echo two > /b/f; touch /t/done; sleep 1000", binds("tmpvol:/t", "bindvol:/b"))
	w.eventually("the file", func() bool { _, err := os.Stat(filepath.Join(at["tmpvol"], "done")); return err == nil })
	mounted("tmpvol", true)
	if code, out := w.output("two", "cat /t/f /b/f /b/there; df /t | tail -n 1", binds("tmpvol:/t", "bindvol:/b:ro")); code != 0 || !strings.HasPrefix(out, "one\ntwo\nbefore\n") {
		t.Errorf("%d %q", code, out)
	}
	mounted("tmpvol", true) // the first has it
	zero := 0
	if err := w.e.Stop(t.Context(), one, StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	mounted("tmpvol", false)
	mounted("bindvol", false)
	if b, err := os.ReadFile(filepath.Join(source, "f")); err != nil || string(b) != "two\n" {
		t.Errorf("%q %v", b, err)
	}
	// At rest, `docker cp` looks into the same.
	if st, err := w.e.StatPath(t.Context(), one, "/b/f"); err != nil || st.Size != 4 {
		t.Errorf("%+v %v", st, err)
	}
	mounted("bindvol", false)
	if _, _, err := w.e.Create(t.Context(), func() CreateRequest { r := request("bad", "true"); binds("badvol:/x")(&r); return r }()); !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "failed to mount local volume") {
		t.Errorf("a mount that fails: %v", err)
	}
	for _, c := range w.e.List() {
		w.remove(c.ID)
	}
	for name := range at {
		if err := w.volumes.Remove(t.Context(), name, false); err != nil {
			t.Error(err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(source, "there")); err != nil || string(b) != "before\n" {
		t.Errorf("after the volume's removal: %q %v", b, err)
	}
	w.clean()
}
