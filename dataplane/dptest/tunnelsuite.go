package dptest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// overlay is what a host has of a network that spans hosts: two peers, three endpoints
// there.
func (s *suite) overlay() []dataplane.Object {
	m := meta(dataplane.OwnerNetwork, "span")
	a, b := netip.MustParseAddr("10.99.0.2"), netip.MustParseAddr("10.99.0.3")
	objs := []dataplane.Object{
		dataplane.Bridge{Meta: m, Name: "brx", MTU: 1400},
		dataplane.VXLAN{Meta: m, Name: "vx0", VNI: 0x4C0001, Local: netip.MustParseAddr("10.99.0.1"), MTU: 1400, Master: "brx"},
		dataplane.Up{Meta: m, Link: "brx"},
		dataplane.Up{Meta: m, Link: "vx0"},
		dataplane.FDB{Meta: m, Dev: "vx0", MAC: dataplane.FDBDefault, Dst: a},
		dataplane.FDB{Meta: m, Dev: "vx0", MAC: dataplane.FDBDefault, Dst: b},
	}
	for i, to := range []netip.Addr{a, a, b} {
		objs = append(objs, remote(i+2, to)...)
	}
	return objs
}

func remote(i int, to netip.Addr) []dataplane.Object {
	m := meta(dataplane.OwnerEndpoint, fmt.Sprint("remote", i))
	mac := fmt.Sprintf("02:42:0a:63:%02x:%02x", i>>8, i&0xff)
	return []dataplane.Object{
		dataplane.FDB{Meta: m, Dev: "vx0", MAC: mac, Dst: to},
		dataplane.FDB{Meta: m, Dev: "vx0", MAC: mac},
		dataplane.Neighbour{Meta: m, Link: "brx", Addr: netip.AddrFrom4([4]byte{10, 88, byte(i >> 8), byte(i)}), MAC: mac},
		dataplane.Neighbour{Meta: m, Link: "brx", Addr: netip.MustParseAddr(fmt.Sprintf("fd00:88::%x", i)), MAC: mac},
	}
}

// tunnel: what spans hosts is made, seen as it was declared, changed and taken away.
func (s *suite) tunnel() {
	want := s.overlay()
	s.must(diff.Create(want))
	s.settled(want)
	s.must(diff.Create(want))
	s.settled(want)
	if keys, err := s.Kernel.ObserveKeys(context.Background(), want); err != nil || keys.Len() != len(want) {
		s.t.Errorf("ObserveKeys: %d of %d, %v", keys.Len(), len(want), err)
	}

	// An endpoint moved to the other host, another has another MAC, one peer left.
	moved, peer := remote(2, netip.MustParseAddr("10.99.0.3")), want[4]
	now := append(append([]dataplane.Object{}, want[:4]...), want[5:]...)
	for i, o := range now {
		for _, m := range moved {
			if m.Key() == o.Key() {
				now[i] = m
			}
		}
		if n, ok := now[i].(dataplane.Neighbour); ok && n.Addr == netip.MustParseAddr("10.88.0.3") {
			n.MAC = "02:42:0a:63:ff:ff"
			now[i] = n
		}
	}
	p := diff.Compute(dataplane.NewState(now...), s.observe())
	if len(p.Ops) != 3 {
		s.t.Errorf("ops: %v", p.Ops)
	}
	s.must(p.Ops)
	s.settled(now)
	if _, ok := s.observe().Get(peer.Key()); ok {
		s.t.Error("a peer that left still gets broadcasts")
	}
	s.must(diff.Update(now, want))
	s.settled(want)

	s.must(diff.Delete(remote(3, netip.MustParseAddr("10.99.0.2"))))
	s.must(diff.Delete(remote(3, netip.MustParseAddr("10.99.0.2")))) // gone already
	s.must(diff.Delete(want))
	if st := s.observe(); st.Len() != 0 {
		s.t.Errorf("left behind:\n%s", dataplane.Text(st.All()))
	}
}

// tunnelChanges: what the kernel changes in place, and what is made anew with all on it.
func (s *suite) tunnelChanges() {
	want := s.overlay()
	s.must(diff.Create(want))
	change := func(what string, remade bool, f func(*dataplane.VXLAN)) {
		s.t.Helper()
		for i, o := range want {
			if v, ok := o.(dataplane.VXLAN); ok {
				f(&v)
				want[i] = v
			}
		}
		p := diff.Compute(dataplane.NewState(want...), s.observe())
		if anew := len(p.Ops) > 1; anew != remade {
			s.t.Errorf("%s: %v", what, p.Ops)
		}
		s.must(p.Ops)
		s.settled(want)
	}
	change("MTU", false, func(v *dataplane.VXLAN) { v.MTU = 1300 })
	change("MAC", false, func(v *dataplane.VXLAN) { v.MAC = "02:42:00:00:00:01" })
	change("number", true, func(v *dataplane.VXLAN) { v.VNI++ })
	change("port", true, func(v *dataplane.VXLAN) { v.Port = 4790 })
	change("address", true, func(v *dataplane.VXLAN) { v.Local = netip.MustParseAddr("10.99.0.9") })

	// The bridge made anew takes its port, and the port's entries, back.
	s.Lose("brx")
	s.must(diff.Compute(dataplane.NewState(want...), s.observe()).Ops)
	s.settled(want)
	s.Lose("vx0")
	s.must(diff.Compute(dataplane.NewState(want...), s.observe()).Ops)
	s.settled(want)

	// The number goes from one device to another at once.
	other := want[1].(dataplane.VXLAN)
	other.Name, other.Master = "vx1", ""
	s.must(diff.Update(want, []dataplane.Object{want[0], want[2], other}))
	s.settled([]dataplane.Object{want[0], want[2], other})
	third := other
	third.Name = "vx2"
	if err := s.Kernel.Apply(context.Background(), diff.Create([]dataplane.Object{third})); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "vx1") {
		s.t.Errorf("a number twice: %v", err)
	}
}

// tunnelBad: what hangs on nothing, or on what is of another kind.
func (s *suite) tunnelBad() {
	m := meta(dataplane.OwnerHost, "")
	s.must(diff.Create(s.overlay()))
	s.Stranger("lan0")
	peer := netip.MustParseAddr("10.99.0.2")
	for _, o := range []dataplane.Object{
		dataplane.VXLAN{Meta: m, Name: "vx9", VNI: 9, Local: peer, Master: "nope"},
		dataplane.VXLAN{Meta: m, Name: "lan0", VNI: 9, Local: peer},
		dataplane.FDB{Meta: m, Dev: "nope", MAC: dataplane.FDBDefault, Dst: peer},
		dataplane.FDB{Meta: m, Dev: "lan0", MAC: dataplane.FDBDefault, Dst: peer},
		dataplane.FDB{Meta: m, Dev: "brx", MAC: "02:42:00:00:00:02", Dst: peer},
		dataplane.FDB{Meta: m, Dev: "vx0", MAC: "02:42:00:00:00:02", Dst: netip.MustParseAddr("fd00::2")},
		dataplane.Neighbour{Meta: m, Link: "nope", Addr: peer, MAC: "02:42:00:00:00:02"},
		dataplane.Neighbour{Meta: m, Link: "lan0", Addr: peer, MAC: "02:42:00:00:00:02"},
		dataplane.WireGuard{Meta: m, Name: "wg9", UserSpace: true},
	} {
		err := s.Kernel.Apply(context.Background(), []dataplane.Op{{Verb: dataplane.Create, Object: o}})
		if err == nil || !strings.Contains(err.Error(), o.Key()) {
			s.t.Errorf("%s: %v", o.Key(), err)
		}
	}
	s.settled(s.overlay())
}

// meshElements: what the pages hold of networks that span hosts.
func (s *suite) meshElements() {
	m := meta(dataplane.OwnerNetwork, "span")
	want := []dataplane.Object{
		dataplane.BasePage(table), dataplane.TunnelPage(table),
		dataplane.MeshElement(m, table, netip.MustParsePrefix("10.88.0.0/16")),
		dataplane.MeshElement(m, table, netip.MustParsePrefix("10.90.0.7/32")),
		dataplane.MeshElement(m, table, netip.MustParsePrefix("fd00:88::/64")),
		dataplane.SealedElement(m, table, netip.MustParsePrefix("10.89.128.0/17")),
		dataplane.SecureElement(m, table, "wg0"),
		dataplane.SpanElement(m, table, "brx"),
		dataplane.PeerElement(m, table, netip.MustParseAddr("10.99.0.2")),
		dataplane.PeerElement(m, table, netip.MustParseAddr("fd00:99::2")),
		dataplane.VNIElement(m, table, 4789, 0x4C0001, ""),
		dataplane.VNIElement(m, table, 4789, 7, ""),
		dataplane.VNIElement(m, table, 4790, 0xFFFFFF, "wg0"),
		dataplane.TunnelElement(m, table, "vx0"),
	}
	s.must(diff.Create(want))
	s.settled(want)
	s.must(diff.Create(want))
	if keys, err := s.Kernel.ObserveKeys(context.Background(), want); err != nil || keys.Len() != len(want) {
		s.t.Errorf("ObserveKeys: %d of %d, %v", keys.Len(), len(want), err)
	}
	// A network becomes an encrypted one.
	now := append([]dataplane.Object{}, want...)
	now[2] = dataplane.SealedElement(m, table, netip.MustParsePrefix("10.88.0.0/16"))
	s.must(diff.Update(want, now))
	s.settled(now)
	s.must(diff.Delete(now[2:]))
	s.must(diff.Delete(now[2:]))
	s.settled(now[:2])
}

// onlink: routes to what no address says is there, and to nowhere.
func (s *suite) onlink() {
	m := meta(dataplane.OwnerNetwork, "flat")
	want := []dataplane.Object{
		dataplane.VXLAN{Meta: m, Name: "vxr", VNI: 0x4C0000, Local: netip.MustParseAddr("10.99.0.1")},
		dataplane.Up{Meta: m, Link: "vxr"},
		dataplane.Neighbour{Meta: m, Link: "vxr", Addr: netip.MustParseAddr("10.99.0.2"), MAC: "02:42:0a:63:00:02"},
		dataplane.FDB{Meta: m, Dev: "vxr", MAC: "02:42:0a:63:00:02", Dst: netip.MustParseAddr("10.99.0.2")},
	}
	for _, n := range [][3]string{{"10.88.0.0/16", "10.88.64.0/26", "10.99.0.2"}, {"fd00:88::/64", "fd00:88::1:0/112", "fd00:99::2"}} {
		want = append(want, dataplane.Route{Meta: m, Dst: netip.MustParsePrefix(n[0]), Unreachable: true},
			dataplane.Route{Meta: m, Dst: netip.MustParsePrefix(n[1]), Via: netip.MustParseAddr(n[2]), Link: "vxr", OnLink: true},
			dataplane.Route{Meta: m, Dst: netip.MustParsePrefix(n[0]), Link: "vxr"})
	}
	// Where the hosts share a link, routes are on it, though it is not ours.
	s.Stranger("lan0")
	for _, n := range [][2]string{{"10.87.0.0/24", "10.99.0.7"}, {"10.86.0.0/24", "fd00:99::7"}, {"fd00:87::/64", "fd00:99::7"}} {
		want = append(want, dataplane.Route{Meta: m, Dst: netip.MustParsePrefix(n[0]), Via: netip.MustParseAddr(n[1]), Link: "lan0", OnLink: true})
	}
	s.must(diff.Create(want))
	s.settled(want)
	s.must(diff.Create(want))
	s.settled(want)
	if keys, err := s.Kernel.ObserveKeys(context.Background(), want); err != nil || keys.Len() != len(want) {
		s.t.Errorf("ObserveKeys: %d of %d, %v", keys.Len(), len(want), err)
	}
	now := append([]dataplane.Object{}, want...)
	moved := now[len(now)-1].(dataplane.Route)
	moved.Via = netip.MustParseAddr("fd00:99::8")
	now[len(now)-1] = moved
	s.must(diff.Compute(dataplane.NewState(now...), s.observe()).Ops)
	s.settled(now)
	// From the link to the tunnel, and back.
	through := moved
	through.Link = "vxr"
	now[len(now)-1] = through
	s.must(diff.Compute(dataplane.NewState(now...), s.observe()).Ops)
	s.settled(now)
	s.must(diff.Compute(dataplane.NewState(want...), s.observe()).Ops)
	s.settled(want)
	s.must(diff.Delete(want))
	s.must(diff.Delete(want))
	if st := s.observe(); st.Len() != 0 {
		s.t.Errorf("left behind:\n%s", dataplane.Text(st.All()))
	}
}
