package driver_test

import (
	"net/netip"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/dptest"
	"linkspan/driver"
	"linkspan/driver/drivertest"
	"linkspan/internal/golden"
)

// TestUnderlayObjects: what a host in a mesh has whatever its networks are, as a person
// reads it; and that it can be made, and goes again.
func TestUnderlayObjects(t *testing.T) {
	text := ""
	for _, c := range []struct {
		name string
		u    *cnm.Underlay
		six  bool
	}{
		{"alone in the dark", nil, false},
		{"plain", drivertest.Underlay(), false},
		{"with wireguard", drivertest.Underlay(drivertest.Secure), false},
		{"with wireguard of the keeper", drivertest.Underlay(drivertest.Secure, func(u *cnm.Underlay) { u.SecureUserSpace = true }), false},
		{"over ipv6, on another port", drivertest.Underlay(drivertest.UnderSix, func(u *cnm.Underlay) { u.VXLANPort = 8472 }), true},
		{"no routed networks yet", drivertest.Underlay(func(u *cnm.Underlay) { u.RoutedVNI = 0 }), false},
	} {
		h2, h3, h4 := drivertest.Peers(c.six)
		h4.MAC = "" // it has told nothing yet
		env := drivertest.SpanEnv(c.u)
		objs, err := driver.UnderlayObjects(env, []cnm.Peer{h2, h3, h4})
		if err != nil {
			t.Fatal(err)
		}
		text += "== " + c.name + "\n" + dataplane.Text(objs)
		for _, o := range objs {
			if m := o.About(); m.Owner.Kind != dataplane.OwnerHost || !strings.Contains(m.Reason, " ") {
				t.Errorf("%s: %s is %s's because %q", c.name, o.Key(), m.Owner, m.Reason)
			}
			if create, _ := o.Commands(); len(create) == 0 {
				t.Errorf("%s: %s cannot be shown as commands", c.name, o.Key())
			}
		}
		if c.u == nil {
			if len(objs) > 0 {
				t.Errorf("without an underlay:\n%s", dataplane.Text(objs))
			}
			continue
		}
		k := dptest.New()
		k.StrangerLink("eth0", dataplane.HostLink{MTU: 1500})
		if c.u.SecureUserSpace {
			k.Tun(c.u.Secure, true)
		}
		for _, ops := range [][]dataplane.Op{diff.Create([]dataplane.Object{dataplane.BasePage(env.Table)}), diff.Create(objs), diff.Delete(objs)} {
			if err := k.Apply(t.Context(), ops); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if left := k.State().Len(); left != 1 {
			t.Errorf("%s: %d objects are left, want the page", c.name, left)
		}
	}
	golden.Compare(t, "testdata/underlay.txt", text)
}

// TestMTU: what is left of a packet.
func TestMTU(t *testing.T) {
	h2, h3, _ := drivertest.Peers(false)
	with := func(change ...func(*cnm.Underlay)) *cnm.Underlay { return drivertest.Underlay(change...) }
	set := func(mtu, path int) func(*cnm.Underlay) { return func(u *cnm.Underlay) { u.MTU, u.PathMTU = mtu, path } }
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"IPv4", driver.VXLANMTU(with(), false), 1450},
		{"IPv6", driver.VXLANMTU(with(drivertest.UnderSix), false), 1430},
		{"jumbo", driver.VXLANMTU(with(set(9000, 0)), false), 8950},
		{"a narrow path", driver.VXLANMTU(with(set(9000, 1500)), false), 1450},
		{"a path wider than the device", driver.VXLANMTU(with(set(1400, 1500)), false), 1350},
		{"nothing known", driver.VXLANMTU(with(set(0, 0)), false), 1450},
		{"in WireGuard", driver.VXLANMTU(with(drivertest.Secure), true), 1370},
		{"the device whatever the path", driver.DeviceMTU(with(set(9000, 1500)), false), 8950},
		{"to a peer", driver.PathMTU(with(), h2, false), 1450},
		{"to a peer on a narrow path", driver.PathMTU(with(), h3, false), 1350},
		{"to a peer in WireGuard", driver.PathMTU(with(drivertest.Secure), h3, true), 1370},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, c.got, c.want)
		}
	}
	if got := *with(set(9000, 1500)); got != *with(set(9000, 1500)) {
		t.Error("an MTU is computed and the underlay another")
	}
}

// TestNextHop: the addresses that peers are next hops by.
func TestNextHop(t *testing.T) {
	four, _, _ := drivertest.Peers(false)
	six, _, _ := drivertest.Peers(true)
	for _, c := range []struct {
		p    cnm.Peer
		v4   bool
		want string
	}{{four, true, "10.0.0.2"}, {four, false, "fe80::4c:ff:fe00:2"}, {six, true, "2001:db8::2"}, {six, false, "2001:db8::2"}} {
		if got := driver.NextHop(c.p, c.v4); got != netip.MustParseAddr(c.want) {
			t.Errorf("%s, IPv4 %v: %s, want %s", c.p.Addr, c.v4, got, c.want)
		}
	}
	for _, bad := range []string{"", "x", "02:00:00:00:00:00:00:00"} {
		if a := driver.LinkLocal(bad); a.IsValid() {
			t.Errorf("%q has %s", bad, a)
		}
	}
	if l := driver.RoutedLink(driver.Env{Table: "linkspan_817220"}); l != "ls-r817220" {
		t.Error(l)
	}
}
