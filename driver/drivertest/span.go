package drivertest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/dptest"
	"linkspan/driver"
)

// Peering is another host of a case: its blocks of addresses, and its endpoints.
type Peering struct {
	Peer    cnm.Peer
	Blocks  []cnm.Block
	Remotes []cnm.Remote
}

// blocks are all that the controller knows of, whosever they are.
func (c *Case) blocks() []cnm.Block {
	all := c.Home
	for _, p := range c.Peers {
		all = append(all[:len(all):len(all)], p.Blocks...)
	}
	return all
}

// spread asks a Spanner for what leads to other hosts.
func (p *planned) spread(t *testing.T, d driver.Spanner, c Case) {
	t.Helper()
	p.span, p.paths = nil, ""
	owner := []dataplane.Owner{{Kind: dataplane.OwnerNetwork, ID: p.n.ID}}
	add := func(what string, objs []dataplane.Object, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		p.span = append(p.span, fragment{what, objs, owner})
	}
	var before cnm.Underlay
	if c.Env.Underlay != nil {
		before = *c.Env.Underlay
	}
	if len(c.Home) > 0 {
		objs, err := d.Home(c.Env, p.n, c.Home)
		add("home", objs, err)
	}
	for _, o := range c.Peers {
		path := d.Path(c.Env, p.n, o.Peer)
		p.paths += fmt.Sprintf("%s: %s", o.Peer.Name, path.Kind)
		if path.Kind != cnm.PathNone {
			p.paths += fmt.Sprintf(" by %s, %d bytes", path.Dev, path.MTU)
		}
		p.paths += ": " + path.Reason + "\n"
		objs, err := d.Peer(c.Env, p.n, o.Peer, c.blocks())
		add("peer "+o.Peer.Name, objs, err)
		for _, r := range o.Remotes {
			objs, err := d.Remote(c.Env, p.n, o.Peer, c.blocks(), r)
			add("remote "+r.ContainerName, objs, err)
		}
	}
	if c.Env.Underlay != nil && *c.Env.Underlay != before {
		t.Errorf("the plan changed the underlay:\n%+v\nto\n%+v", before, *c.Env.Underlay)
	}
}

// common are the links of the host that a Spanner's plan may use: those of the mesh, and
// those that lead to peers.
func common(env driver.Env, p *planned) (links []string) {
	u := env.Underlay
	if u == nil {
		return nil
	}
	links = append(links, driver.RoutedLink(env), u.Dev)
	if u.Secure != "" {
		links = append(links, u.Secure)
	}
	return links
}

// spans holds a Spanner to its contract.
func spans(t *testing.T, d driver.Spanner, c Case, p *planned) {
	t.Helper()
	fenced(t, d, c)
	for _, o := range c.Peers {
		reaches(t, d, c, p, o)
	}
	p.sizes(t, c.Env)
	p.sums(t, c)
}

// fenced: without a place in the mesh nothing leads out of this host.
func fenced(t *testing.T, d driver.Spanner, c Case) {
	t.Helper()
	c.Env.Underlay = nil
	p := &planned{n: &c.Network, s: c.Sandbox}
	var err error
	if p.network, err = d.Network(c.Env, p.n); err != nil {
		t.Fatalf("Network without an underlay: %v", err)
	}
	p.spread(t, d, c)
	for _, f := range p.span {
		if len(f.objs) > 0 {
			t.Errorf("without an underlay, %s is\n%s", f.what, dataplane.Text(f.objs))
		}
	}
	for _, o := range p.network {
		switch o := o.(type) {
		case dataplane.VXLAN, dataplane.FDB, dataplane.Neighbour:
			t.Errorf("without an underlay there is %s", o.Key())
		}
	}
	for _, o := range c.Peers {
		if path := d.Path(c.Env, p.n, o.Peer); path.Kind != cnm.PathNone || !strings.Contains(path.Reason, "mesh") {
			t.Errorf("without an underlay %s is reached: %+v", o.Peer.Name, path)
		}
	}
}

// reaches: each endpoint of a peer is reached by the path that is told, or not at all.
func reaches(t *testing.T, d driver.Spanner, c Case, p *planned, o Peering) {
	t.Helper()
	path := d.Path(c.Env, p.n, o.Peer)
	if !strings.Contains(path.Reason, " ") || path.Kind != cnm.PathNone && (!strings.Contains(path.Reason, o.Peer.Name) || path.Dev == "" || path.MTU < 68) {
		t.Errorf("the path to %s is not told: %+v", o.Peer.Name, path)
	}
	if path.Kind == cnm.PathNone {
		for _, f := range p.span {
			if f.what == "peer "+o.Peer.Name && len(f.objs) > 0 {
				t.Errorf("there is no path to %s, and its plan is\n%s", o.Peer.Name, dataplane.Text(f.objs))
			}
		}
	}
	for _, r := range o.Remotes {
		for _, a := range r.Addrs {
			by, ok := p.leads(a.Addr())
			switch {
			case path.Kind == cnm.PathNone && ok:
				t.Errorf("there is no path to %s, and %s leads to %s", o.Peer.Name, by, a.Addr())
			case path.Kind == cnm.PathNone:
			case !ok && !(a.Addr().Is6() && strings.Contains(path.Reason, "IPv6 does not")):
				t.Errorf("nothing leads to %s on %s", a.Addr(), o.Peer.Name)
			}
		}
	}
}

// leads is what leads to an address elsewhere: a neighbour, or the longest route.
func (p *planned) leads(a netip.Addr) (by string, ok bool) {
	bits := -1
	for _, f := range p.span {
		for _, o := range f.objs {
			switch o := o.(type) {
			case dataplane.Neighbour:
				if o.Addr == a {
					return o.Key(), true
				}
			case dataplane.Route:
				if o.Dst.Contains(a) && o.Dst.Bits() > bits {
					by, bits = o.Key(), o.Dst.Bits()
				}
			}
		}
	}
	return by, bits >= 0
}

// sizes: a packet that a container may send fits into the bridge, the wire and the
// tunnel that is a port of it, and the tunnel's into the underlay.
func (p *planned) sizes(t *testing.T, env driver.Env) {
	t.Helper()
	sizes := map[int]string{}
	for _, o := range p.all() {
		switch o := o.(type) {
		case dataplane.Bridge:
			sizes[o.MTU] = o.Name
		case dataplane.Veth:
			sizes[o.MTU] = o.Name
		case dataplane.VXLAN:
			if o.Master != "" {
				sizes[o.MTU] = o.Name
			}
			room := env.Underlay.MTU
			if o.Dev == env.Underlay.Secure {
				room = env.Underlay.SecureMTU
			}
			head := 50
			if o.Local.Is6() {
				head = 70
			}
			if o.MTU > room-head {
				t.Errorf("%s: packets of %d bytes and %d of headers do not fit into %d", o.Name, o.MTU, head, room)
			}
		}
	}
	if len(sizes) > 1 {
		t.Errorf("links of one segment have different MTUs: %v", sizes)
	}
}

// sums: the parts, made one after another in any order, are what all at once is, and go
// again without a trace.
func (p *planned) sums(t *testing.T, c Case) {
	t.Helper()
	mesh := p.mesh(t, c)
	if mesh == nil {
		return
	}
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		k := host(t, c, mesh)
		do := func(ops []dataplane.Op, what string) {
			t.Helper()
			if err := k.Apply(t.Context(), ops); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		do(diff.Create(p.network), "the network")
		do(diff.Create(p.endpoint), "the endpoint")
		for _, i := range rnd.Perm(len(p.span)) {
			do(diff.Create(p.span[i].objs), p.span[i].what)
			if rnd.IntN(3) == 0 { // it goes and comes again
				do(diff.Delete(p.span[i].objs), p.span[i].what+" goes")
				do(diff.Create(p.span[i].objs), p.span[i].what+" again")
			}
		}
		whole := host(t, c, mesh)
		if err := whole.Apply(t.Context(), diff.Create(p.all())); err != nil {
			t.Fatalf("all at once: %v", err)
		}
		if got, want := remains(k), remains(whole); got != want {
			t.Fatalf("one after another, in order %d:\n%s\nall at once:\n%s", seed, got, want)
		}
		for _, i := range rnd.Perm(len(p.span)) {
			do(diff.Delete(p.span[i].objs), p.span[i].what)
		}
		do(diff.Delete(p.endpoint), "the endpoint")
		do(diff.Delete(p.network), "the network")
		if got, want := remains(k), remains(host(t, c, mesh)); got != want {
			t.Errorf("all is removed, and there is\n%s\nwant\n%s", got, want)
		}
	}
}

// mesh is what a host in the mesh has besides; nil where it is in none.
func (p *planned) mesh(t *testing.T, c Case) []dataplane.Object {
	t.Helper()
	var peers []cnm.Peer
	for _, o := range c.Peers {
		peers = append(peers, o.Peer)
	}
	objs, err := driver.UnderlayObjects(c.Env, peers)
	if err != nil {
		t.Fatal(err)
	}
	return objs
}

// host is one in a mesh.
func host(t *testing.T, c Case, mesh []dataplane.Object) *dptest.Kernel {
	t.Helper()
	k := dptest.New()
	u := c.Env.Underlay
	k.StrangerLink(u.Dev, dataplane.HostLink{Addrs: []netip.Prefix{netip.PrefixFrom(u.Addr, 24)}, MTU: u.MTU})
	if u.SecureUserSpace {
		k.Tun(u.Secure, true)
	}
	base := []dataplane.Object{dataplane.BasePage(c.Env.Table)}
	if c.Sandbox != nil {
		base = append(base, dataplane.Namespace{Path: c.Sandbox.Path})
	}
	if err := k.Apply(t.Context(), diff.Create(append(base, mesh...))); err != nil {
		t.Fatal(err)
	}
	return k
}
