package mesh

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"linkspan/cnm"
	"linkspan/ipam"
)

func TestCreate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.join("host1"), w.join("host2")
		b.SetPrefixes([]Used{{netip.MustParsePrefix("10.0.0.0/24"), "eth0"}, {netip.MustParsePrefix("0.0.0.0/0"), "the default route"}, {netip.MustParsePrefix("172.16.0.0/12"), "network web"}})
		w.settle()
		var avoid ipam.Space
		avoid.Add(netip.MustParsePrefix("192.168.5.0/24"), "the host (wlan0)")
		make := func(n *cnm.Network) error { return a.Create(t.Context(), n, ipam.DefaultBases(), &avoid) }
		pool := func(s string) []cnm.Pool { return []cnm.Pool{{Subnet: netip.MustParsePrefix(s)}} }

		one := &cnm.Network{Name: "one", Pools: pool("10.5.0.0/24"), VNIs: []uint32{4097}}
		if err := make(one); err != nil {
			t.Fatal(err)
		}
		if one.ID == "" || len(one.ID) != 64 || one.Scope != cnm.ScopeGlobal || one.Pools[0].Gateway.String() != "10.5.0.1" || one.VNIs[0] != 4097 {
			t.Errorf("made %+v", one)
		}
		says(t, make(&cnm.Network{Name: "one", Pools: pool("10.6.0.0/24")}), cnm.ErrConflict, "network with name one already exists", "docker network rm one")
		says(t, make(&cnm.Network{Name: "x", Pools: pool("10.5.0.128/25")}), cnm.ErrForbidden, "Pool overlaps", "10.5.0.128/25", "10.5.0.0/24", "network one")
		says(t, make(&cnm.Network{Name: "x", Pools: pool("10.0.0.0/16")}), cnm.ErrForbidden, "10.0.0.0/24", "host host2 itself (eth0)", "choose another subnet")
		says(t, make(&cnm.Network{Name: "x", Pools: pool("192.168.5.0/28")}), cnm.ErrForbidden, "192.168.5.0/24", "the host (wlan0)")
		says(t, make(&cnm.Network{Name: "x", Pools: pool("10.8.0.0/24"), VNIs: []uint32{4097}}), cnm.ErrConflict, "VNI 4097", "network one", "vxlanid_list")
		says(t, make(&cnm.Network{Name: "x", Pools: pool("10.8.0.0/24"), VNIs: []uint32{routedVNI}}), cnm.ErrConflict, "routed networks")
		says(t, make(&cnm.Network{Name: "x", Pools: pool("10.8.0.0/24"), VNIs: []uint32{1 << 24}}), cnm.ErrInvalid, "24 bits")
		says(t, make(&cnm.Network{Name: "a/b"}), cnm.ErrInvalid, "a/b")
		says(t, make(&cnm.Network{Name: "x", Pools: []cnm.Pool{{Subnet: netip.MustParsePrefix("10.8.0.0/24"), Gateway: netip.MustParseAddr("10.9.0.1")}}}), cnm.ErrInvalid, "gateway 10.9.0.1")

		// Of the default pools, the ones that a host has itself are left out; the wire
		// numbers of both families are one.
		two := &cnm.Network{Name: "two", Pools: []cnm.Pool{{}, {}}, IPv6: true, VNIs: []uint32{0, 0}}
		if err := a.Create(t.Context(), two, append(ipam.DefaultBases(), ipam.ULA("x")), &avoid); err != nil {
			t.Fatal(err)
		}
		if got := two.Pools[0].Subnet.String(); got != "192.168.0.0/24" || !two.Pools[1].Subnet.Addr().Is6() || two.VNIs[0] != firstVNI || two.VNIs[1] != firstVNI {
			t.Errorf("made %+v", two)
		}
		flat := &cnm.Network{Name: "flat", Pools: []cnm.Pool{{}}}
		if err := make(flat); err != nil || flat.VNIs != nil {
			t.Errorf("made %+v, %v", flat, err)
		}
		if err := make(one); err != nil { // an answer that was lost
			t.Errorf("made twice: %v", err)
		}

		// Who joins with a LAN that a network has is told so; as is one who is there.
		h := Host{Name: "host3", Addr: netip.MustParseAddr("10.5.0.9"), Prefixes: []Used{{netip.MustParsePrefix("10.5.0.0/16"), "eth0"}}}
		_, err := Enroll(t.Context(), w.common, h)
		says(t, err, cnm.ErrConflict, "10.5.0.0/24", "network one", "host3", "eth0", "docker network rm one")
		h.Prefixes, h.Addr = nil, netip.MustParseAddr("127.0.0.1")
		_, err = Enroll(t.Context(), w.common, h)
		says(t, err, cnm.ErrInvalid, "127.0.0.1", "--listen")
		h.Name = "a host"
		_, err = Enroll(t.Context(), w.common, h)
		says(t, err, cnm.ErrInvalid, "a host", "--name")
		again, err := Enroll(t.Context(), w.common, Host{ID: b.h.ID, Name: "host2", Addr: b.h.Addr})
		if err != nil || again.Number != b.h.Number {
			t.Errorf("joined twice: %+v, %v", again, err)
		}
	})
}

// Many make networks at the same time: no two have a subnet, a name or a VNI.
func TestCreateTogether(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const hosts = 8
		for i := range hosts {
			w.join(fmt.Sprintf("host%d", i+1))
		}
		w.settle()
		var group sync.WaitGroup
		made := make([]*cnm.Network, 3*hosts)
		errs := make([]error, 3*hosts)
		for i := range made {
			group.Go(func() {
				n := &cnm.Network{Name: fmt.Sprintf("net%d", i%(2*hosts)), Pools: []cnm.Pool{{}}, VNIs: []uint32{0}}
				if errs[i] = w.hosts[i%hosts].Create(t.Context(), n, ipam.DefaultBases(), nil); errs[i] == nil {
					made[i] = n
				}
			})
		}
		group.Wait()
		synctest.Wait()
		var all []*cnm.Network
		for i, n := range made {
			if n == nil {
				says(t, errs[i], cnm.ErrConflict, "already exists")
				continue
			}
			for _, o := range all {
				if o.Name == n.Name || o.VNIs[0] == n.VNIs[0] || o.Pools[0].Subnet.Overlaps(n.Pools[0].Subnet) {
					t.Errorf("%+v and %+v", o, n)
				}
			}
			all = append(all, n)
		}
		if len(all) != 2*hosts {
			t.Errorf("%d networks were made, of %d names", len(all), 2*hosts)
		}
		for _, h := range w.hosts {
			if len(h.ctl.networks) != len(all) {
				t.Errorf("%s knows %d", h.h.Name, len(h.ctl.networks))
			}
		}
		// And claim addresses at the same time, in one that has enough: who came last may have
		// got a small one.
		net := slices.MinFunc(all, func(a, b *cnm.Network) int { return a.Pools[0].Subnet.Bits() - b.Pools[0].Subnet.Bits() })
		got := make([][]netip.Addr, hosts)
		for i, h := range w.hosts {
			group.Go(func() {
				for j := range 70 { // more than a block
					a, err := h.ctl.run(t.Context(), net, fmt.Sprintf("c%d-%d", i, j), netip.Addr{})
					if err != nil {
						t.Error(err)
						return
					}
					got[i] = append(got[i], a)
				}
			})
		}
		group.Wait()
		seen := slices.Concat(got...)
		slices.SortFunc(seen, netip.Addr.Compare)
		if n := len(slices.Compact(seen)); n != 70*hosts {
			t.Errorf("%d different addresses, want %d", n, 70*hosts)
		}
		w.settle()
		for _, h := range w.hosts {
			if n := len(h.ctl.remotes[net.ID]); n != 70*(hosts-1) {
				t.Errorf("%s knows %d endpoints", h.h.Name, n)
			}
		}
	})
}

func TestSecureAddr(t *testing.T) {
	p := netip.MustParsePrefix("fd12:3456:789a::/64")
	for n, want := range map[int]string{1: "fd12:3456:789a::1", 300: "fd12:3456:789a::12c", 70000: "fd12:3456:789a::1:1170"} {
		if got := SecureAddr(p, n).String(); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	if SecureAddr(netip.Prefix{}, 1).IsValid() || SecureAddr(p, 0).IsValid() {
		t.Error("an address of nothing")
	}
	for _, id := range []string{"a", "b"} {
		if err := cnm.CheckMAC(VTEP(id)); err != nil || VTEP(id) == VTEP(id+"x") {
			t.Errorf("%s: %v", VTEP(id), err)
		}
	}
}
