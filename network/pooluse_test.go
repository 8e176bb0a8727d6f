package network

import (
	"net/netip"
	"testing"
)

// TestPoolUse: networks by name, each subnet with what is used of it.
func TestPoolUse(t *testing.T) {
	w := newWorld(t)
	before := len(w.PoolUse())
	yes := true
	n, _, err := w.CreateNetwork(t.Context(), NetworkWish{Name: "aaa", IPv6: &yes})
	if err != nil {
		t.Fatal(err)
	}
	all := w.PoolUse()
	if len(all) != before+2 || all[0].Network != "aaa" || all[1].Network != "aaa" || !all[0].Subnet.Addr().Is4() || !all[1].Subnet.Addr().Is6() {
		t.Fatalf("%+v", all)
	}
	if all[0].Used != 0 || all[0].Free == 0 || all[1].Free < 1<<20 {
		t.Errorf("%+v", all[:2])
	}
	if _, err := w.Join(t.Context(), Request{ContainerID: "c1", ContainerName: "one", Endpoints: []EndpointWish{{Network: "aaa", IPv4: netip.Addr{}}}}); err != nil {
		t.Fatal(err)
	}
	if now := w.PoolUse(); now[0].Used != 1 || now[0].Free != all[0].Free-1 {
		t.Errorf("with a container: %+v", now[0])
	}
	if err := w.Leave(t.Context(), "c1", false); err != nil {
		t.Fatal(err)
	}
	if err := w.RemoveNetwork(t.Context(), n.ID); err != nil {
		t.Fatal(err)
	}
	if now := w.PoolUse(); len(now) != before {
		t.Errorf("after: %+v", now)
	}
}
