package network

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/driver/bridge"
	"linkspan/driver/host"
	"linkspan/driver/none"
	"linkspan/driver/overlay"
	"linkspan/driver/routed"
	"linkspan/ipam"
	"linkspan/mesh"
)

// truth is the common store of the hosts of a test, in the plainest way. What it tells
// the hosts comes in order, and later: see settle.
type truth struct {
	mu        sync.Mutex
	members   []*member
	networks  map[string]*cnm.Network
	blocks    map[string][]cnm.Block
	endpoints map[string]map[string]cnm.Remote
	bits      int // of IPv4 blocks
	next      uint32
	waiting   sync.WaitGroup
}

// member is one host's Mesh.
type member struct {
	*truth
	id, name string
	addr     netip.Addr
	mtu      atomic.Int64
	secure   atomic.Bool
	away     atomic.Bool // the common store cannot be reached
	out      atomic.Bool // forgotten
	dead     atomic.Bool // for the others
	routed   atomic.Bool // others reach it through a router
	mute     atomic.Bool // nothing is told of what is elsewhere, as if it took long

	hears   atomic.Pointer[mesh.Sink]
	own     map[string][]cnm.Block // remembered
	follows map[string]bool
	known   map[string]map[string]cnm.Remote // remembered, by network
	queue   chan func()
	claimed int
	lent    map[string]map[netip.Addr]string
	given   []netip.Prefix // Release
}

func newTruth() *truth {
	return &truth{networks: map[string]*cnm.Network{}, blocks: map[string][]cnm.Block{}, endpoints: map[string]map[string]cnm.Remote{}, bits: 28, next: 0x4C0001}
}

// enter makes one more host, with its controller.
func (x *truth) enter(t testing.TB, adjust ...func(*world)) (*world, *member) {
	t.Helper()
	i := len(x.members) + 1
	m := &member{truth: x, id: strings.Repeat(fmt.Sprint(i), 16), name: fmt.Sprint("host", i), addr: netip.AddrFrom4([4]byte{10, 9, 0, byte(i)}),
		own: map[string][]cnm.Block{}, follows: map[string]bool{}, known: map[string]map[string]cnm.Remote{}, queue: make(chan func(), 100000)}
	m.mtu.Store(1500)
	x.mu.Lock()
	x.members = append(x.members, m)
	x.mu.Unlock()
	w := newWorld(t, append([]func(*world){spanning, func(w *world) { w.cfg.Mesh = m }}, adjust...)...)
	m.listen(w)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for f := range m.queue {
			dying(f)
			x.waiting.Done()
		}
	}()
	t.Cleanup(func() { x.settle(); close(m.queue); <-done })
	x.peers()
	m.tell(func() { m.sink().Networks(context.Background(), x.all()) })
	x.settle()
	return w, m
}

// pair are two hosts that have a network, shop.
func pair(t testing.TB) (x *truth, a, b *world) {
	t.Helper()
	x = newTruth()
	a, _ = x.enter(t)
	b, _ = x.enter(t)
	shop(t, a)
	x.settle()
	return x, a, b
}

// talking is a pair with a container each on the network: c1 and c3.
func talking(t testing.TB) (x *truth, a, b *world) {
	t.Helper()
	x, a, b = pair(t)
	a.join(named("c1"))
	b.join(named("c3"))
	x.settle()
	return x, a, b
}

// network is that of the name.
func (x *truth) network(name string) *cnm.Network {
	all := x.all()
	return all[slices.IndexFunc(all, func(n *cnm.Network) bool { return n.Name == name })]
}

// died is what a kill panics with.
type died struct{}

// dying does something that may be killed in its middle; done says that it was not.
func dying(f func()) (done bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, ours := p.(died); !ours {
				panic(p)
			}
		}
	}()
	f()
	return true
}

// spanning has a world's drivers be all.
func spanning(w *world) {
	w.kernel.StrangerLink("eth0", dataplane.HostLink{What: "the wire", MTU: 1500})
	w.cfg.Drivers = driver.NewRegistry(bridge.Driver{}, host.Driver{}, none.Driver{}, overlay.Driver{}, routed.Driver{})
}

// back is a restart of a host's daemon, which has missed what was told meanwhile.
func (m *member) back(w *world) {
	w.restart()
	m.listen(w)
}

func (m *member) listen(w *world) {
	s := w.Sink()
	m.hears.Store(&s)
}

func (m *member) sink() mesh.Sink { return *m.hears.Load() }

func (m *member) tell(f func()) {
	m.waiting.Add(1)
	m.queue <- f
}

// settle waits until everybody knows everything.
func (x *truth) settle() { x.waiting.Wait() }

// peers tells everybody that peers changed.
func (x *truth) peers() {
	for _, m := range x.members {
		m.tell(func() { m.sink().Peers(context.Background()) })
	}
}

func (x *truth) all() (out []*cnm.Network) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(x.networks)) {
		n := *x.networks[id]
		out = append(out, &n)
	}
	return out
}

func (m *member) Underlay() *cnm.Underlay {
	if m.out.Load() {
		return nil
	}
	u := &cnm.Underlay{Host: m.id, Name: m.name, Addr: m.addr, Dev: "eth0", MTU: int(m.mtu.Load()), MAC: "02:4c:00:00:00:0" + m.id[:1], RoutedVNI: 0x4C0000}
	if m.secure.Load() {
		u.Secure, u.SecureAddr, u.SecureMTU = "ls-w00000a", m.secureAddr(), 1440
	}
	return u
}

func (m *member) secureAddr() netip.Addr { return netip.MustParseAddr("fd00:9::" + m.id[:1]) }

func (m *member) Peers() (out []cnm.Peer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.members {
		if o == m || o.out.Load() {
			continue
		}
		p := cnm.Peer{ID: o.id, Name: o.name, Addr: o.addr, Alive: !o.dead.Load(), OnLink: !o.routed.Load(), Dev: "eth0", MTU: int(o.mtu.Load()), MAC: "02:4c:00:00:00:0" + o.id[:1]}
		if o.secure.Load() {
			p.SecureAddr = o.secureAddr()
		}
		out = append(out, p)
	}
	return out
}

func (m *member) unreachable() error {
	if m.away.Load() || m.out.Load() {
		return cnm.Errorf(cnm.ErrUnavailable, "the mesh's store cannot be reached")
	}
	return nil
}

func (m *member) Create(_ context.Context, n *cnm.Network, bases []ipam.Base, avoid *ipam.Space) error {
	if err := m.unreachable(); err != nil {
		return err
	}
	m.mu.Lock()
	used := &ipam.Space{}
	for _, o := range m.networks {
		if o.Name == n.Name {
			m.mu.Unlock()
			return cnm.Conflict("network with name %s already exists in the mesh", n.Name)
		}
		for _, p := range o.Pools {
			used.Add(p.Subnet, o.Name)
		}
	}
	for i := range n.Pools {
		p := &n.Pools[i]
		if !p.Subnet.IsValid() {
			s, err := ipam.Choose(bases, i == 0 && !n.NoIPv4, used, avoid)
			if err != nil {
				m.mu.Unlock()
				return err
			}
			p.Subnet, p.Gateway = s, ipam.FirstHost(s)
		}
	}
	for i := range n.VNIs {
		if n.VNIs[i] == 0 {
			n.VNIs[i] = m.next
		}
	}
	m.next++
	c := *n
	m.networks[n.ID] = &c
	m.mu.Unlock()
	m.announce()
	return nil
}

// announce tells everybody which networks there are.
func (x *truth) announce() {
	all := x.all()
	for _, o := range x.members {
		o.tell(func() {
			if !o.away.Load() && !o.out.Load() {
				o.sink().Networks(context.Background(), all)
			}
		})
	}
}

func (m *member) Remove(_ context.Context, n *cnm.Network) error {
	if err := m.unreachable(); err != nil {
		return err
	}
	m.mu.Lock()
	for _, r := range m.endpoints[n.ID] {
		m.mu.Unlock()
		return cnm.Conflict("network %s has active endpoints: %s on %s", n.Name, r.ContainerName, r.Host)
	}
	delete(m.networks, n.ID)
	delete(m.blocks, n.ID)
	m.mu.Unlock()
	m.announce()
	return nil
}

func (m *member) Blocks(network string) []cnm.Block {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.own[network])
}

func (m *member) Claim(ctx context.Context, n *cnm.Network, subnet netip.Prefix, addr netip.Addr) (cnm.Block, error) {
	if err := m.unreachable(); err != nil {
		return cnm.Block{}, err
	}
	m.mu.Lock()
	m.claimed++
	bits := m.bits
	if subnet.Addr().Is6() {
		bits = 112
	}
	var owner *member
	var free netip.Prefix
	for p := netip.PrefixFrom(subnet.Addr(), bits); subnet.Contains(p.Addr()) && !free.IsValid() && owner == nil; p = after(p) {
		i := slices.IndexFunc(m.blocks[n.ID], func(b cnm.Block) bool { return b.Prefix == p })
		switch {
		case addr.IsValid() && !p.Contains(addr):
		case i < 0:
			free = p
		case addr.IsValid():
			j := slices.IndexFunc(m.members, func(o *member) bool { return o.id == m.blocks[n.ID][i].Host })
			owner = m.members[j]
		}
	}
	if free.IsValid() {
		b := cnm.Block{Prefix: free, Host: m.id}
		m.blocks[n.ID] = append(m.blocks[n.ID], b)
		m.own[n.ID] = append(m.own[n.ID], b)
		m.mu.Unlock()
		m.change(n.ID, m, cnm.RemoteChange{Blocks: []cnm.Block{b}})
		return b, nil
	}
	m.mu.Unlock()
	if owner == nil {
		return cnm.Block{}, cnm.Errorf(cnm.ErrExhausted, "no block of network %s is free", n.Name)
	}
	answer := make(chan error, 1)
	owner.tell(func() {
		err := owner.sink().Ask(context.Background(), n.ID, addr, m.id)
		if err == nil {
			owner.mu.Lock()
			if owner.lent == nil {
				owner.lent = map[string]map[netip.Addr]string{}
			}
			if owner.lent[n.ID] == nil {
				owner.lent[n.ID] = map[netip.Addr]string{}
			}
			owner.lent[n.ID][addr] = m.name
			owner.mu.Unlock()
		}
		answer <- err
	})
	if err := <-answer; err != nil {
		return cnm.Block{}, err
	}
	m.mu.Lock()
	b := cnm.Block{Prefix: netip.PrefixFrom(addr, addr.BitLen()), Host: m.id}
	m.own[n.ID] = append(m.own[n.ID], b)
	m.mu.Unlock()
	return b, nil
}

// after is the next prefix of the same length.
func after(p netip.Prefix) netip.Prefix {
	b := p.Addr().AsSlice()
	for i := p.Bits() - 1; i >= 0; i-- {
		bit := byte(0x80 >> (i % 8))
		b[i/8] ^= bit
		if b[i/8]&bit != 0 {
			break
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, p.Bits())
}

// Release implements Releaser.
func (m *member) Release(network string, single netip.Prefix) {
	m.mu.Lock()
	m.given = append(m.given, single)
	m.own[network] = slices.DeleteFunc(m.own[network], func(b cnm.Block) bool { return b.Prefix == single })
	m.mu.Unlock()
	for _, o := range m.members {
		o.tell(func() {
			o.mu.Lock()
			delete(o.lent[network], single.Addr())
			o.mu.Unlock()
			o.sink().Unask(context.Background(), network, single.Addr())
		})
	}
}

// Granted implements Granter.
func (m *member) Granted(network string) map[netip.Addr]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.lent[network])
}

func (m *member) Follow(n *cnm.Network) {
	m.mu.Lock()
	m.follows[n.ID] = true
	m.mu.Unlock()
	m.tell(func() { m.whole(n.ID) })
}

// whole tells all that is elsewhere on a network.
func (m *member) whole(network string) {
	if m.away.Load() || m.out.Load() || m.mute.Load() {
		return
	}
	m.mu.Lock()
	c := cnm.RemoteChange{Whole: true, Blocks: slices.Clone(m.blocks[network])}
	m.known[network] = map[string]cnm.Remote{}
	for _, id := range slices.Sorted(maps.Keys(m.endpoints[network])) {
		if r := m.endpoints[network][id]; r.Host != m.id {
			c.Came = append(c.Came, r)
			m.known[network][id] = r
		}
	}
	m.mu.Unlock()
	m.sink().Remote(context.Background(), network, c)
}

// Recall implements Recaller.
func (m *member) Recall(network string) (cnm.RemoteChange, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := cnm.RemoteChange{Whole: true, Blocks: slices.Clone(m.blocks[network])}
	for _, id := range slices.Sorted(maps.Keys(m.known[network])) {
		c.Came = append(c.Came, m.known[network][id])
	}
	return c, m.known[network] != nil
}

// Silent implements Silencer.
func (m *member) Silent() <-chan struct{} {
	c := make(chan struct{})
	if m.away.Load() {
		close(c)
	}
	return c
}

func (m *member) Unfollow(network string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.follows, network)
	delete(m.known, network)
}

// change tells those who follow a network, but the one whose change it is.
func (x *truth) change(network string, by *member, c cnm.RemoteChange) {
	for _, o := range x.members {
		if o == by {
			continue
		}
		o.tell(func() {
			o.mu.Lock()
			follows := o.follows[network] && !o.away.Load() && !o.out.Load()
			if follows {
				if o.known[network] == nil {
					o.known[network] = map[string]cnm.Remote{}
				}
				for _, r := range c.Came {
					o.known[network][r.ID] = r
				}
				for _, id := range c.Gone {
					delete(o.known[network], id)
				}
			}
			o.mu.Unlock()
			if follows {
				o.sink().Remote(context.Background(), network, c)
			}
		})
	}
}

func (m *member) Publish(n *cnm.Network, es ...cnm.Remote) {
	m.mu.Lock()
	for _, r := range es {
		r.Host = m.id
		if m.endpoints[n.ID] == nil {
			m.endpoints[n.ID] = map[string]cnm.Remote{}
		}
		m.endpoints[n.ID][r.ID] = r
	}
	m.mu.Unlock()
	m.change(n.ID, m, cnm.RemoteChange{Came: es})
}

func (m *member) Withdraw(network string, ids ...string) {
	m.mu.Lock()
	for _, id := range ids {
		delete(m.endpoints[network], id)
	}
	m.mu.Unlock()
	m.change(network, m, cnm.RemoteChange{Gone: ids})
}

func (m *member) Sync(all map[string][]cnm.Remote) {
	m.mu.Lock()
	gone := map[string][]string{}
	for network, es := range m.endpoints {
		maps.DeleteFunc(es, func(id string, r cnm.Remote) bool {
			is := r.Host == m.id
			if is && !slices.ContainsFunc(all[network], func(o cnm.Remote) bool { return o.ID == id }) {
				gone[network] = append(gone[network], id)
			}
			return is
		})
	}
	for network, es := range all {
		for _, r := range es {
			r.Host = m.id
			if m.endpoints[network] == nil {
				m.endpoints[network] = map[string]cnm.Remote{}
			}
			m.endpoints[network][r.ID] = r
		}
	}
	m.mu.Unlock()
	for network, ids := range gone {
		m.change(network, m, cnm.RemoteChange{Gone: ids})
	}
}
