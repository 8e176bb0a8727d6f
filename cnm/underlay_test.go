package cnm

import (
	"net/netip"
	"testing"
)

// TestMTU: what is left of a packet.
func TestMTU(t *testing.T) {
	four, six := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")
	secure := func(u Underlay) Underlay {
		u.Secure, u.SecureAddr, u.SecureMTU = "wg", netip.MustParseAddr("fd00::1"), 1440
		return u
	}
	peer := Peer{MTU: 1400}
	for _, c := range []struct {
		name   string
		u      Underlay
		secure bool
		want   [3]int // VXLANMTU, DeviceMTU, PeerMTU
	}{
		{"IPv4", Underlay{Addr: four, MTU: 1500}, false, [3]int{1450, 1450, 1350}},
		{"IPv6", Underlay{Addr: six, MTU: 1500}, false, [3]int{1430, 1430, 1330}},
		{"jumbo", Underlay{Addr: four, MTU: 9000}, false, [3]int{8950, 8950, 1350}},
		{"a narrow path", Underlay{Addr: four, MTU: 9000, PathMTU: 1300}, false, [3]int{1250, 8950, 1250}},
		{"a path wider than the device", Underlay{Addr: four, MTU: 1400, PathMTU: 1500}, false, [3]int{1350, 1350, 1350}},
		{"nothing known", Underlay{Addr: four}, false, [3]int{1450, 1450, 1350}},
		{"in WireGuard", secure(Underlay{Addr: four, MTU: 1500, PathMTU: 1300}), true, [3]int{1370, 1370, 1370}},
	} {
		before := c.u
		if got := [3]int{c.u.VXLANMTU(c.secure), c.u.DeviceMTU(c.secure), c.u.PeerMTU(peer, c.secure)}; got != c.want {
			t.Errorf("%s: %v bytes, want %v", c.name, got, c.want)
		}
		if c.u != before {
			t.Errorf("%s: an MTU is computed, and the underlay is another: %+v", c.name, c.u)
		}
	}
	if got := (&Underlay{MTU: 9000, PathMTU: 1500}).PacketMTU(); got != 1500 {
		t.Error(got)
	}
	if got := (&Underlay{}).UDPPort(); got != 4789 {
		t.Error(got)
	}
	if got := (&Underlay{VXLANPort: 8472}).UDPPort(); got != 8472 {
		t.Error(got)
	}
}

// TestTunnelAddr: addresses that follow from a MAC.
func TestTunnelAddr(t *testing.T) {
	u := &Underlay{RoutedVNI: 0x4C0001}
	for _, c := range []struct{ mac, tunnel, link string }{
		{"02:4c:00:00:00:02", "fd4c:534c:1::4c:ff:fe00:2", "fe80::4c:ff:fe00:2"},
		{"ee:01:02:03:04:05", "fd4c:534c:1:0:ec01:2ff:fe03:405", "fe80::ec01:2ff:fe03:405"},
		{"", "", ""}, {"x", "", ""}, {"02:00:00:00:00:00:00:00", "", ""},
	} {
		want := func(s string) (a netip.Addr) {
			if s != "" {
				a = netip.MustParseAddr(s)
			}
			return a
		}
		if got := u.TunnelAddr(c.mac); got != want(c.tunnel) {
			t.Errorf("%q in the tunnel is %s, want %s", c.mac, got, c.tunnel)
		}
		if got := LinkLocal(c.mac); got != want(c.link) {
			t.Errorf("%q on its link is %s, want %s", c.mac, got, c.link)
		}
	}
	if a := (&Underlay{}).TunnelAddr("02:4c:00:00:00:02"); a.IsValid() {
		t.Errorf("without routed networks: %s", a)
	}
}
