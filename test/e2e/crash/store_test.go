package crash

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// state is the daemon's state file.
func (v *victim) state() string { return filepath.Join(v.Data, "linkspan.db") }

// refuses: the daemon does not start, says all of the words, and leaves the state file
// as it is.
func (v *victim) refuses(words ...string) {
	v.t.Helper()
	before, _ := os.ReadFile(v.state())
	said := len(v.Log())
	if err := v.TryRun(); err == nil {
		v.t.Error("the daemon starts")
		v.Kill9()
		return
	}
	for _, w := range words {
		if !strings.Contains(v.Log()[said:], w) {
			v.t.Errorf("the daemon does not say %q:\n%s", w, v.Log()[said:])
		}
	}
	if now, _ := os.ReadFile(v.state()); !bytes.Equal(before, now) {
		v.t.Error("the refused state file was changed")
	}
}

// repair is linkspan doctor --repair-store.
func (v *victim) repair() daemontest.Result {
	v.t.Helper()
	return v.Linkspan("doctor", "--repair-store", "--data-root", v.Data, "--exec-root", v.Exec)
}

// TestStateFile: a data root that cannot be written, and a state file that is cut, has
// another byte, or is gone: the daemon says so and touches nothing, containers run on,
// and linkspan doctor --repair-store brings the state back, with the containers.
func TestStateFile(t *testing.T) {
	t.Parallel()
	v := start(t)
	lab.LeakCheck(t, v.Watches()...)
	t.Cleanup(v.RemoveAll)
	b := v.bystanders()
	v.Docker("network", "create", "--subnet", "172.30.0.0/24", "home")
	for i := range 12 { // pages of records
		v.Docker("create", "--name", fmt.Sprintf("rest%d", i), "--network", "home", "--ip", fmt.Sprintf("172.30.0.%d", 100+i), "busybox")
	}
	v.Docker("run", "-d", "--name", "athome", "--network", "home", "--ip", "172.30.0.10", "netprobe")
	b.watch("athome")
	names := v.Docker("ps", "-a", "--format", "{{.Names}}")
	if r := v.repair(); r.Code != 1 || !strings.Contains(r.Stderr, "not repaired beside a daemon") || !strings.Contains(r.Stderr, fmt.Sprint("process ", v.PID())) {
		t.Errorf("beside the daemon: %+v", r)
	}
	// A daemon that starts makes the good copy at once.
	v.Stop()
	_ = os.Remove(v.state() + ".good")
	v.Run()
	v.Until(10*time.Second, "the good copy is made", func() bool { _, err := os.Stat(v.state() + ".good"); return err == nil })
	v.Docker("network", "create", "later") // which the copy does not have
	v.Stop()
	if r := v.repair(); r.Code != 0 || !strings.Contains(r.Stdout, "is sound") {
		t.Errorf("a sound file: %+v", r)
	}

	t.Run("read-only", func(t *testing.T) {
		v := v.in(t)
		if err := unix.Mount(v.Data, v.Data, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("", v.Data, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		v.refuses(v.state(), "read-only file system", "remount,rw")
		if err := unix.Unmount(v.Data, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	})
	whole, err := os.ReadFile(v.state())
	if err != nil {
		t.Fatal(err)
	}
	used := bytes.LastIndexFunc(whole, func(r rune) bool { return r != 0 }) // what is claimed ahead is zeros
	seed := chance(t)
	r := rand.New(rand.NewPCG(seed, 1))
	page := os.Getpagesize()
	for name, damage := range map[string]func() []byte{
		"cut":          func() []byte { return whole[:used/2/page*page] },
		"cut anywhere": func() []byte { return whole[:100+r.IntN(used-page)] },
		"noise": func() []byte {
			d := bytes.Clone(whole)
			for i := used / 4 / page * page; i < used/4*3; i++ { // half of all pages: some may be free
				d[i] = byte(r.Uint32())
			}
			return d
		},
		"metas": func() []byte { d := bytes.Clone(whole); clear(d[:2*page]); return d },
		"empty": func() []byte { return []byte{} },
		"gone":  func() []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			v := v.in(t)
			data := damage()
			_ = os.Remove(v.state())
			if data != nil {
				if err := os.WriteFile(v.state(), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			v.refuses(v.state(), "linkspan doctor --repair-store --data-root "+v.Data)
			if !v.answers(7000) {
				t.Error("a published port does not answer without a daemon")
			}
			r := v.repair()
			if r.Code != 0 && r.Code != 2 || !strings.Contains(r.Stdout, "was damaged") || data != nil && !strings.Contains(r.Stdout, "It is kept as "+v.state()+".damaged-") {
				t.Errorf("doctor --repair-store: %+v", r)
			}
			v.Run()
			b.unharmed(v)
			if now := v.Docker("ps", "-a", "--format", "{{.Names}}"); now != names {
				t.Errorf("there are\n%s\nand were\n%s\n%s", now, names, r.Stdout)
			}
			if v.TryDocker("network", "inspect", "later").Code != 0 && !strings.Contains(r.Stdout, "networks") {
				t.Errorf("what is lost is not told:\n%s", r.Stdout)
			}
			v.asDeclared()
			v.Stop()
			// The copy shall be as old for the next.
			if err := os.WriteFile(v.state(), whole, 0o600); err != nil {
				t.Fatal(err)
			}
			kept, _ := filepath.Glob(v.state() + ".damaged-*")
			for _, k := range kept {
				_ = os.Remove(k)
			}
		})
	}
	v.Run()
	b.counted()
	v.Docker("network", "rm", "later")
}
