package explain

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/diagnose"
)

// far is a mesh with one container of host2 on network shop, and on its other one.
type far struct{ all []diagnose.Elsewhere }

func (f far) Underlay() *cnm.Underlay                               { return &cnm.Underlay{Name: "host1"} }
func (f far) Elsewhere() []diagnose.Elsewhere                       { return f.all }
func (f far) Tunnel(context.Context, string) (none diagnose.Tunnel) { return none }
func (f far) Away() string                                          { return "" }

// TestElsewhere: a container of another host is explained by what leads there.
func TestElsewhere(t *testing.T) {
	w := world()
	src := sources(w)
	n := w.Diagnose().Declared.Networks()[0]
	remote := cnm.Remote{Host: "h2", Container: strings.Repeat("e", 64), ContainerName: "bob", Names: []string{"bob"}, MAC: "02:42:c0:a8:02:01", Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.2.1/16")}}
	mesh := far{[]diagnose.Elsewhere{{Network: n, Remote: remote, Peer: cnm.Peer{ID: "h2", Name: "host2", Addr: netip.MustParseAddr("10.0.0.2")},
		Path: cnm.Path{Kind: cnm.PathVXLAN, Dev: "vx-1", MTU: 1450, Reason: "overlay networks are wrapped in VXLAN"}}}}
	src.World.Mesh = mesh
	for _, subject := range []string{"bob", strings.Repeat("e", 12), "192.168.2.1"} {
		e, err := Of(t.Context(), src, subject, KindAny)
		if err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
		facts, notes := "", strings.Join(e.Notes, "; ")
		for _, f := range e.Facts {
			facts += f.Name + ": " + f.Value + "\n"
		}
		if e.Title != "container bob on host host2 (10.0.0.2), as this host reaches it" || !strings.Contains(facts, "192.168.2.1") || !strings.Contains(facts, "path: vxlan by vx-1, packets of up to 1450 bytes: overlay") ||
			!strings.Contains(notes, "linkspan explain bob") || !strings.Contains(notes, "host2 is not heard of") {
			t.Errorf("%s: %s\n%s%s", subject, e.Title, facts, notes)
		}
	}
	if _, err := Of(t.Context(), src, "nobody", KindAny); err == nil {
		t.Error("nobody is explained")
	}
}

func TestLeadsTo(t *testing.T) {
	a, p := netip.MustParseAddr, netip.MustParsePrefix
	over := &diagnose.Elsewhere{Network: &cnm.Network{ID: "n"}, Path: cnm.Path{Kind: cnm.PathVXLAN, Dev: "vx-1"}, Remote: cnm.Remote{MAC: "02:42:C0:A8:02:01", Addrs: []netip.Prefix{p("192.168.2.1/16")}}}
	routed := &diagnose.Elsewhere{Network: &cnm.Network{ID: "m"}, Path: cnm.Path{Kind: cnm.PathDirect, Dev: "eth0"}, Remote: cnm.Remote{Addrs: []netip.Prefix{p("10.50.2.1/16")}}}
	sealed := &diagnose.Elsewhere{Network: &cnm.Network{ID: "s"}, Path: cnm.Path{Kind: cnm.PathWireGuard, Dev: "wg0"}, Remote: cnm.Remote{Addrs: []netip.Prefix{p("10.60.2.1/16")}}}
	for _, c := range []struct {
		o    dataplane.Object
		x    *diagnose.Elsewhere
		want bool
	}{
		{dataplane.Neighbour{Addr: a("192.168.2.1")}, over, true}, {dataplane.Neighbour{Addr: a("192.168.2.2")}, over, false},
		{dataplane.FDB{MAC: "02:42:c0:a8:02:01"}, over, true}, {dataplane.FDB{MAC: "02:42:c0:a8:02:02"}, over, false}, {dataplane.FDB{}, routed, false},
		{dataplane.VXLAN{Name: "vx-1"}, over, true}, {dataplane.VXLAN{Name: "vx-2"}, over, false},
		{dataplane.VXLAN{Meta: dataplane.Meta{Owner: dataplane.Owner{ID: "s"}}, Name: "vx-3"}, sealed, true},
		{dataplane.Route{Dst: p("10.50.2.0/26"), Link: "eth0", Via: a("10.0.0.2")}, routed, true}, {dataplane.Route{Dst: p("10.50.3.0/26"), Link: "eth0", Via: a("10.0.0.2")}, routed, false},
		{dataplane.Route{Dst: p("10.50.0.0/16"), Unreachable: true}, routed, false}, {dataplane.Route{NS: "/x", Dst: p("10.50.2.0/26"), Link: "eth0"}, routed, false},
		{dataplane.Route{Dst: p("10.60.2.0/26"), Link: "wg0"}, sealed, true}, {dataplane.Route{Dst: p("10.60.2.0/26"), Link: "br-s"}, sealed, false},
		{dataplane.WireGuard{Name: "wg0"}, sealed, true}, {dataplane.WireGuard{Name: "wg0"}, over, false},
		{dataplane.Bridge{Name: "br-1"}, over, false},
	} {
		if got := leadsTo(c.o, c.x); got != c.want {
			t.Errorf("%s: %v", c.o.Key(), got)
		}
	}
}
