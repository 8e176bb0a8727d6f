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
		{"checksums spoilt on the way", drivertest.Underlay(func(u *cnm.Underlay) { u.SoftChecksums = true }), false},
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
		for _, o := range k.State().All() {
			switch o.(type) {
			case dataplane.Sysctl, dataplane.Offload: // they end with their link
			default:
				if o.Key() != dataplane.BasePage(env.Table).Key() {
					t.Errorf("%s: %s is left", c.name, o.Key())
				}
			}
		}
	}
	golden.Compare(t, "testdata/underlay.txt", text)
}

// TestNextHop: the addresses that peers are next hops by.
func TestNextHop(t *testing.T) {
	four, _, _ := drivertest.Peers(false)
	six, _, _ := drivertest.Peers(true)
	for _, c := range []struct {
		p    cnm.Peer
		v4   bool
		want string
	}{{four, true, "10.0.0.2"}, {four, false, "fd4c:534c::4c:ff:fe00:2"}, {six, true, "2001:db8::2"}, {six, false, "fd4c:534c::4c:ff:fe00:2"}} {
		if got := driver.NextHop(drivertest.Underlay(), c.p, c.v4); got != netip.MustParseAddr(c.want) {
			t.Errorf("%s, IPv4 %v: %s, want %s", c.p.Addr, c.v4, got, c.want)
		}
		if c.p.MAC = ""; driver.NextHop(drivertest.Underlay(), c.p, c.v4).IsValid() {
			t.Errorf("%s is a next hop without a MAC", c.p.Addr)
		}
	}
	if l := driver.RoutedLink(driver.Env{Table: "linkspan_817220"}); l != "ls-r817220" {
		t.Error(l)
	}
}
