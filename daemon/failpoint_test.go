package daemon

import (
	"context"
	"reflect"
	"slices"
	"testing"

	"linkspan/keeper"
)

// silent is a keeper that does nothing.
type silent struct{ keeper.Keeper }

// TestKeeperPoints: whatever changes the keeper is between two fail points. Calls of the
// silent keeper end in a nil dereference, after the first point.
func TestKeeperPoints(t *testing.T) {
	looks := []string{"Info", "Drain", "Streams", "Ports", "Views", "Tunnels"}
	var passed []string
	k := hooked(silent{}, func(p string) { passed = append(passed, p) })
	typ := reflect.TypeFor[keeper.Keeper]()
	for i := range typ.NumMethod() {
		m := typ.Method(i)
		passed = nil
		func() {
			defer func() { _ = recover() }()
			args := []reflect.Value{}
			for a := range m.Type.NumIn() {
				if m.Type.In(a) == reflect.TypeFor[context.Context]() {
					args = append(args, reflect.ValueOf(t.Context()))
				} else {
					args = append(args, reflect.Zero(m.Type.In(a)))
				}
			}
			reflect.ValueOf(k).MethodByName(m.Name).Call(args)
		}()
		if want := !slices.Contains(looks, m.Name); want != (len(passed) == 1) {
			t.Errorf("Keeper.%s passes %v", m.Name, passed)
		}
	}
	if hooked(silent{}, nil) != (silent{}) {
		t.Error("without fail points the keeper is wrapped")
	}
}
