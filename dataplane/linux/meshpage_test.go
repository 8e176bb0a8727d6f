package linux_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// routed is what host i has of a network whose packets are routed between hosts: mesh
// is its element, and the blocks of addresses are 10.88.<i>.0/24.
func (w *wire) routed(i int, mesh dataplane.Element, peers ...int) []dataplane.Object {
	objs := []dataplane.Object{
		dataplane.BasePage(table), mesh,
		dataplane.BridgeElement(network, table, "br-x"),
		dataplane.ICCElement(network, table, "br-x"),
		dataplane.EgressElement(network, table, "br-x"),
		dataplane.SpanElement(network, table, "br-x"),
		dataplane.MasqueradeElement(network, table, prefix("10.88.0.0/16")),
		dataplane.EndpointElement(network, table, box4(i), "br-x"),
		dataplane.Bridge{Meta: network, Name: "br-x"},
		dataplane.Addr{Meta: network, Link: "br-x", Prefix: prefix(fmt.Sprintf("10.88.%d.1/24", i))},
		dataplane.Up{Meta: network, Link: "br-x"},
		dataplane.Route{Meta: network, Dst: prefix("10.88.0.0/16"), Unreachable: true},
	}
	for _, p := range peers {
		objs = append(objs, dataplane.Route{Meta: network, Dst: prefix(fmt.Sprintf("10.88.%d.0/24", p)), Via: w.at(p), Link: "u0"})
	}
	return append(objs, w.routedBox(i)...)
}

func (w *wire) routedBox(i int) []dataplane.Object {
	ns := w.hosts[i].pin("box")
	return []dataplane.Object{
		dataplane.Namespace{Meta: endpoint, Path: ns},
		dataplane.Veth{Meta: endpoint, Name: "vethbox", Master: "br-x", PeerNS: ns, PeerName: "eth0"},
		dataplane.Up{Meta: endpoint, NS: ns, Link: "lo"},
		dataplane.Addr{Meta: endpoint, NS: ns, Link: "eth0", Prefix: netip.PrefixFrom(box4(i), 24)},
		dataplane.Up{Meta: endpoint, NS: ns, Link: "eth0"},
		dataplane.Route{Meta: endpoint, NS: ns, Link: "eth0", Dst: prefix("0.0.0.0/0"), Via: addr(fmt.Sprintf("10.88.%d.1", i))},
		dataplane.Up{Meta: endpoint, Link: "vethbox", Wire: true},
	}
}

// TestRoutedMesh: between containers of one network on two hosts addresses are kept, and
// nobody else gets in; connections begin with segments that fit the path.
func TestRoutedMesh(t *testing.T) {
	t.Parallel()
	w := newWire(t, 3, false)
	a, b, c := w.hosts[0], w.hosts[1], w.hosts[2]
	mesh := dataplane.MeshElement(network, table, prefix("10.88.0.0/16"))
	for i := range 2 {
		w.hosts[i].apply(diff.Create(w.routed(i, mesh, 1-i)))
		w.hosts[i].run("sysctl", "-qw", "net.ipv4.ip_forward=1")
	}
	seen := b.capture("br-x", "icmp or tcp")
	if err := pings(a.pin("box"), box4(1)); err != nil {
		t.Fatal(err)
	}
	transfer(t, a.pin("box"), b.pin("box"), netip.AddrPortFrom(box4(1), 7000))
	if out := seen(); !strings.Contains(out, box4(0).String()+" > "+box4(1).String()) || strings.Contains(out, w.at(0).String()) {
		t.Errorf("not with the container's own address:\n%.1000s", out)
	}
	// To the outside they leave with the host's address.
	seen = c.capture("u0", "icmp")
	if err := pings(a.pin("box"), w.at(2)); err != nil {
		t.Error(err)
	}
	if out := seen(); !strings.Contains(out, w.at(0).String()+" > ") || strings.Contains(out, box4(0).String()) {
		t.Errorf("not with the host's address:\n%s", out)
	}
	// From outside nobody reaches a container by its own address.
	c.run("ip", "route", "add", "10.88.1.0/24", "via", w.at(1).String())
	if err := pings(c.ns, box4(1), "-w1"); err == nil {
		t.Error("from outside it is reached")
	}
	if n := b.dropped("unpublished"); n == "0" {
		t.Error("nothing was dropped")
	}
	// What nobody has leads nowhere.
	if err := pings(a.pin("box"), addr("10.88.77.7"), "-w1"); err == nil || !strings.Contains(err.Error(), "Unreachable") && !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("an address that nobody has: %v", err)
	}
	// A path that takes less: the first packet of a connection says so.
	a.run("ip", "link", "set", "u0", "mtu", "1200")
	syn := b.capture("u0", "tcp[tcpflags] & tcp-syn != 0")
	transfer(t, a.pin("box"), b.pin("box"), netip.AddrPortFrom(box4(1), 7001))
	if out := syn(); !strings.Contains(out, "mss 1160") || strings.Contains(strings.SplitN(out, "\n", 2)[0], "mss 1460") {
		t.Errorf("not clamped:\n%s", out)
	}
}

// TestSealedMesh: of an encrypted network nothing is forwarded but by the device that
// encrypts.
func TestSealedMesh(t *testing.T) {
	t.Parallel()
	w := newWire(t, 2, false)
	a, b := w.hosts[0], w.hosts[1]
	sealed := dataplane.SealedElement(network, table, prefix("10.88.0.0/16"))
	a.apply(diff.Create(w.routed(0, sealed, 1)))
	b.apply(diff.Create(w.routed(1, dataplane.MeshElement(network, table, prefix("10.88.0.0/16")), 0)))
	for _, h := range w.hosts {
		h.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
	}
	seen := b.capture("u0", "icmp")
	if err := pings(a.pin("box"), box4(1), "-w1"); err == nil {
		t.Error("it left")
	}
	if out := seen(); out != "" {
		t.Errorf("plain text on the wire:\n%s", out)
	}
	before := a.dropped("plain_text")
	heard := a.capture("br-x", "icmp and src host "+box4(1).String())
	if err := pings(b.pin("box"), box4(0), "-w1"); err == nil {
		t.Error("it was taken")
	}
	if out := heard(); out != "" {
		t.Errorf("plain text was taken:\n%s", out)
	}
	if n := a.dropped("plain_text"); before == "0" || n == before {
		t.Errorf("dropped %s, then %s", before, n)
	}
	a.apply(diff.Create([]dataplane.Object{dataplane.SecureElement(network, table, "u0")}))
	if err := pings(a.pin("box"), box4(1)); err != nil {
		t.Error(err)
	}
}
