package network

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
)

// TestGlobalMoved: an address that comes up on another host before its end on the first
// is heard of leads to where it came last.
func TestGlobalMoved(t *testing.T) {
	for _, order := range []string{"came gone", "gone came", "at once"} {
		x := newTruth()
		a, _ := x.enter(t)
		_, mb := x.enter(t)
		_, mc := x.enter(t)
		n := shop(t, a)
		x.settle()
		a.join(named("c1"))
		at := func(m *member, id string) cnm.Remote {
			return cnm.Remote{ID: id, Host: m.id, ContainerName: "db", Addrs: []netip.Prefix{pfx("192.168.5.5/16")}, MAC: "02:42:c0:a8:05:05", Names: []string{"db"}}
		}
		mb.Publish(n, at(mb, "e1"))
		switch order {
		case "came gone":
			mc.Publish(n, at(mc, "e2"))
			mb.Withdraw(n.ID, "e1")
		case "gone came":
			mb.Withdraw(n.ID, "e1")
			mc.Publish(n, at(mc, "e2"))
		default:
			x.change(n.ID, nil, cnm.RemoteChange{Came: []cnm.Remote{at(mc, "e2")}, Gone: []string{"e1"}})
		}
		x.settle()
		got := strings.Join(a.beyond(), ",")
		if !strings.Contains(got, "fdb 02:42:c0:a8:05:05 10.9.0.3") || strings.Contains(got, "00:00:00:00:00:00 10.9.0.2") || !strings.Contains(got, "neigh 192.168.5.5") {
			t.Errorf("%s: %s", order, got)
		}
		if k := a.knows(); !slices.Equal(k, []string{"[c1] = [192.168.0.2] []", "[db] = [192.168.5.5] []"}) {
			t.Errorf("%s: %v", order, k)
		}
		a.settled(t, order)
	}
}

// TestGlobalOverlap: a network that overlaps one of this host can be used elsewhere, and
// here once the other is gone.
func TestGlobalOverlap(t *testing.T) {
	x := newTruth()
	a, _ := x.enter(t)
	b, _ := x.enter(t)
	if _, _, err := b.CreateNetwork(t.Context(), NetworkWish{Name: "lan", Pools: []cnm.Pool{{Subnet: pfx("192.168.40.0/24")}}}); err != nil {
		t.Fatal(err)
	}
	shop(t, a)
	x.settle()
	a.join(named("c1"))
	if _, err := b.Join(t.Context(), named("c3")); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "192.168.40.0/24 of network lan") || !strings.Contains(err.Error(), "network shop") {
		t.Errorf("%v", err)
	}
	if err := b.RemoveNetwork(t.Context(), "lan"); err != nil {
		t.Fatal(err)
	}
	b.join(named("c3"))
	if _, _, err := b.CreateNetwork(t.Context(), NetworkWish{Name: "lan", Pools: []cnm.Pool{{Subnet: pfx("192.168.40.0/24")}}}); !errors.Is(err, cnm.ErrForbidden) {
		t.Errorf("%v", err)
	}
}

// TestGlobalName: where a host has a network of its own of that name, the name means
// that one.
func TestGlobalName(t *testing.T) {
	x := newTruth()
	a, _ := x.enter(t)
	b, mb := x.enter(t)
	own, _, err := b.CreateNetwork(t.Context(), NetworkWish{Name: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	n := shop(t, a)
	x.settle()
	for range 2 {
		if got, err := b.Network("shop"); err != nil || got.ID != own.ID {
			t.Errorf("%+v, %v", got, err)
		}
		for _, ref := range []string{n.ID, n.ID[:12]} {
			if got, err := b.Network(ref); err != nil || got.ID != n.ID {
				t.Errorf("%s: %+v, %v", ref, got, err)
			}
		}
		mb.back(b)
	}
	if err := b.RemoveNetwork(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Network("shop"); err != nil || got.ID != n.ID {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestGlobalLone: a network that was removed while this host was out of the mesh, with
// containers of this host on it.
func TestGlobalLone(t *testing.T) {
	x := newTruth()
	a, ma := x.enter(t)
	n := shop(t, a)
	x.settle()
	a.join(named("c1"))
	x.mu.Lock()
	delete(x.networks, n.ID)
	x.mu.Unlock()
	x.announce()
	x.settle()
	if _, err := a.Network("shop"); err != nil {
		t.Error(err)
	}
	if _, err := a.Join(t.Context(), named("c2")); !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "in the mesh no more") {
		t.Errorf("%v", err)
	}
	a.leave("c1", false)
	if _, err := a.Network("shop"); !errors.Is(err, cnm.ErrNotFound) {
		t.Errorf("%v", err)
	}
	a.settled(t, "gone")
	// Left for good: what nobody is on goes with the mesh.
	shop(t, a)
	x.settle()
	a.SetMesh(t.Context(), nil)
	if _, err := a.Network("shop"); !errors.Is(err, cnm.ErrNotFound) {
		t.Errorf("%v", err)
	}
	a.SetMesh(t.Context(), ma)
	x.announce()
	x.settle()
	if _, err := a.Network("shop"); err != nil {
		t.Error(err)
	}
}
