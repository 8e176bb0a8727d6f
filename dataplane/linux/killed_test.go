package linux_test

import (
	"net/netip"
	"strings"
	"testing"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/linux"
)

// TestKilledUpdating: killed between any two messages of connecting a running
// container to a second network, or of disconnecting it, the next process brings it
// to what is committed, insides included, without being told that something was
// under way.
func TestKilledUpdating(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, then string
		points     int // at least
	}{{"connecting", "connected", 12}, {"connecting", "not", 12}, {"disconnecting", "not", 8}} {
		t.Run(c.name+", then "+c.then, func(t *testing.T) {
			t.Parallel()
			cr := &crash{}
			h := newHost(t, func(cfg *linux.Config) { cfg.Hook = cr.hook })
			one, two := h.oneAndTwo()
			from, to, want := one, two, two
			if c.name == "disconnecting" {
				from, to = two, one
			}
			if c.then == "not" {
				want = one
			}
			if points := h.killedUpdating(cr, from, to, want, c.then == "connected"); points < c.points {
				t.Errorf("hardly any points were hit: %d", points)
			}
		})
	}
}

// oneAndTwo are a container on one network, and on two.
func (h *host) oneAndTwo() (one, two []dataplane.Object) {
	m := endpoint
	m.Owner.ID = "e2"
	ns := h.pin("web")
	web := h.container("web", 2)
	for i, o := range web {
		if up, ok := o.(dataplane.Up); ok && up.NS == "" {
			up.Wire = true
			web[i] = up
		}
	}
	net := append(bridgeNet(), dataplane.Bridge{Meta: network, Name: "br1"}, dataplane.Up{Meta: network, Link: "br1"},
		dataplane.Addr{Meta: network, Link: "br1", Prefix: netip.MustParsePrefix("172.18.0.1/16")})
	one = append(net, web...)
	for _, o := range one {
		if r, ok := o.(dataplane.Route); !ok || r.NS == "" {
			two = append(two, o)
		}
	}
	return one, append(two,
		dataplane.Veth{Meta: m, Name: "vethweb2", Master: "br1", PeerNS: ns, PeerName: "eth1"},
		dataplane.Sysctl{Meta: m, NS: ns, Name: "net/ipv4/conf/eth1/log_martians", Value: "1"},
		dataplane.Addr{Meta: m, NS: ns, Link: "eth1", Prefix: netip.MustParsePrefix("172.18.0.2/16")},
		dataplane.Up{Meta: m, NS: ns, Link: "eth1"},
		dataplane.Redirect{Meta: m, NS: ns},
		dataplane.Route{Meta: m, NS: ns, Link: "eth1", Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("172.18.0.1")},
		dataplane.Up{Meta: m, Link: "vethweb2", Wire: true},
		dataplane.EndpointElement(m, table, netip.MustParseAddr("172.18.0.2"), "br1"))

}

// killedUpdating kills at one point after the other, and says how many there are.
func (h *host) killedUpdating(cr *crash, from, to, want []dataplane.Object, connected bool) (points int) {
	h.t.Helper()
	ns := h.pin("web")
	h.apply(diff.Create(from))
	for ; ; points++ {
		h.to(from, ns)
		cr.left = points + 1
		stopped := cr.survive(func() { h.apply(diff.Update(from, to)) })
		cr.left = 0
		if !stopped {
			return points
		}
		k := h.k
		h.k = h.open() // the next process
		h.apply(diff.Compute(dataplane.NewState(want...), h.seen(want, ns)).Ops)
		if left := diff.Compute(dataplane.NewState(want...), h.seen(want, ns)); len(left.Ops)+len(left.Drift) > 0 {
			h.t.Errorf("killed at %q: %v %v", cr.at, left.Ops, left.Drift)
		}
		h.settle()
		out := h.in(ns, "ip", "-o", "link")
		if strings.Contains(out, "lsd") || strings.Contains(out, ": eth1@") != connected {
			h.t.Errorf("killed at %q: inside are\n%s", cr.at, out)
		}
		k.Close()
	}
}

// seen is what a reconciliation sees: parameters are asked for one by one.
func (h *host) seen(want []dataplane.Object, ns string) *dataplane.State {
	h.t.Helper()
	st := h.observe(ns)
	var ask []dataplane.Object
	for _, o := range want {
		if _, ok := o.(dataplane.Sysctl); ok {
			ask = append(ask, o)
		}
	}
	more, err := h.k.ObserveKeys(h.t.Context(), ask)
	if err != nil {
		h.t.Fatal(err)
	}
	st.Add(more.All()...)
	return st
}

// to brings a container to a state, as a reconciliation that repairs its inside.
func (h *host) to(want []dataplane.Object, ns string) {
	h.t.Helper()
	h.apply(diff.Compute(dataplane.NewState(want...), h.seen(want, ns), ns).Ops)
	h.settle()
}
