package network

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// TestStray: a host that was forgotten and comes back has containers whose blocks may be
// somebody else's by now. What is free is had again; what is not is told to nobody.
func TestStray(t *testing.T) {
	x, a, b := pair(t)
	ma, mb := x.members[0], x.members[1]
	n := x.network("shop")
	a.join(named("free", "192.168.1.1"))
	a.join(named("taken", "192.168.2.1"))
	b.join(named("c3"))
	x.settle()

	// Forgotten: its blocks are free, and the other host takes one.
	ma.out.Store(true)
	x.peers()
	x.settle()
	x.mu.Lock()
	ma.own = map[string][]cnm.Block{}
	x.blocks[n.ID] = slices.DeleteFunc(x.blocks[n.ID], func(b cnm.Block) bool { return b.Host == ma.id })
	for id, r := range x.endpoints[n.ID] {
		if r.Host == ma.id {
			delete(x.endpoints[n.ID], id)
			x.waiting.Add(1)
			mb.queue <- func() { mb.sink().Remote(t.Context(), n.ID, cnm.RemoteChange{Gone: []string{id}}) }
		}
	}
	x.mu.Unlock()
	x.settle()
	b.join(named("thief", "192.168.2.1"))

	ma.out.Store(false)
	ma.away.Store(true) // and the store does not answer at first
	a.SetMesh(t.Context(), ma)
	x.settle()
	if got := strings.Join(b.knows(), ", "); strings.Contains(got, "taken") || strings.Contains(got, "free") {
		t.Errorf("strays are known: %s", got)
	}
	ma.away.Store(false)
	becomes(t, "what is free", func() bool { return slices.Contains(b.knows(), "[free] = [192.168.1.1] []") })
	x.settle()
	if got := strings.Join(b.knows(), ", "); strings.Contains(got, "taken") || !strings.Contains(got, "[thief] = [192.168.2.1] []") {
		t.Errorf("what is taken: %s", got)
	}
	// A change of it is told to nobody either; its end and next start are as anybody's.
	r := named("taken", "192.168.2.1")
	r.Endpoints[0].Names = []string{"taken", "alias"}
	if err := a.Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	a.leave("taken", false)
	s := a.join(named("taken"))
	x.settle()
	if !slices.Contains(b.knows(), "[taken] = ["+address(s).String()+"] []") {
		t.Errorf("started again: %v", b.knows())
	}
	a.settled(t, "back")
	b.settled(t, "back")
}

// TestAllow: what routes lead into the encrypted tunnels is allowed to the peer before
// they do.
func TestAllow(t *testing.T) {
	x := newTruth()
	said := map[string][]netip.Prefix{}
	calls := 0
	a, ma := x.enter(t, func(w *world) {
		w.cfg.Allow = func(_ string, by map[string][]netip.Prefix) {
			calls++
			clear(said)
			for host, ps := range by {
				said[host[:1]] = ps
			}
		}
	})
	b, mb := x.enter(t)
	ma.secure.Store(true)
	mb.secure.Store(true)
	x.peers()
	x.settle()
	n, _, err := a.CreateNetwork(t.Context(), NetworkWish{Name: "shop", Driver: "routed", Options: map[string]string{"encrypted": ""}, Pools: []cnm.Pool{{Subnet: pfx("192.168.0.0/16")}}})
	if err != nil {
		t.Fatal(err)
	}
	x.settle()
	a.join(named("c1"))
	x.settle()
	if len(said) > 0 {
		t.Errorf("nobody is there: %v", said)
	}
	b.join(named("c3", "192.168.7.7"))
	x.settle()
	if got := said["2"]; !slices.Equal(got, []netip.Prefix{pfx("192.168.7.0/28")}) {
		t.Errorf("%v\n%s", said, a.things())
	}
	before := calls
	b.join(named("c4", "192.168.7.8")) // in the same block
	x.settle()
	if calls != before {
		t.Errorf("told again: %d", calls-before)
	}
	for _, o := range a.kernel.State().All() {
		if r, ok := o.(dataplane.Route); ok && r.Dst == pfx("192.168.7.0/28") && r.Link != "ls-w00000a" {
			t.Errorf("%+v", r)
		}
	}
	// The peer's key is gone: nothing is allowed, nothing leads there.
	mb.secure.Store(false)
	x.peers()
	x.settle()
	if len(said) > 0 {
		t.Errorf("without its key: %v", said)
	}
	mb.secure.Store(true)
	x.peers()
	x.settle()
	if len(said["2"]) != 1 {
		t.Errorf("with its key: %v", said)
	}
	a.leave("c1", false)
	if len(said) > 0 {
		t.Errorf("nobody is here: %v", said)
	}
	_ = n
}

// TestHostsOn: who is on a network, as inspect and the mesh's status show it.
func TestHostsOn(t *testing.T) {
	x, a, b := pair(t)
	mb := x.members[1]
	n := x.network("shop")
	if got := a.HostsOn(n.ID); len(got) > 0 {
		t.Errorf("%+v", got)
	}
	b.join(named("c3"))
	a.join(named("c1"))
	b.join(named("c4"))
	x.settle()
	got := a.HostsOn(n.ID)
	if len(got) != 2 || got[0].Name != "host1" || !got[0].Here || got[0].Endpoints != 1 || got[1].Name != "host2" || got[1].Addr != mb.addr || got[1].Endpoints != 2 {
		t.Errorf("%+v", got)
	}
	st := a.Spans()
	if len(st) != 1 || st[0].Note != "" || st[0].Endpoints != 1 || len(st[0].Blocks) != 1 || len(st[0].Hosts) != 1 || st[0].Hosts[0].Path.Kind != cnm.PathVXLAN {
		t.Errorf("%+v", st)
	}
	if rs := a.Remotes(n.ID); len(rs) != 2 || rs[0].Host != mb.id || len(b.Remotes(n.ID)) != 1 {
		t.Errorf("%+v", rs)
	}
	for _, ref := range []string{"bridge", "nobody's"} {
		if rs := a.Remotes(ref); len(rs) > 0 {
			t.Errorf("%+v", rs)
		}
		if got := a.HostsOn(ref); len(got) > 0 {
			t.Errorf("%+v", got)
		}
	}
}

// TestLinkElsewhere: a link to a container on another host means whoever has the name.
func TestLinkElsewhere(t *testing.T) {
	x := newTruth()
	a, _ := x.enter(t)
	shop(t, a)
	x.settle()
	r := named("c1")
	r.Endpoints[0].Links = []cnm.Link{{Target: "a-database-with-a-long-name", Alias: "db"}, {Target: strings.Repeat("ab", 32), Alias: "local"}}
	a.join(r)
	got := strings.Join(a.ports.known(), "\n")
	if !strings.Contains(got, " a-database-with-a-long-name}") || !strings.Contains(got, " abababababab}") {
		t.Errorf("%s", got)
	}
}
