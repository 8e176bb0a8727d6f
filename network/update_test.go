package network

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/internal/lab"
	"linkspan/store"
)

// plus is a request with one more network.
func plus(r Request, network string, number int, more ...func(*EndpointWish)) Request {
	w := EndpointWish{Network: network, Number: number}
	for _, f := range more {
		f(&w)
	}
	r.Endpoints = append(slices.Clone(r.Endpoints), w)
	return r
}

// without is a request with a network less.
func without(r Request, network string) Request {
	r.Endpoints = slices.DeleteFunc(slices.Clone(r.Endpoints), func(w EndpointWish) bool { return w.Network == network })
	return r
}

func (w *world) update(r Request) *cnm.Sandbox {
	w.t.Helper()
	if err := w.Update(w.t.Context(), r); err != nil {
		w.t.Fatalf("update %s: %v", r.ContainerID, err)
	}
	s, _ := w.Sandbox(r.ContainerID)
	return s
}

func gwWish(priority int) func(*EndpointWish) {
	return func(w *EndpointWish) { w.GwPriority = priority }
}

// carriers says which interfaces have the default routes.
func carriers(s *cnm.Sandbox) string {
	four, six := "-", "-"
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.Gateway(true).IsValid() {
			four = e.IfName
		}
		if e.Gateway(false).IsValid() {
			six = e.IfName
		}
	}
	return four + " " + six
}

// defaults are the kernel's default routes in a sandbox.
func (w *world) defaults(s *cnm.Sandbox) (out []string) {
	for _, o := range w.kernel.State().All() {
		if r, ok := o.(dataplane.Route); ok && r.NS == s.Path && r.Dst.Bits() == 0 {
			out = append(out, r.Link+" "+r.Via.String())
		}
	}
	return out
}

// Connect and disconnect on a running container: what stays is not touched.
func TestConnectDisconnect(t *testing.T) {
	w := newWorld(t)
	w.network("lamp", "172.18.0.0/16")
	w.network("lnmp", "172.19.0.0/16")
	r := on("a", "lamp", "8080:80")
	s := w.join(r)
	before, bound := w.everything(), w.ports.held()
	_, heard := w.bus.Subscribe(t.Context(), time.Time{})

	r2 := plus(r, "lnmp", 1, func(w *EndpointWish) { w.IPv4, w.Aliases = ip("172.19.0.77"), []string{"web"} })
	s2 := w.update(r2)
	if s2.ID != s.ID || len(s2.Endpoints) != 2 || s2.Endpoints[0].ID != s.Endpoints[0].ID || s2.Endpoints[0].HostIf != s.Endpoints[0].HostIf {
		t.Errorf("%+v", s2)
	}
	e := s2.Endpoints[1]
	if e.IfName != "eth1" || e.Addr4().String() != "172.19.0.77/16" || e.MAC != "02:42:ac:13:00:4d" || len(e.Gateways) != 0 || !slices.Equal(e.Aliases, []string{"web"}) {
		t.Errorf("%+v", e)
	}
	for _, key := range []string{"link " + e.HostIf, "addr " + s.ID[:12] + ":eth1 172.19.0.77/16", "up " + s.ID[:12] + ":eth1"} {
		if !w.has(key) {
			t.Errorf("no %s", key)
		}
	}
	if got := w.ports.held(); !slices.Equal(got, bound) {
		t.Errorf("ports were touched: %q, %q", got, bound)
	}
	log := len(w.kernel.Log())
	if w.update(r2); len(w.kernel.Log()) != log {
		t.Errorf("an update to the same did %q", w.kernel.Log()[log:])
	}
	w.update(r)
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
	var got []string
	for len(heard) > 0 {
		e := <-heard
		got = append(got, e.Action+" "+e.Attributes["name"]+" "+e.Attributes["container"])
	}
	if want := []string{"connect lnmp a", "disconnect lnmp a"}; !slices.Equal(got, want) {
		t.Errorf("events %q", got)
	}
	// The address rests; a restart of the daemon changes nothing.
	w.update(r2)
	made := w.everything()
	w.restart()
	if d := lab.Differ(made, w.everything()); d != "" || len(w.report.Ops) > 0 {
		t.Errorf("the restart did %v\n%s", w.report.Ops, d)
	}
	w.leave("a", false)
	w.remove("lamp")
	w.remove("lnmp")
}

// R23: the default gateway is chosen per address family, and another network
// never moves it.
func TestDefaultGateways(t *testing.T) {
	w := newWorld(t)
	six := func(w *NetworkWish) { w.IPv6 = yes() }
	w.network("plain", "172.18.0.0/16")
	w.network("dual", "172.19.0.0/16", six)
	w.network("closed", "172.20.0.0/16", six, func(w *NetworkWish) { w.Internal = true })
	w.network("other", "172.21.0.0/16", six)
	steps := []struct {
		what string
		r    Request
		want string
	}{
		{"one of IPv4", on("a", "plain"), "eth0 -"},
		{"a dual one brings IPv6", plus(on("a", "plain"), "dual", 1), "eth0 eth1"},
		{"an unrelated one moves nothing", plus(plus(on("a", "plain"), "dual", 1), "other", 2), "eth0 eth1"},
		{"whatever the order of the wish", plus(plus(on("a", "other"), "dual", 1), "plain", 0), ""},
		{"a higher priority takes both families", plus(plus(on("a", "plain"), "dual", 1), "other", 2, gwWish(5)), "eth2 eth2"},
		{"and gives them back", plus(on("a", "plain"), "dual", 1), "eth0 eth1"},
		{"a priority for IPv4 alone leaves IPv6", func() Request {
			r := plus(on("a", "plain"), "dual", 1)
			r.Endpoints[0].GwPriority = 9
			return r
		}(), "eth0 eth1"},
		{"an internal one never", plus(plus(on("a", "plain"), "dual", 1), "closed", 2, gwWish(100)), "eth0 eth1"},
		{"the carrier goes", without(plus(on("a", "plain"), "dual", 1), "plain"), "eth1 eth1"},
		{"nothing leads out", plus(Request{ContainerID: "a", ContainerName: "name-of-a"}, "closed", 2), "- -"},
	}
	w.join(steps[0].r)
	for _, step := range steps {
		if step.want == "" {
			continue
		}
		s := w.update(step.r)
		if got := carriers(s); got != step.want {
			t.Errorf("%s: %s, want %s", step.what, got, step.want)
		}
		// The kernel has these and no others.
		var want []string
		for i := range s.Endpoints {
			for _, g := range s.Endpoints[i].Gateways {
				want = append(want, s.Endpoints[i].IfName+" "+g.String())
			}
		}
		got := w.defaults(s)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the kernel routes %q, want %q", step.what, got, want)
		}
	}
}

// R24: interfaces' names are declared and stay.
func TestInterfaceNames(t *testing.T) {
	w := newWorld(t)
	w.network("a", "")
	w.network("b", "")
	w.network("c", "")
	r := plus(plus(on("x", "a"), "b", 1), "c", 2)
	names := func(s *cnm.Sandbox) (out []string) {
		for _, e := range s.Endpoints {
			out = append(out, e.NetworkName+"="+e.IfName)
		}
		return out
	}
	if got := names(w.join(r)); !slices.Equal(got, []string{"a=eth0", "b=eth1", "c=eth2"}) {
		t.Errorf("%q", got)
	}
	if got := names(w.update(without(r, "b"))); !slices.Equal(got, []string{"a=eth0", "c=eth2"}) {
		t.Errorf("after a disconnect: %q", got)
	}
	w.leave("x", false)
	if got := names(w.join(without(r, "b"))); !slices.Equal(got, []string{"a=eth0", "c=eth2"}) {
		t.Errorf("after a restart: %q", got)
	}
	w.leave("x", false)
	w.network("lan", "", func(w *NetworkWish) {
		w.Options = map[string]string{"com.docker.network.container_iface_prefix": "lan"}
	})
	chosen := func(w *EndpointWish) { w.DriverOpts = map[string]string{"com.docker.network.endpoint.ifname": "wan0"} }
	if got := names(w.join(plus(plus(on("z", "a"), "lan", 1), "b", 2, chosen))); !slices.Equal(got, []string{"a=eth0", "lan=lan1", "b=wan0"}) {
		t.Errorf("prefix and name: %q", got)
	}
	named := func(n string) func(*EndpointWish) {
		return func(w *EndpointWish) { w.DriverOpts = map[string]string{"com.docker.network.endpoint.ifname": n} }
	}
	for _, c := range []struct {
		r    Request
		says string
	}{
		{plus(on("y", "a"), "b", 0), "interfaces on networks a and b would both be eth0"},
		{plus(on("y", "a"), "b", 1, named("eth0")), "would both be eth0"},
		{plus(on("y", "a"), "b", 1, named("lo")), "lo is the loopback interface"},
		{plus(on("y", "a"), "b", 1, named("a/b")), "no device name"},
		{plus(on("y", "a"), "b", 1, named("")), "no device name"},
		{plus(on("y", "a"), "a", 1), "wishes for network a twice"},
	} {
		before := w.everything()
		if _, err := w.Check(t.Context(), c.r); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("check %+v: %v", c.r.Endpoints, err)
		}
		if _, err := w.Join(t.Context(), c.r); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("join %+v: %v", c.r.Endpoints, err)
		}
		if d := lab.Differ(before, w.everything()); d != "" {
			t.Errorf("left:\n%s", d)
		}
	}
}

// Every kernel operation of a connect, of a disconnect and of a move of the default
// route can fail: then everything is as before.
func TestUpdateReverts(t *testing.T) {
	w := newWorld(t)
	w.network("first", "172.18.0.0/16")
	w.network("second", "172.19.0.0/16", func(w *NetworkWish) { w.IPv6, w.Pools = yes(), append(w.Pools, cnm.Pool{Subnet: pfx("fd00:2::/64")}) })
	one := on("a", "first", "8080:80", "9000-9002:9000-9002/udp")
	one.Endpoints[0].Names = []string{"a"}
	two := plus(one, "second", 1, gwWish(1), func(w *EndpointWish) { w.Names = []string{"a"} })
	w.join(one)
	total := 0
	for _, c := range []struct{ from, to Request }{{one, two}, {two, without(two, "first")}, {without(two, "first"), one}} {
		before := w.everything()
		for n := 1; ; n++ {
			w.kernel.FailNth(n, errBoom)
			err := w.Update(t.Context(), c.to)
			if err == nil {
				total += n - 1
				break
			}
			if !errors.Is(err, errBoom) || !strings.Contains(err.Error(), "name-of-a") {
				t.Errorf("operation %d: %v", n, err)
			}
			if d := lab.Differ(before, w.everything()); d != "" {
				t.Fatalf("operation %d failed (%v), not as before:\n%s", n, err, d)
			}
		}
		w.kernel.FailNth(1, nil)
	}
	if total < 20 {
		t.Errorf("only %d operations", total)
	}
}

// The store refuses, the keeper is away: everything is as before.
func TestUpdateRefused(t *testing.T) {
	w := newWorld(t)
	w.network("first", "172.18.0.0/16")
	w.network("second", "172.19.0.0/30")
	r := on("a", "first", "8080:80")
	w.join(r)
	w.join(on("b", "second"))
	before := w.everything()
	if err := w.Update(t.Context(), plus(r, "second", 1)); !errors.Is(err, cnm.ErrExhausted) {
		t.Errorf("a full network: %v", err)
	}
	if err := w.Update(t.Context(), plus(r, "nowhere", 1)); !errors.Is(err, cnm.ErrNotFound) || !strings.Contains(err.Error(), "network nowhere not found") {
		t.Errorf("no network: %v", err)
	}
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("a refused update left:\n%s", d)
	}
	w.leave("b", false)
	before = w.everything()
	w.store.breaks(func(store.Op) error { return store.ErrFull })
	if err := w.Update(t.Context(), plus(r, "second", 1)); !errors.Is(err, store.ErrFull) {
		t.Errorf("a full disk: %v", err)
	}
	w.store.breaks(nil)
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
	for _, id := range []string{"stopped", ""} {
		if err := w.Update(t.Context(), on(id, "first")); err != nil {
			t.Errorf("a container that does not run: %v", err)
		}
	}
	if err := w.Update(t.Context(), Request{ContainerID: "a", Target: "b"}); err != nil {
		t.Errorf("in another's: %v", err)
	}
}

// The daemon dies at any point of an update: brought to its old definition, or to the
// new one once that is written, it is as that says, and nothing else is left. The
// changes are of both kinds: what may be made while it is written, and what may not.
func TestUpdateKilled(t *testing.T) {
	one := on("a", "first", "8080:80")
	both := plus(one, "second", 1)
	for _, change := range []struct {
		what    string
		was, is Request
		points  int // at least, with the wish written
	}{
		{"instead", one, without(plus(one, "second", 1, gwWish(3)), "first"), 10},
		{"more", one, both, 8},
		{"more, and the route goes there", one, plus(one, "second", 1, gwWish(3)), 8},
		{"less", both, one, 1},
		{"less, and the route goes back", plus(one, "second", 1, gwWish(3)), one, 3},
	} {
		for _, c := range []struct{ written, after bool }{{true, false}, {true, true}, {false, false}} {
			for step := 1; ; step++ {
				w := newWorld(t)
				w.network("first", "172.18.0.0/16")
				w.network("second", "172.19.0.0/16")
				w.join(change.was)
				done := w.dies(t, step, c.written, func() error { return w.Update(t.Context(), change.is) })
				r := change.was
				if c.after {
					r = change.is
				}
				s := w.update(r)
				if len(s.Endpoints) != len(r.Endpoints) || s.Endpoints[0].NetworkName != r.Endpoints[0].Network {
					t.Fatalf("%s, step %d, %v: %+v", change.what, step, c, s.Endpoints)
				}
				e := &s.Endpoints[0]
				if len(s.Endpoints) > 1 && s.Endpoints[1].Gateway(true).IsValid() {
					e = &s.Endpoints[1]
				}
				if got := w.defaults(s); len(got) != 1 || got[0] != e.IfName+" "+e.Gateway(true).String() {
					t.Errorf("%s, step %d, %v: default routes %q", change.what, step, c, got)
				}
				if got := w.elements("publish4_any"); len(got) != 1 || !strings.Contains(got[0], e.Addr4().Addr().String()) {
					t.Errorf("%s, step %d, %v: published %q", change.what, step, c, got)
				}
				w.settled(t, change.what, step, c)
				w.leave("a", false)
				w.remove("first")
				w.remove("second")
				if done {
					if c.written && step < change.points {
						t.Errorf("%s: only %d points", change.what, step)
					}
					break
				}
			}
		}
	}
}

// What the caller keeps of the definition is written with the sandbox or not at all,
// and told of once it is, before the kernel is done or after.
func TestUpdateWith(t *testing.T) {
	w := newWorld(t)
	w.network("second", "172.19.0.0/16")
	w.join(on("a", "bridge"))
	rev, told := int64(0), 0
	with := func(value string) With {
		return func() (store.Op, func(int64, error), error) {
			return store.Op{Key: "containers/a", Value: []byte(value), Guard: true, IfRev: rev}, func(r int64, err error) {
				if told++; err == nil {
					rev = r
				}
			}, nil
		}
	}
	stored := func() string {
		e, _, err := w.store.Get(t.Context(), "containers/a")
		if err != nil || e.Rev != rev {
			t.Errorf("%+v, %v, revision %d told", e, err, rev)
		}
		return string(e.Value)
	}
	r := plus(on("a", "bridge"), "second", 1)
	r.With = with("two")
	w.update(r)
	if stored() != "two" || told != 1 {
		t.Errorf("stored %q, told %d times", stored(), told)
	}
	w.update(r)
	if told != 1 {
		t.Error("asked when nothing changed")
	}
	before := w.everything()
	r = on("a", "bridge")
	r.With = with("one")
	w.store.breaks(func(store.Op) error { return store.ErrFull })
	if err := w.Update(t.Context(), r); !errors.Is(err, store.ErrFull) || told != 2 {
		t.Errorf("full: %v, told %d times", err, told)
	}
	w.store.breaks(nil)
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("full: not as before:\n%s", d)
	}
	r.With = func() (store.Op, func(int64, error), error) { return store.Op{}, nil, errBoom }
	if err := w.Update(t.Context(), r); !errors.Is(err, errBoom) {
		t.Errorf("no record: %v", err)
	}
	rev-- // somebody else wrote it
	r.With = with("one")
	if err := w.Update(t.Context(), r); !errors.Is(err, store.ErrCompare) {
		t.Errorf("outdated: %v", err)
	}
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
}

// A renamed container is called by its new name in conflicts.
func TestRenamed(t *testing.T) {
	w := newWorld(t)
	w.network("shop", "172.18.0.0/16")
	r := on("a", "shop", "8080:80")
	w.join(r)
	r.ContainerName = "fresh"
	r.Endpoints[0].Names = []string{"fresh"}
	log := len(w.kernel.Log())
	w.update(r)
	if len(w.kernel.Log()) != log {
		t.Errorf("a new name did %q", w.kernel.Log()[log:])
	}
	if _, err := w.Join(t.Context(), on("b", "shop", "8080:80")); err == nil || !strings.Contains(err.Error(), "fresh") {
		t.Errorf("%v", err)
	}
	if _, err := w.Join(t.Context(), Request{ContainerID: "b", Endpoints: []EndpointWish{{Network: "shop", IPv4: ip("172.18.0.2")}}}); err == nil || !strings.Contains(err.Error(), "held by container fresh") {
		t.Errorf("%v", err)
	}
	if err := w.RemoveNetwork(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), "active endpoints: fresh") {
		t.Errorf("%v", err)
	}
}

// Random lives of containers on networks that come and go, restarts between: the
// kernel always has exactly what is declared, and at the end nothing.
func TestHistories(t *testing.T) {
	for seed := range uint64(4) {
		w := newWorld(t)
		before := w.everything()
		rnd := rand.New(rand.NewPCG(seed, 3))
		names := []string{"n0", "n1", "n2", "n3"}
		for i, n := range names {
			w.network(n, fmt.Sprintf("10.%d.0.0/24", i), func(w *NetworkWish) {
				if i%2 == 1 {
					w.IPv6, w.Pools = yes(), append(w.Pools, cnm.Pool{Subnet: pfx(fmt.Sprintf("fd00:%d::/64", i))})
				}
				w.Internal = i == 3
				w.Pools[0].Range = pfx(fmt.Sprintf("10.%d.0.0/25", i))
			})
		}
		wish := func(id int) Request {
			r := on(fmt.Sprint("c", id), names[rnd.IntN(4)], fmt.Sprintf("%d:80", 8000+id))
			for i, n := range names {
				if n == r.Endpoints[0].Network {
					r.Endpoints[0].Number = i
				} else if rnd.IntN(2) == 0 {
					r = plus(r, n, i, gwWish(rnd.IntN(3)))
				}
			}
			if rnd.IntN(3) == 0 {
				r.Endpoints[0].IPv4 = netip.AddrFrom4([4]byte{10, r.Endpoints[0].Network[1] - '0', 0, byte(200 + id)})
			}
			return r
		}
		for range 150 {
			id := rnd.IntN(5)
			switch name := fmt.Sprint("c", id); rnd.IntN(6) {
			case 0, 1:
				w.join(wish(id))
			case 2, 3:
				if _, ok := w.Sandbox(name); ok {
					w.update(wish(id))
				}
			case 4:
				w.leave(name, false)
			case 5:
				w.restart()
				if len(w.report.Ops) > 0 {
					t.Fatalf("seed %d: the restart did %v", seed, w.report.Ops)
				}
			}
			r, err := w.Reconcile(t.Context(), true)
			if err != nil || len(r.Ops) > 0 || len(r.Drift) > 0 {
				t.Fatalf("seed %d: %v, differs: %+v, drift %+v", seed, err, r.Ops, r.Drift)
			}
		}
		for id := range 5 {
			w.leave(fmt.Sprint("c", id), false)
		}
		for _, n := range names {
			w.remove(n)
		}
		if d := lab.Differ(before, w.everything()); d != "" {
			t.Errorf("seed %d: not as before:\n%s", seed, d)
		}
	}
}
