package network

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// TestBorrowedGivenBack: the one parameter that is set on a person's bridge is what it
// was when no network is on it, before what guards it goes; and again after a kill.
func TestBorrowedGivenBack(t *testing.T) {
	w := newWorld(t)
	w.kernel.StrangerLink("br7", dataplane.HostLink{Bridge: true, MTU: 1500})
	sysctl := dataplane.Sysctl{Name: "net/ipv4/conf/br7/route_localnet"}
	value := func() string {
		t.Helper()
		o, ok := w.kernel.State().Get(sysctl.Key())
		if !ok {
			return "none"
		}
		return o.(dataplane.Sysctl).Value
	}
	wish := NetworkWish{Name: "lan", Pools: []cnm.Pool{{Subnet: netip.MustParsePrefix("10.97.0.0/24")}}, Options: map[string]string{optBridgeName: "br7"}}
	for range 2 { // and borrowed once more
		if _, _, err := w.CreateNetwork(t.Context(), wish); err != nil {
			t.Fatal(err)
		}
		if got := value(); got != "1" {
			t.Errorf("borrowed: %s", got)
		}
		done := len(w.kernel.Log())
		if err := w.RemoveNetwork(t.Context(), "lan"); err != nil {
			t.Fatal(err)
		}
		log := w.kernel.Log()[done:]
		back := slices.Index(log, "change "+sysctl.Key())
		guard := slices.IndexFunc(log, func(l string) bool {
			return strings.HasPrefix(l, "delete element") && strings.Contains(l, " borrowed ")
		})
		if value() != "0" || back < 0 || guard < back {
			t.Errorf("removed: %s, set back at %d, guard gone at %d of %v", value(), back, guard, log)
		}
	}
	// A kill came before it was set back.
	sysctl.Value = "1"
	w.kernel.Meddle(sysctl)
	w.restart()
	if got := value(); got != "0" {
		t.Errorf("after a restart: %s", got)
	}
	// The person has deleted the bridge meanwhile.
	w.kernel.Lose("link br7")
	if _, err := w.Reconcile(t.Context(), false); err != nil {
		t.Error(err)
	}
}
