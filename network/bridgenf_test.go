package network

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"linkspan/dataplane"
	"linkspan/driver"
)

// TestBridgeNF: the switches go off while nobody else may need them, with their
// values on record; they come back when somebody may, and hairpin ports follow.
func TestBridgeNF(t *testing.T) {
	var users []string
	key := func(name string) string { return dataplane.Sysctl{Name: name}.Key() }
	w := newWorld(t, func(w *world) {
		for _, name := range bridgeNF {
			w.kernel.Meddle(dataplane.Sysctl{Name: name, Value: "1"})
		}
		w.cfg.BridgeNFUsers = func(context.Context) ([]string, error) { return users, nil }
		w.cfg.Env = func() driver.Env {
			o, _ := w.kernel.State().Get(key(bridgeNF[0]))
			return driver.Env{Table: "linkspan_00000a", BridgeNF: o.(dataplane.Sysctl).Value == "1"}
		}
	})
	state := func() string {
		t.Helper()
		var said []string
		for _, name := range bridgeNF {
			o, ok := w.kernel.State().Get(key(name))
			if !ok {
				t.Fatalf("no %s", name)
			}
			said = append(said, o.(dataplane.Sysctl).Value)
		}
		for _, o := range w.kernel.State().All() {
			if v, ok := o.(dataplane.Veth); ok {
				said = append(said, fmt.Sprintf("hairpin %v", v.Hairpin))
			}
		}
		return strings.Join(said, " ")
	}
	w.join(on("web", "bridge", "8080:80"))
	if got := state(); got != "0 0 hairpin false" {
		t.Errorf("alone: %s", got)
	}
	for _, name := range bridgeNF {
		if w.shared[name] != "1" {
			t.Errorf("%s was %q by the record", name, w.shared[name])
		}
	}
	step := func(when, want string, who ...string) {
		t.Helper()
		users = who
		if err := w.BridgesChanged(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := state(); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	step("a bridge of another's", "1 1 hairpin true", "bridge virbr0")
	done := len(w.kernel.Log())
	step("one more", "1 1 hairpin true", "bridge virbr0", "bridge br0")
	if more := w.kernel.Log()[done:]; len(more) > 0 {
		t.Errorf("done for nothing: %v", more)
	}
	w.restart()
	if got := state(); got != "1 1 hairpin true" {
		t.Errorf("after a restart: %s", got)
	}
	step("alone again", "0 0 hairpin false")

	// Where somebody needs them from the start, they are not ours to touch.
	users = []string{"/etc/sysctl.d/99-k8s.conf"}
	other := newWorld(t, func(o *world) {
		o.kernel.Meddle(dataplane.Sysctl{Name: bridgeNF[0], Value: "1"})
		o.cfg.BridgeNFUsers = w.cfg.BridgeNFUsers
	})
	if _, changed := other.shared[bridgeNF[0]]; changed || slices.ContainsFunc(other.kernel.Log(), func(l string) bool { return strings.Contains(l, "bridge-nf") }) {
		t.Errorf("touched: %v", other.kernel.Log())
	}
}

// What another's bridge only switches is not guarded as if it were forwarded, from the
// moment that it is there.
func TestSwitched(t *testing.T) {
	users := []string{"bridge virbr0", "/etc/sysctl.conf"}
	w := newWorld(t, func(w *world) {
		w.kernel.Meddle(dataplane.Sysctl{Name: forward4, Value: "0"})
		w.cfg.BridgeNFUsers = func(context.Context) ([]string, error) { return users, nil }
	})
	if got := w.elements("switched"); len(got) != 1 || !strings.Contains(got[0], `"virbr0" . "virbr0"`) || len(w.elements("forward_guard")) != 1 {
		t.Errorf("%q", got)
	}
	users = append(users, "bridge lan")
	if err := w.BridgesChanged(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.elements("switched"); len(got) != 2 {
		t.Errorf("%q", got)
	}
	log := len(w.kernel.Log())
	if err := w.BridgesChanged(t.Context()); err != nil || len(w.kernel.Log()) != log {
		t.Errorf("nothing changed, and it did %q, %v", w.kernel.Log()[log:], err)
	}
}
