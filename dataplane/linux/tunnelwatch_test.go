package linux_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/probe"
)

// spanning is a host's part of a network that spans hosts.
func spanning() []dataplane.Object {
	objs := []dataplane.Object{
		dataplane.Bridge{Meta: network, Name: "br-x", MTU: 1400},
		dataplane.VXLAN{Meta: network, Name: "vx-x", VNI: 0x4C0001, Local: addr("10.99.0.1"), MTU: 1400, Master: "br-x"},
		dataplane.Addr{Meta: network, Link: "br-x", Prefix: prefix("10.88.0.1/16")},
		dataplane.Up{Meta: network, Link: "br-x"},
		dataplane.Up{Meta: network, Link: "vx-x"},
		dataplane.FDB{Meta: network, Dev: "vx-x", MAC: dataplane.FDBDefault, Dst: addr("10.99.0.2")},
		dataplane.FDB{Meta: network, Dev: "vx-x", MAC: dataplane.FDBDefault, Dst: addr("10.99.0.3")},
		dataplane.Route{Meta: network, Dst: prefix("10.89.0.0/16"), Unreachable: true},
	}
	return append(objs, elsewhere("02:42:0a:58:40:02", "10.88.64.2", "10.99.0.2")...)
}

func elsewhere(mac, ip, vtep string) []dataplane.Object {
	return []dataplane.Object{
		dataplane.FDB{Meta: endpoint, Dev: "vx-x", MAC: mac, Dst: addr(vtep)},
		dataplane.FDB{Meta: endpoint, Dev: "vx-x", MAC: mac},
		dataplane.Neighbour{Meta: endpoint, Link: "br-x", Addr: addr(ip), MAC: mac},
	}
}

// What somebody takes away from a tunnel is told at once, and put back by looking at it
// alone.
func TestWatchTunnel(t *testing.T) {
	t.Parallel()
	probe.Require(t, probe.VXLAN)
	h := newHost(t)
	want := dataplane.NewState(spanning()...)
	h.apply(diff.Create(want.All()))
	w := h.watch()
	repair := func(now dataplane.Touch) {
		var here []dataplane.Object
		for _, o := range want.All() {
			if now.Has(o) {
				here = append(here, o)
			}
		}
		have, err := h.k.ObserveTouched(t.Context(), now, here)
		if err != nil {
			t.Fatal(err)
		}
		h.apply(diff.Compute(dataplane.NewState(here...), have).Ops)
	}
	drained(w.Touched())
	_ = w.Take()
	var took []time.Duration
	for _, c := range []struct{ cmd, want string }{
		{"bridge fdb del 02:42:0a:58:40:02 dev vx-x", "link vx-x"},
		{"bridge fdb replace 02:42:0a:58:40:02 dev vx-x dst 10.99.0.9", "link vx-x"},
		{"bridge fdb add 02:42:0a:58:40:99 dev vx-x dst 10.99.0.9", "link vx-x"},
		{"bridge fdb del 02:42:0a:58:40:02 dev vx-x master", "link vx-x"},
		{"bridge fdb del 00:00:00:00:00:00 dev vx-x dst 10.99.0.3", "link vx-x"},
		{"bridge fdb append 00:00:00:00:00:00 dev vx-x dst 10.99.0.9", "link vx-x"},
		{"ip neigh del 10.88.64.2 dev br-x", "link br-x"},
		{"ip neigh change 10.88.64.2 lladdr 02:00:00:00:00:99 dev br-x nud reachable", "link br-x"},
		{"ip neigh change 10.88.64.2 lladdr 02:00:00:00:00:99 dev br-x nud permanent", "link br-x"},
		{"ip neigh flush dev br-x nud permanent", "link br-x"},
		{"ip link set vx-x type vxlan id 4980737 learning", "link vx-x"},
		{"ip link set vx-x mtu 1300", "link vx-x"},
		{"ip link set vx-x nomaster", "link vx-x"},
		{"ip link set vx-x down", "link vx-x"},
		{"bridge link set dev vx-x neigh_suppress off", "link vx-x"},
		{"bridge link set dev vx-x flood on", "link vx-x"},
		{"ip link del vx-x", "link vx-x"},
		{"ip link set br-x down", "link br-x"},
		{"ip route del unreachable 10.89.0.0/16", "routes"},
	} {
		t.Run(c.cmd, func(t *testing.T) {
			h.run(strings.Fields(c.cmd)...)
			start := time.Now()
			if !heard(w.Touched(), patience) {
				t.Fatal("nothing was heard")
			}
			now := w.Take()
			if got := told(now); !strings.Contains(got, c.want) {
				t.Errorf("heard %q, want %q", got, c.want)
			}
			repair(now)
			took = append(took, time.Since(start))
			quiet := false
			for range 5 { // what follows from it
				if quiet = !heard(w.Touched(), silence); quiet {
					break
				}
				repair(w.Take())
			}
			if !quiet {
				t.Error("the repair is news for ever")
			}
			for _, op := range diff.Compute(want, h.observe()).Ops {
				t.Errorf("not repaired: %s %s %s", op.Verb, op.Object.Key(), op.Object.Spec())
			}
		})
	}
	// Some have to wait for a processor where others work.
	slices.Sort(took)
	if took[0] > 100*time.Millisecond {
		t.Errorf("repaired after %v at best", took[0])
	}
}

// What operations do to a tunnel is no news, nor what the kernel keeps by itself.
func TestTunnelNotTouched(t *testing.T) {
	t.Parallel()
	probe.Require(t, probe.VXLAN)
	h := newHost(t)
	w := h.watch()
	h.apply(diff.Create(append([]dataplane.Object{dataplane.BasePage(table)}, spanning()...)))
	more := elsewhere("02:42:0a:58:40:03", "10.88.64.3", "10.99.0.2")
	h.apply(diff.Create(more))
	h.apply(diff.Update(more, elsewhere("02:42:0a:58:40:03", "10.88.64.3", "10.99.0.3")))
	h.apply(diff.Delete(more))
	for _, cmd := range []string{
		"ip link add va type veth peer name vb", "ip link set va master br-x", "ip link set va up", "ip link set vb up",
		"ip neigh add 10.88.0.9 lladdr 02:00:00:00:00:09 dev br-x", // a person's own
		"ip neigh add 10.88.0.10 lladdr 02:00:00:00:00:09 nud reachable dev br-x",
		"ip neigh del 10.88.0.10 dev br-x",
		"bridge fdb add 02:00:00:00:00:09 dev va master static", // on a port of theirs
	} {
		h.run(strings.Fields(cmd)...)
	}
	if heard(w.Touched(), silence) {
		t.Errorf("news: %s", told(w.Take()))
	}
	// And it is not taken for ours.
	if n := len(diff.Compute(dataplane.NewState(append([]dataplane.Object{dataplane.BasePage(table)}, spanning()...)...), h.observe()).Ops); n != 0 {
		t.Errorf("%d ops against what the kernel and others have there", n)
	}
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
