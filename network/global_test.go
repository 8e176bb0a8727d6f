package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// shop is an overlay network of two hosts.
func shop(t testing.TB, w *world, options ...string) *cnm.Network {
	t.Helper()
	wish := NetworkWish{Name: "shop", Driver: "overlay", Pools: []cnm.Pool{{Subnet: pfx("192.168.0.0/16")}}, Options: map[string]string{}}
	for i := 0; i < len(options); i += 2 {
		wish.Options[options[i]] = options[i+1]
	}
	n, _, err := w.CreateNetwork(t.Context(), wish)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// named is a container's wish for the network shop, with its name.
func named(id string, addr ...string) Request {
	r := on(id, "shop")
	r.ContainerName = id
	r.Endpoints[0].Names = []string{id}
	if len(addr) > 0 {
		r.Endpoints[0].IPv4 = ip(addr[0])
	}
	return r
}

// beyond are the objects that lead to other hosts.
func (w *world) beyond() (out []string) {
	for _, o := range w.kernel.State().All() {
		switch o := o.(type) {
		case dataplane.FDB:
			if o.Dst.IsValid() {
				out = append(out, "fdb "+o.MAC+" "+o.Dst.String())
			}
		case dataplane.Neighbour:
			out = append(out, "neigh "+o.Addr.String()+" "+o.MAC)
		}
	}
	slices.Sort(out)
	return out
}

// names are what the resolver knows, without ids.
func (w *world) knows() (out []string) {
	for _, k := range w.ports.known() {
		if rest, ok := strings.CutPrefix(k, "name "); ok {
			_, rest, _ = strings.Cut(rest, " ")
			out = append(out, rest)
		}
	}
	slices.Sort(out)
	return out
}

func TestGlobalNeedsMesh(t *testing.T) {
	w := newWorld(t, spanning)
	_, _, err := w.CreateNetwork(t.Context(), NetworkWish{Name: "shop", Driver: "overlay"})
	if !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "linkspan mesh init") || !strings.Contains(err.Error(), "linkspan mesh join") {
		t.Errorf("%v", err)
	}
	_, m := newTruth().enter(t)
	m.out.Store(true)
	w.SetMesh(t.Context(), m)
	_, _, err = w.CreateNetwork(t.Context(), NetworkWish{Name: "shop", Driver: "routed"})
	if !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "forgotten") || !strings.Contains(err.Error(), "linkspan mesh join") {
		t.Errorf("forgotten: %v", err)
	}
	for _, wish := range []NetworkWish{
		{Name: "a", Driver: "overlay", Scope: "local"},
		{Name: "a", Driver: "bridge", Scope: "global"},
		{Name: "a", Scope: "swarm"},
	} {
		if _, _, err := w.CreateNetwork(t.Context(), wish); err == nil || !strings.Contains(err.Error(), "--scope") {
			t.Errorf("%+v: %v", wish, err)
		}
	}
}

func TestGlobalCreate(t *testing.T) {
	x := newTruth()
	a, _ := x.enter(t)
	b, mb := x.enter(t)
	before := a.things()
	n := shop(t, a, "com.docker.network.driver.overlay.vxlanid_list", "4242")
	x.settle()
	for _, w := range []*world{a, b} {
		got, err := w.Network("shop")
		if err != nil || got.ID != n.ID || !got.Global() || got.VNIs[0] != 4242 || got.Pools[0].Gateway != ip("192.168.0.1") {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	plan, err := a.Plan(t.Context(), named("c1"))
	if err != nil || !slices.ContainsFunc(plan, func(o dataplane.Object) bool { return o.Key() == "link vx-"+n.ID[:12] }) {
		t.Errorf("what a first container would make: %v\n%s", err, dataplane.Text(plan))
	}
	if a.things() != before {
		t.Errorf("nobody is on it, and the kernel has something:\n%s", a.things())
	}
	if _, _, err := b.CreateNetwork(t.Context(), NetworkWish{Name: "shop", Driver: "overlay"}); !errors.Is(err, cnm.ErrConflict) {
		t.Errorf("the name twice: %v", err)
	}
	// Its subnet is taken on all hosts.
	if _, _, err := b.CreateNetwork(t.Context(), NetworkWish{Name: "x", Pools: []cnm.Pool{{Subnet: pfx("192.168.7.0/24")}}}); !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), "network shop") {
		t.Errorf("overlap: %v", err)
	}
	if _, _, err := b.CreateNetwork(t.Context(), NetworkWish{Name: "y", Driver: "routed", Pools: []cnm.Pool{{Subnet: pfx("172.17.3.0/24")}}}); !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), "network bridge") {
		t.Errorf("overlap with one of this host: %v", err)
	}
	// Chosen: away from all that this host uses.
	y, _, err := b.CreateNetwork(t.Context(), NetworkWish{Name: "y", Driver: "routed", IPv6: truth2(true)})
	if err != nil || len(y.Pools) != 2 || y.Pools[0].Subnet != pfx("172.18.0.0/16") || !y.Pools[1].Gateway.IsValid() {
		t.Fatalf("%+v, %v", y, err)
	}
	x.settle()
	mb.away.Store(true)
	if err := b.RemoveNetwork(t.Context(), "shop"); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("away: %v", err)
	}
	if _, err := b.Network("shop"); err != nil {
		t.Error(err)
	}
	mb.away.Store(false)
	for _, name := range []string{"shop", "y"} {
		if err := b.RemoveNetwork(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		x.settle()
		for _, w := range []*world{a, b} {
			if _, err := w.Network(name); !errors.Is(err, cnm.ErrNotFound) {
				t.Errorf("%v", err)
			}
			w.settled(t, "removed")
		}
	}
	// And the name and the subnet are to be had again.
	if _, _, err := a.CreateNetwork(t.Context(), NetworkWish{Name: "shop", Pools: []cnm.Pool{{Subnet: pfx("192.168.0.0/16")}}}); err != nil {
		t.Error(err)
	}
}

func truth2(b bool) *bool { return &b }

// TestGlobalTwoHosts: what a container on one host needs of one on another comes and
// goes with it, and the network with the first and last.
func TestGlobalTwoHosts(t *testing.T) {
	x, a, b := pair(t)
	n := x.network("shop")
	before := [2]string{a.everything(), b.everything()}
	c1 := a.join(named("c1"))
	if got := address(c1); got != ip("192.168.0.2") {
		t.Errorf("%s", got)
	}
	if !a.has("link br-"+n.ID[:12]) || !a.has("link vx-"+n.ID[:12]) || b.has("link br-"+n.ID[:12]) {
		t.Errorf("not as it should be:\n%s", a.things())
	}
	c3 := b.join(named("c3"))
	x.settle()
	if got := address(c3); got != ip("192.168.0.16") {
		t.Errorf("%s", got)
	}
	for w, want := range map[*world]string{
		a: "fdb 00:00:00:00:00:00 10.9.0.2,fdb " + c3.Endpoints[0].MAC + " 10.9.0.2,neigh 192.168.0.16 " + c3.Endpoints[0].MAC,
		b: "fdb 00:00:00:00:00:00 10.9.0.1,fdb " + c1.Endpoints[0].MAC + " 10.9.0.1,neigh 192.168.0.2 " + c1.Endpoints[0].MAC,
	} {
		got := slices.DeleteFunc(w.beyond(), func(s string) bool { return strings.Contains(s, "02:4c") }) // the routed device's
		if strings.Join(got, ",") != want {
			t.Errorf("%v, want %s", got, want)
		}
		if got := strings.Join(w.knows(), ", "); got != "[c1] = [192.168.0.2] [], [c3] = [192.168.0.16] []" {
			t.Errorf("names: %s", got)
		}
		w.settled(t, "both are there")
	}
	// Another name, an exposed port: only what changed is told.
	r := named("c1")
	r.Endpoints[0].Names, r.Exposed = []string{"c1", "web"}, []string{"80/tcp"}
	if err := a.Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	x.settle()
	if got := strings.Join(b.knows(), ", "); got != "[c1 web] = [192.168.0.2] [80/tcp], [c3] = [192.168.0.16] []" {
		t.Errorf("names: %s", got)
	}
	if err := b.RemoveNetwork(t.Context(), "shop"); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "c3") {
		t.Errorf("in use here: %v", err)
	}
	b.leave("c3", false)
	x.settle()
	if got := strings.Join(a.knows(), ", "); got != "[c1 web] = [192.168.0.2] [80/tcp]" {
		t.Errorf("names: %s", got)
	}
	if err := b.RemoveNetwork(t.Context(), "shop"); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "c1 on") {
		t.Errorf("in use there: %v", err)
	}
	if _, err := b.Network("shop"); err != nil {
		t.Error(err)
	}
	a.leave("c1", false)
	x.settle()
	for i, w := range []*world{a, b} {
		if got := w.everything(); got != before[i] {
			t.Errorf("host %d: something is left:\n%s\nbefore:\n%s", i+1, got, before[i])
		}
		w.settled(t, "all are gone")
	}
}

// TestGlobalConnect: a container that runs comes on a global network and leaves it.
func TestGlobalConnect(t *testing.T) {
	x, a, b := pair(t)
	b.join(named("c3"))
	x.settle()
	a.join(on("c1", "bridge"))
	before := a.everything()
	r := on("c1", "bridge")
	r.Endpoints = append(r.Endpoints, EndpointWish{Network: "shop", Number: 1, Names: []string{"c1"}})
	if err := a.Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	x.settle()
	if got := strings.Join(b.knows(), ", "); !strings.Contains(got, "[c1] = [192.168.0.16]") {
		t.Errorf("names: %s", got)
	}
	a.settled(t, "connected")
	if err := a.Update(t.Context(), on("c1", "bridge")); err != nil {
		t.Fatal(err)
	}
	x.settle()
	if got := strings.Join(b.knows(), ", "); strings.Contains(got, "c1") {
		t.Errorf("names: %s", got)
	}
	// The resolver stays in the sandbox until it ends, by design.
	if got := a.beyond(); len(slices.DeleteFunc(got, func(s string) bool { return strings.Contains(s, "02:4c") })) > 0 {
		t.Errorf("left: %v", got)
	}
	a.settled(t, "disconnected")
	_ = before
}

func TestGlobalStatic(t *testing.T) {
	x, a, b := pair(t)
	ma := x.members[0]
	if got := address(a.join(named("c1", "192.168.1.1"))); got != ip("192.168.1.1") {
		t.Errorf("%s", got)
	}
	if got := address(b.join(named("c3", "192.168.2.1"))); got != ip("192.168.2.1") {
		t.Errorf("%s", got)
	}
	_, err := b.Join(t.Context(), named("c4", "192.168.1.1"))
	if !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "container c1 (running") {
		t.Errorf("taken on another host: %v", err)
	}
	// In another host's block: it lends it, never gives it out itself, and has it again.
	if got := address(b.join(named("c5", "192.168.1.2"))); got != ip("192.168.1.2") {
		t.Errorf("%s", got)
	}
	_, err = a.Join(t.Context(), named("c6", "192.168.1.2"))
	if !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "host2") {
		t.Errorf("lent: %v", err)
	}
	ma.back(a)
	if _, err = a.Join(t.Context(), named("c6", "192.168.1.2")); !errors.Is(err, cnm.ErrConflict) {
		t.Errorf("lent, after a restart: %v", err)
	}
	b.leave("c5", false)
	x.settle()
	a.join(named("c6", "192.168.1.2"))
	a.leave("c6", false)
	// A definition that is taken back gives back what was lent for it.
	if err := b.Define(t.Context(), named("c9", "192.168.1.2")); err != nil {
		t.Fatal(err)
	}
	if err := a.Define(t.Context(), named("c6", "192.168.1.2")); !errors.Is(err, cnm.ErrConflict) {
		t.Errorf("lent for a definition: %v", err)
	}
	b.Undefine("c9")
	x.settle()
	if err := a.Define(t.Context(), named("c6", "192.168.1.2")); err != nil {
		t.Errorf("given back: %v", err)
	}
	// A definition holds its address, on any host, whether it runs or not.
	if err := b.Define(t.Context(), named("c7", "192.168.3.1")); err != nil {
		t.Fatal(err)
	}
	if _, err = a.Join(t.Context(), named("c8", "192.168.3.1")); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "container c7 (not running") {
		t.Errorf("held: %v", err)
	}
	if err := a.Define(t.Context(), named("c8", "192.168.3.1")); !errors.Is(err, cnm.ErrConflict) {
		t.Errorf("held: %v", err)
	}
}

// TestGlobalCutOff: with the common store gone, a host goes on within its own blocks.
func TestGlobalCutOff(t *testing.T) {
	x, a, _ := talking(t)
	ma := x.members[0]
	ma.away.Store(true)
	for i := range 13 {
		a.join(named(fmt.Sprint("d", i)))
	}
	ma.back(a)
	if len(a.report.Ops) > 0 {
		t.Errorf("a restart with the store gone did %v", a.report.Ops)
	}
	if got := strings.Join(a.knows(), ", "); !strings.Contains(got, "[c3]") {
		t.Errorf("names: %s", got)
	}
	_, err := a.Join(t.Context(), named("more"))
	if !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("the block is full: %v", err)
	}
	a.settled(t, "cut off")
	a.leave("d3", false)
	a.join(named("more"))
	// Static, elsewhere: what only the others can tell is told at the start.
	if err := a.Define(t.Context(), named("s", "192.168.9.9")); err != nil {
		t.Errorf("%v", err)
	}
	if _, err := a.Check(t.Context(), named("s", "192.168.9.9")); err != nil {
		t.Errorf("%v", err)
	}
	ma.away.Store(false)
	if got := address(a.join(named("s", "192.168.9.9"))); got != ip("192.168.9.9") {
		t.Errorf("%s", got)
	}
	if got := address(a.join(named("again"))); got.Compare(ip("192.168.0.32")) < 0 {
		t.Errorf("%s is in another host's block", got)
	}
}

// TestGlobalClaimsOnce: of many containers that start at once, one claims for all.
func TestGlobalClaimsOnce(t *testing.T) {
	x := newTruth()
	a, ma := x.enter(t)
	shop(t, a)
	x.settle()
	done := make(chan error)
	for i := range 40 {
		go func() {
			_, err := a.Join(t.Context(), named(fmt.Sprint("c", i)))
			done <- err
		}()
	}
	for range 40 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if ma.claimed != 3 { // 16, 32 and 48 less what is reserved
		t.Errorf("%d claims", ma.claimed)
	}
	seen := map[netip.Addr]bool{}
	for _, s := range a.Sandboxes() {
		if seen[address(s)] {
			t.Errorf("%s twice", address(s))
		}
		seen[address(s)] = true
	}
}

// TestGlobalNames: names of a dead host leave after a while and are back at once; what
// leads to it stays.
func TestGlobalDeadHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTruth()
		a, _ := x.enter(t, func(w *world) { w.cfg.NameGrace = time.Minute })
		b, mb := x.enter(t)
		shop(t, a)
		x.settle()
		_, heard := a.bus.Subscribe(t.Context(), time.Time{})
		a.join(named("c1"))
		b.join(named("c3"))
		x.settle()
		beyond := a.beyond()
		mb.dead.Store(true)
		x.peers()
		x.settle()
		if !slices.Contains(a.knows(), "[c3] = [192.168.0.16] []") {
			t.Error("its names left at once")
		}
		time.Sleep(a.cfg.NameGrace)
		synctest.Wait()
		if slices.Contains(a.knows(), "[c3] = [192.168.0.16] []") {
			t.Fatal("its names stay")
		}
		if got := a.beyond(); !slices.Equal(got, beyond) {
			t.Errorf("%v, were %v", got, beyond)
		}
		a.settled(t, "dead")
		if slices.Contains(a.knows(), "[c3] = [192.168.0.16] []") {
			t.Error("a reconciliation brought its names back")
		}
		mb.dead.Store(false)
		x.peers()
		x.settle()
		if !slices.Contains(a.knows(), "[c3] = [192.168.0.16] []") {
			t.Error("its names are not back")
		}
		var told []string
		for range 100 {
			select {
			case e := <-heard:
				if e.Type == "mesh" {
					told = append(told, e.Action+" "+e.Attributes["name"])
				}
			default:
			}
		}
		if strings.Join(told, ",") != "dead host2,alive host2" {
			t.Errorf("told: %v", told)
		}
	})
}

// TestGlobalFence: a host that the others forgot lets go of all that leads to them, and
// its containers keep each other; back in, all is as it was.
func TestGlobalFence(t *testing.T) {
	x, a, b := talking(t)
	ma := x.members[0]
	before, knew := a.things(), a.knows()
	ma.out.Store(true)
	x.peers()
	x.settle()
	if got := a.beyond(); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
	if got := strings.Join(a.knows(), ", "); got != "[c1] = [192.168.0.2] []" {
		t.Errorf("names: %s", got)
	}
	if got := b.beyond(); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "10.9.0.1") }) {
		t.Errorf("the others still reach it: %v", got)
	}
	a.settled(t, "fenced")
	if _, err := a.Join(t.Context(), named("c2")); !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "linkspan mesh join") {
		t.Errorf("%v", err)
	}
	ma.out.Store(false)
	x.peers()
	x.settle()
	if got := a.things(); got != before {
		t.Errorf("back in:\n%s\nwant\n%s", got, before)
	}
	if got := a.knows(); !slices.Equal(got, knew) {
		t.Errorf("names: %v, want %v", got, knew)
	}
	a.settled(t, "back")
}

// TestGlobalMTU: the links follow the underlay's MTU, inside of the sandboxes too.
func TestGlobalMTU(t *testing.T) {
	x := newTruth()
	a, ma := x.enter(t)
	n := shop(t, a)
	x.settle()
	s := a.join(named("c1"))
	for _, mtu := range []int{1500, 9000, 1400} {
		ma.mtu.Store(int64(mtu))
		x.peers()
		x.settle()
		for _, key := range []string{"link vx-" + n.ID[:12], "link " + s.Endpoints[0].HostIf} {
			if o, ok := a.kernel.State().Get(key); !ok || !strings.Contains(o.Spec(), fmt.Sprint("mtu ", mtu-50)) {
				t.Errorf("%d: %s is %v", mtu, key, o)
			}
		}
		a.settled(t, mtu)
	}
}

// TestGlobalDelta: what one more endpoint elsewhere costs does not depend on how many
// there are.
func TestGlobalDelta(t *testing.T) {
	x := newTruth()
	a, _ := x.enter(t)
	_, mb := x.enter(t)
	n := shop(t, a)
	x.settle()
	a.join(named("c1"))
	remote := func(i int) cnm.Remote {
		addr := netip.AddrFrom4([4]byte{192, 168, byte(128 + i/250), byte(1 + i%250)})
		return cnm.Remote{ID: fmt.Sprintf("%064x", i), Host: mb.id, Container: fmt.Sprintf("%064x", i), ContainerName: fmt.Sprint("r", i), Addrs: []netip.Prefix{netip.PrefixFrom(addr, 16)},
			MAC: cnm.MACFor(addr), Names: []string{fmt.Sprint("r", i)}}
	}
	cost := map[int]int{}
	for _, many := range []int{1, 2000} {
		var rs []cnm.Remote
		for i := range many {
			rs = append(rs, remote(i))
		}
		mb.Publish(n, rs...)
		x.settle()
		from := len(a.kernel.Log())
		mb.Publish(n, remote(4000+many))
		x.settle()
		cost[many] = len(a.kernel.Log()) - from
		mb.Withdraw(n.ID, remote(4000+many).ID)
		x.settle()
	}
	if cost[1] == 0 || cost[1] != cost[2000] {
		t.Errorf("operations for one more: %v", cost)
	}
	a.settled(t, "2000 elsewhere")
	// What was missed while the watch was down comes whole: only the difference is done.
	mb.Withdraw(n.ID, remote(7).ID)
	x.settle()
	from := len(a.kernel.Log())
	mem := x.members[0]
	mem.tell(func() { mem.whole(n.ID) })
	x.settle()
	if did := len(a.kernel.Log()) - from; did != 0 {
		t.Errorf("%d operations for nothing new", did)
	}
}
