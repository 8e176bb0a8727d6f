package host

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"linkspan/cnm"
)

func example() *State {
	return &State{Format: stateFormat, Phase: PhaseJoined, Mesh: "7d2f6b1c", Host: "a1", Name: "host1", Listen: netip.MustParseAddr("10.0.0.1"), Role: RoleMember,
		Voters: 3, Ports: DefaultPorts, Endpoints: []string{"10.0.0.1:2379"}, Gates: []string{"10.0.0.1:2380"}}
}

func TestState(t *testing.T) {
	root := t.TempDir()
	var points []string
	f := folder{Folder(root), func(p string) { points = append(points, p) }}
	if s, err := f.load(); s != nil || err != nil {
		t.Fatalf("nothing is there: %+v %v", s, err)
	}
	st, err := f.fresh()
	if err != nil {
		t.Fatal(err)
	}
	want := example()
	if err := st.save(want); err != nil {
		t.Fatal(err)
	}
	if s, _ := f.load(); s != nil {
		t.Errorf("before it was taken: %+v", s)
	}
	if err := f.take(); err != nil {
		t.Fatal(err)
	}
	got, err := f.load()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	if fi, err := os.Stat(f.config()); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", fi, err)
	}
	if fi, err := os.Stat(f.tls()); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", fi, err)
	}
	c := got.clone()
	c.Endpoints[0] = "x"
	if got.Endpoints[0] == "x" {
		t.Error("a clone shares")
	}
	if err := f.remove(); err != nil {
		t.Fatal(err)
	}
	if err := f.remove(); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if left, _ := os.ReadDir(root); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	for _, p := range []string{"mesh.staging.before", "mesh.config.after", "mesh.take.before", "mesh.remove.after"} {
		if !strings.Contains(strings.Join(points, " "), p) {
			t.Errorf("no point %s in %v", p, points)
		}
	}
}

// TestKilled: at whatever point the process dies, the next one finds a folder or none,
// and each with all that belongs to it.
func TestKilled(t *testing.T) {
	type death struct{ point string }
	for n := 0; ; n++ {
		root := t.TempDir()
		left := n
		f := folder{Folder(root), func(p string) {
			if left--; left < 0 {
				panic(death{p})
			}
		}}
		died := ""
		func() {
			defer func() {
				if d, ok := recover().(death); ok {
					died = d.point
				}
			}()
			st, err := f.fresh()
			if err == nil {
				err = st.save(example())
			}
			if err == nil {
				err = f.take()
			}
			if err == nil {
				err = f.save(example())
			}
			if err == nil {
				err = f.remove()
			}
			if err != nil {
				t.Fatal(err)
			}
		}()
		next := folder{path: Folder(root)}
		s, err := next.load()
		if err != nil || s != nil && !reflect.DeepEqual(s, example()) {
			t.Errorf("killed at %s: %+v %v", died, s, err)
		}
		if err := next.sweep(); err != nil {
			t.Error(err)
		}
		if was, err := Removed(root); err != nil || (was != "") != (s != nil) {
			t.Errorf("killed at %s: was %q, %v", died, was, err)
		}
		if left, _ := os.ReadDir(root); len(left) != 0 {
			t.Errorf("killed at %s: left %v", died, left)
		}
		if died == "" {
			if n < 8 {
				t.Errorf("%d points only", n)
			}
			return
		}
	}
}

func TestDamagedState(t *testing.T) {
	for data, want := range map[string]string{
		"":               "is damaged",
		"{":              "is damaged",
		`{"format":99}`:  "newer Linkspan (format 99",
		`{"listen":"x"}`: "is damaged",
	} {
		f := folder{path: Folder(t.TempDir())}
		if err := os.MkdirAll(f.path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.config(), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.load(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), f.config()) {
			t.Errorf("%q: %v", data, err)
		}
	}
	// A folder that cannot be made is told with its name.
	f := folder{path: filepath.Join("/proc/nothing", "mesh")}
	if _, err := f.fresh(); err == nil || !strings.Contains(err.Error(), "/proc/nothing/mesh") || !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}
