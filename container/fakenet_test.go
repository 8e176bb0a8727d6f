package container

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"linkspan/cnm"
	"linkspan/netns"
	"linkspan/network"
	"linkspan/store"
)

// fakeNet makes sandboxes that are bare namespaces, with endpoints that exist on
// paper: addresses, gateways and interface names as a controller would give them.
type fakeNet struct {
	network.Service // what containers never ask of it
	t               testing.TB
	dir             string

	mu      sync.Mutex
	boxes   map[string]*cnm.Sandbox // by owner
	nets    map[string]*cnm.Network // by name
	defined map[string]network.Request
	calls   []string
	fail    error
	// failUpdate and failDefine fail those alone.
	failUpdate, failDefine error
	// store takes what With gives, as the controller's commit does; nil: never asked.
	// failAfter fails what is to be done once that is written.
	store     store.Store
	failAfter error
}

func newFakeNet(t testing.TB, dir string) *fakeNet {
	if err := netns.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	n := &fakeNet{t: t, dir: dir, boxes: map[string]*cnm.Sandbox{}, nets: map[string]*cnm.Network{}, defined: map[string]network.Request{}}
	for _, x := range []struct{ name, subnet, gateway string }{
		{"bridge", "172.17.0.0/16", "172.17.0.1"}, {"host", "", ""}, {"none", "", ""},
	} {
		n.network(x.name, x.subnet, x.gateway).Predefined = true
	}
	t.Cleanup(func() {
		for _, b := range n.boxes {
			_ = netns.Remove(b.Path)
		}
		if err := netns.Dismantle(dir); err != nil {
			t.Error(err)
		}
	})
	return n
}

// network adds a network; its id is its name and "-id".
func (n *fakeNet) network(name, subnet, gateway string) *cnm.Network {
	n.mu.Lock()
	defer n.mu.Unlock()
	net := &cnm.Network{ID: name + "-id", Name: name, Driver: "bridge"}
	if subnet != "" {
		net.Pools = []cnm.Pool{{Subnet: netip.MustParsePrefix(subnet), Gateway: netip.MustParseAddr(gateway)}}
	} else {
		net.Driver = map[string]string{"none": "null"}[name]
		net.Driver = cmp.Or(net.Driver, name)
	}
	n.nets[name] = net
	return net
}

func (n *fakeNet) Check(_ context.Context, r network.Request) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range r.Endpoints {
		if n.nets[w.Network] == nil {
			return nil, cnm.NotFound("network %s not found", w.Network)
		}
	}
	return nil, n.fail
}

func (n *fakeNet) Define(_ context.Context, r network.Request) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, "define "+r.ContainerName)
	if n.failDefine != nil {
		return n.failDefine
	}
	for id, d := range n.defined {
		for _, w := range d.Endpoints {
			for _, mine := range r.Endpoints {
				if id != r.ContainerID && w.IPv4.IsValid() && w.IPv4 == mine.IPv4 && w.Network == mine.Network {
					return cnm.Conflict("Address already in use: %s is held by %s", w.IPv4, d.ContainerName)
				}
			}
		}
	}
	n.defined[r.ContainerID] = r
	return nil
}

func (n *fakeNet) Undefine(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.defined, id)
}

// definition is what was last defined for a container.
func (n *fakeNet) definition(id string) network.Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.defined[id]
}

func (n *fakeNet) Join(_ context.Context, r network.Request) (*cnm.Sandbox, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, "join "+r.ContainerName)
	if n.fail != nil {
		return nil, n.fail
	}
	owner := r.ContainerID
	if r.Target != "" {
		owner = r.Target
	}
	b := n.boxes[owner]
	if b == nil {
		b = &cnm.Sandbox{ID: owner, Owner: owner, Path: filepath.Join(n.dir, owner[:12])}
		if err := n.shape(b, r); err != nil {
			return nil, err
		}
		make := netns.Create
		if len(r.Endpoints) > 0 && r.Endpoints[0].Network == "host" {
			b.Host, make = true, netns.PinSelf
		}
		if err := make(b.Path); err != nil {
			return nil, err
		}
		n.boxes[owner] = b
	}
	if !slices.Contains(b.Members, r.ContainerID) {
		b.Members = append(b.Members, r.ContainerID)
	}
	return copyBox(b), nil
}

// shape gives a sandbox the endpoints of a request.
func (n *fakeNet) shape(b *cnm.Sandbox, r network.Request) error {
	old := b.Endpoints
	b.OwnerName, b.DNS, b.Resolver, b.Endpoints = r.ContainerName, r.DNS, false, nil
	for _, w := range r.Endpoints {
		net := n.nets[w.Network]
		if net == nil {
			return cnm.NotFound("network %s not found", w.Network)
		}
		ep := cnm.Endpoint{ID: net.ID, NetworkID: net.ID, NetworkName: net.Name, GwPriority: w.GwPriority, Names: w.Names, Aliases: w.Aliases, Links: w.Links, LinkLocal: w.LinkLocal, DriverOpts: w.DriverOpts}
		if i := slices.IndexFunc(old, func(o cnm.Endpoint) bool { return o.NetworkID == net.ID }); i >= 0 {
			ep.Addrs = old[i].Addrs
		} else if p := net.Pool4(); p != nil {
			a := w.IPv4
			if !a.IsValid() {
				for a = p.Gateway.Next(); n.taken(a); a = a.Next() {
				}
			}
			ep.Addrs = []netip.Prefix{netip.PrefixFrom(a, p.Subnet.Bits())}
		}
		if p := net.Pool4(); p != nil {
			ep.IfName = fmt.Sprintf("eth%d", w.Number)
			if len(b.Endpoints) == 0 {
				ep.Gateways = []netip.Addr{p.Gateway}
			}
		}
		b.Resolver = b.Resolver || net.HasNames()
		b.Endpoints = append(b.Endpoints, ep)
	}
	return nil
}

func (n *fakeNet) taken(a netip.Addr) bool {
	for _, b := range n.boxes {
		for _, ep := range b.Endpoints {
			if len(ep.Addrs) > 0 && ep.Addrs[0].Addr() == a {
				return true
			}
		}
	}
	return false
}

func copyBox(b *cnm.Sandbox) *cnm.Sandbox {
	c := *b
	c.Members, c.Endpoints = slices.Clone(b.Members), slices.Clone(b.Endpoints)
	return &c
}

func (n *fakeNet) Update(_ context.Context, r network.Request) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, "update "+r.ContainerName)
	if n.failUpdate != nil {
		return n.failUpdate
	}
	b := n.boxes[r.ContainerID]
	if b == nil {
		return nil
	}
	next := copyBox(b)
	if err := n.shape(next, r); err != nil {
		return err
	}
	if n.store != nil && r.With != nil {
		if err := n.together(r.With); err != nil {
			return err
		}
	}
	n.boxes[r.ContainerID] = next
	return nil
}

// together commits as the controller does. Who is told may look at sandboxes.
func (n *fakeNet) together(with network.With) error {
	n.mu.Unlock()
	defer n.mu.Lock()
	op, done, err := with()
	if err != nil {
		return err
	}
	rev, err := n.store.Commit(context.Background(), op)
	if done(rev, err); err != nil {
		return err
	}
	return n.failAfter
}

func (n *fakeNet) Leave(_ context.Context, id string, keep bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, fmt.Sprintf("leave keep=%v", keep))
	if keep {
		return nil
	}
	for owner, b := range n.boxes {
		b.Members = slices.DeleteFunc(b.Members, func(m string) bool { return m == id })
		if len(b.Members) == 0 {
			delete(n.boxes, owner)
			if err := netns.Remove(b.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *fakeNet) names() (out []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range n.boxes {
		out = append(out, id)
	}
	return out
}

// on tells a sandbox's networks with their interfaces: "bridge=eth0 shop=eth1".
func (n *fakeNet) on(id string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.boxes[id]
	if b == nil {
		return "none"
	}
	var out string
	for i, ep := range b.Endpoints {
		if i > 0 {
			out += " "
		}
		out += ep.NetworkName + "=" + ep.IfName
	}
	return out
}

func (n *fakeNet) Sandbox(id string) (*cnm.Sandbox, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range n.boxes {
		if slices.Contains(b.Members, id) {
			return copyBox(b), true
		}
	}
	return nil, false
}

func (n *fakeNet) Sandboxes() []*cnm.Sandbox { return nil }
func (n *fakeNet) Networks() []*cnm.Network  { return nil }

func (n *fakeNet) Network(ref string) (*cnm.Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, net := range n.nets {
		if ref == net.Name || ref == net.ID {
			return net, nil
		}
	}
	return nil, cnm.NotFound("network %s not found", ref)
}
