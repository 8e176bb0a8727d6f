package dataplane_test

import (
	"net/netip"
	"testing"

	"linkspan/dataplane"
)

// TestTouchOf: where an object lies is where news of it is, and nowhere else.
func TestTouchOf(t *testing.T) {
	const table = "lsptest"
	dst, ip := netip.MustParsePrefix("10.9.0.0/24"), netip.MustParseAddr("10.9.0.2")
	m := dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerNetwork, ID: "n"}}
	places := [][]dataplane.Object{
		{dataplane.Bridge{Name: "a"}, dataplane.Veth{Name: "a"}, dataplane.Foreign{Name: "a"}, dataplane.VXLAN{Name: "a"},
			dataplane.WireGuard{Name: "a"}, dataplane.FDB{Dev: "a"}, dataplane.Neighbour{Link: "a", Addr: ip},
			dataplane.Offload{Link: "a"}, dataplane.Addr{Link: "a", Prefix: dst}, dataplane.Up{Link: "a"}, dataplane.Route{Link: "a", Dst: dst}},
		{dataplane.Up{Link: "b"}},
		{dataplane.Route{Dst: dst, Unreachable: true}},
		{dataplane.Sysctl{Name: "net/ipv4/ip_forward"}},
		{dataplane.BridgeElement(m, table, "a")},
		{dataplane.EgressElement(m, table, "a")},
	}
	for i, at := range places {
		for _, o := range at {
			touch := dataplane.TouchOf(o)
			if touch.Empty() {
				t.Errorf("%s lies nowhere", o.Key())
			}
			for j, others := range places {
				for _, other := range others {
					if touch.Has(other) != (i == j) {
						t.Errorf("news of %s is news of %s: %v", o.Key(), other.Key(), i != j)
					}
				}
			}
		}
	}
	for _, o := range []dataplane.Object{dataplane.Addr{NS: "/x", Link: "a"}, dataplane.Up{NS: "/x", Link: "a"},
		dataplane.Route{NS: "/x", Link: "a"}, dataplane.Route{NS: "/x", Unreachable: true}, dataplane.Sysctl{NS: "/x", Name: "net/ipv4/ip_forward"}} {
		touch := dataplane.TouchOf(o)
		all := dataplane.Touch{All: true, Routes: true, Links: map[string]bool{"a": true}}
		if !touch.Empty() || all.Has(o) {
			t.Errorf("%s is in a sandbox, and news", o.Key())
		}
	}
	page, element := dataplane.TouchOf(dataplane.BasePage(table)), dataplane.BridgeElement(m, table, "a")
	if !page.Has(element) {
		t.Error("news of the page is not that of its elements")
	}
	if link := dataplane.TouchOf(dataplane.Up{Link: "a"}); !link.Has(dataplane.Sysctl{Name: "net/ipv4/conf/a/forwarding"}) {
		t.Error("news of a link is not that of its parameters")
	}
}
