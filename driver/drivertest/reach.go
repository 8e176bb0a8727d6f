package drivertest

import (
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/dptest"
	"linkspan/driver"
)

// reach: a plan touches the links that it makes and the sandbox that it is for,
// and no others. Namespaces and the page are the controller's.
func (p *planned) reach(t *testing.T, env driver.Env) {
	t.Helper()
	own, up := map[string]bool{}, map[string]bool{}
	for _, f := range p.fragments() {
		for _, o := range f.objs {
			switch o := o.(type) {
			case dataplane.Bridge:
				own[o.Name] = true
			case dataplane.VXLAN:
				own[o.Name] = true
			case dataplane.Veth:
				own[o.Name] = true
				if f.what != "endpoint" {
					t.Errorf("%s: a %s has no wire into a sandbox", o.Key(), f.what)
				}
			}
		}
	}
	for _, l := range common(env, p) {
		own[l], up[l] = true, true
	}
	ns := func(o dataplane.Object, ns string) {
		t.Helper()
		if ns != "" && (p.s == nil || ns != p.s.Path) {
			t.Errorf("%s lies in the sandbox %s, which it is not for", o.Key(), ns)
		}
	}
	link := func(o dataplane.Object, in, name string) {
		t.Helper()
		ns(o, in)
		if in == "" && !own[name] {
			t.Errorf("%s touches %s, which this plan does not make", o.Key(), name)
		}
	}
	each := func(f fragment, o dataplane.Object) {
		t.Helper()
		switch o := o.(type) {
		case dataplane.Namespace, dataplane.Page, dataplane.Foreign, dataplane.WireGuard:
			t.Errorf("%s is not a driver's to plan", o.Key())
		case dataplane.Veth:
			ns(o, o.PeerNS)
			if o.PeerNS == "" || o.PeerName != p.s.Endpoints[0].IfName || o.Name != p.s.Endpoints[0].HostIf {
				t.Errorf("%s is not the endpoint's wire: %+v", o.Key(), o)
			}
			if o.Borrowed != p.n.Borrowed {
				t.Errorf("%s: its bridge is borrowed: %v, the network's: %v", o.Key(), o.Borrowed, p.n.Borrowed)
			}
			if o.Master != "" && !o.Borrowed {
				link(o, "", o.Master)
			}
		case dataplane.Addr:
			link(o, o.NS, o.Link)
		case dataplane.Up:
			link(o, o.NS, o.Link)
			up[o.Link] = true
		case dataplane.Route:
			if !o.Unreachable {
				link(o, o.NS, o.Link)
			} else if !slices.ContainsFunc(p.n.Pools, func(pool cnm.Pool) bool { return pool.Subnet == o.Dst }) {
				t.Errorf("%s shuts off what is no subnet of the network's", o.Key())
			}
		case dataplane.VXLAN:
			if o.Master != "" {
				link(o, "", o.Master)
			}
		case dataplane.FDB:
			link(o, "", o.Dev)
		case dataplane.Offload:
			link(o, "", o.Link)
		case dataplane.Neighbour:
			link(o, "", o.Link)
		case dataplane.Sysctl:
			// net/ipv4/conf/LINK/NAME; on a borrowed link with the prior value on record.
			f := strings.Split(o.Name, "/")
			switch {
			case len(f) != 5 || o.Shared && (!p.n.Borrowed || o.NS != ""):
				t.Errorf("%s is the whole host's", o.Key())
			case !o.Shared:
				link(o, o.NS, f[3])
			}
		case dataplane.Element:
			if o.Table != env.Table {
				t.Errorf("%s is in another's table", o.Key())
			}
		}
	}
	for _, f := range p.fragments() {
		for _, o := range f.objs {
			if dataplane.InSandbox(o) != "" && f.what != "endpoint" {
				t.Errorf("%s: a %s reaches into a sandbox", o.Key(), f.what)
			}
			each(f, o)
		}
	}
	for l := range own {
		if !up[l] {
			t.Errorf("%s is made and never brought up", l)
		}
	}
}

// lives: what is planned can be made in that order, is then as wanted, and goes
// again: the endpoint without touching the network, the network without a trace.
func (p *planned) lives(t *testing.T, env driver.Env) {
	t.Helper()
	k := dptest.New()
	for _, o := range p.all() {
		if v, ok := o.(dataplane.Veth); ok && v.Borrowed {
			k.Stranger(v.Master, "bridge, group 0")
		}
	}
	made := func(what string, objs []dataplane.Object) string {
		t.Helper()
		if err := k.Apply(t.Context(), diff.Create(objs)); err != nil {
			t.Fatalf("%s cannot be made: %v", what, err)
		}
		have := k.State()
		for _, o := range objs {
			if h, ok := have.Get(o.Key()); !ok || h.Spec() != o.Spec() {
				t.Errorf("%s: made, and not there as wanted", o.Key())
			}
		}
		return remains(k)
	}
	gone := func(what string, objs []dataplane.Object, want string) {
		t.Helper()
		if err := k.Apply(t.Context(), diff.Delete(objs)); err != nil {
			t.Fatalf("%s cannot be removed: %v", what, err)
		}
		if got := remains(k); got != want {
			t.Errorf("%s is removed, and there is\n%s\nwant\n%s", what, got, want)
		}
	}
	base := []dataplane.Object{dataplane.BasePage(env.Table)}
	if env.Underlay != nil {
		base = append(base, dataplane.TunnelPage(env.Table))
	}
	if p.s != nil && !p.s.Host {
		base = append(base, dataplane.Namespace{Path: p.s.Path})
	}
	bare := made("the host", base)
	network := made("the network", p.network)
	made("the endpoint", p.endpoint)
	made("the endpoint, again,", p.endpoint)
	gone("the endpoint", p.endpoint, network)
	gone("the network", p.network, bare)
}

// remains is what the kernel has, without parameters and features: those go with their
// links.
func remains(k *dptest.Kernel) string {
	var objs []dataplane.Object
	for _, o := range k.State().All() {
		switch o.(type) {
		case dataplane.Sysctl, dataplane.Offload:
		default:
			objs = append(objs, o)
		}
	}
	text := ""
	for _, o := range objs {
		text += o.Key() + ": " + o.Spec() + "\n"
	}
	return text
}
