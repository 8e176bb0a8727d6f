package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"linkspan/cnm"
	"linkspan/ipam"
	"linkspan/store"
	"linkspan/store/mem"
)

// world is a common store and hosts on it, in a bubble of fake time.
type world struct {
	t      testing.TB
	common *mem.Store
	hosts  []*node
	log    *slog.Logger
}

// node is one host: its way to the store, its own store, which outlives crashes, and
// the controller that runs on it.
type node struct {
	w     *world
	h     Host
	view  *mem.View
	local *mem.Store
	tune  func(*Config)

	life   sync.Mutex // of Mesh
	disk   *disk
	*Mesh  // nil: it does not run
	ctl    *controller
	cancel context.CancelFunc
	ended  chan struct{}
}

// inWorld runs a test in a bubble: time is fake and passes when all wait.
func inWorld(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, common: mem.New(mem.Options{History: 256}), log: slog.New(slog.DiscardHandler)}
		if _, err := Found(t.Context(), w.common, "", "test"); err != nil {
			t.Fatal(err)
		}
		defer func() {
			for _, n := range w.hosts {
				n.crash()
				n.view.Close()
			}
			w.common.Close()
		}()
		f(t, w)
	})
}

// join makes a host of the name, and starts it.
func (w *world) join(name string, tune ...func(*Config)) *node {
	w.t.Helper()
	n := w.enroll(name, tune...)
	n.start()
	return n
}

func (w *world) enroll(name string, tune ...func(*Config)) *node {
	w.t.Helper()
	h, err := Enroll(w.t.Context(), w.common, Host{Name: name, Addr: netip.AddrFrom4([4]byte{10, 9, byte(len(w.hosts) >> 8), byte(len(w.hosts) + 1)}), Role: "client"})
	if err != nil {
		w.t.Fatal(err)
	}
	n := &node{w: w, h: h, view: w.common.View(), local: mem.New(mem.Options{}), tune: func(c *Config) {
		for _, f := range tune {
			f(c)
		}
	}}
	n.ctl = newController(n)
	w.hosts = append(w.hosts, n)
	return n
}

// start is a daemon's start: what the controller has is in its own store.
func (n *node) start() {
	n.w.t.Helper()
	n.disk = &disk{Store: n.local}
	cfg := Config{Store: n.view, Local: n.disk, Self: n.h, Log: n.w.log.With("host", n.h.Name), Way: func(a netip.Addr) Way { return Way{Dev: "eth0", OnLink: true, MTU: 1500} },
		Place: Place{Dev: "eth0", MTU: 1500}}
	n.tune(&cfg)
	m, err := New(cfg)
	if err != nil {
		n.w.t.Fatal(err)
	}
	n.ctl.restart(m)
	m.SetSink(n.ctl)
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.ended = cancel, make(chan struct{})
	n.is(m)
	go func() {
		defer close(n.ended)
		_ = m.Run(ctx)
	}()
	<-m.Ready()
	n.ctl.sync()
}

func (n *node) is(m *Mesh) {
	n.life.Lock()
	defer n.life.Unlock()
	n.Mesh = m
}

// running is the host's process, or nil.
func (n *node) running() *Mesh {
	n.life.Lock()
	defer n.life.Unlock()
	return n.Mesh
}

// crash ends the process: without a chance to write what it has in mind only. The
// liveness key stays for its ttl, as when the host is gone.
func (n *node) crash() {
	if n.Mesh == nil {
		return
	}
	n.disk.dead.Store(true)
	n.cancel()
	<-n.ended
	n.is(nil)
}

// disk is a host's own store as one process sees it: a dead one does not write.
type disk struct {
	store.Store
	dead atomic.Bool
}

func (d *disk) Commit(ctx context.Context, ops ...store.Op) (int64, error) {
	if d.dead.Load() {
		return 0, errors.New("this process is dead")
	}
	return d.Store.Commit(ctx, ops...)
}

// settle waits until all is quiet.
func (w *world) settle() {
	time.Sleep(5 * time.Second)
	synctest.Wait()
}

// keys are the common store's under a prefix.
func (w *world) keys(prefix string) (out []string) {
	all, _, err := w.common.List(context.Background(), prefix)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range all {
		out = append(out, e.Key)
	}
	return out
}

// controller is a host's: pools of addresses, containers, and what it heard of others.
type controller struct {
	n  *node
	mu sync.Mutex
	m  *Mesh

	calls    int // of the sink, at this moment
	networks map[string]*cnm.Network
	heard    int
	remotes  map[string]map[string]cnm.Remote     // network, id
	blocks   map[string]map[netip.Prefix]string   // network, block
	granted  map[string]map[netip.Addr]string     // network, address
	has      map[string]map[netip.Addr]cnm.Remote // network, address: what containers here have; survives crashes
	defs     map[string]*cnm.Network              // of those in has
	wholes   int
	watching func(cnm.RemoteChange)
}

func newController(n *node) *controller {
	return &controller{n: n, has: map[string]map[netip.Addr]cnm.Remote{}, defs: map[string]*cnm.Network{}}
}

func (c *controller) restart(m *Mesh) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m = m
	c.networks, c.remotes, c.blocks, c.granted = map[string]*cnm.Network{}, map[string]map[string]cnm.Remote{}, map[string]map[netip.Prefix]string{}, map[string]map[netip.Addr]string{}
	c.heard = 0
}

// sync is what the controller tells at its start.
func (c *controller) sync() {
	c.mu.Lock()
	all := map[string][]cnm.Remote{}
	var nets []*cnm.Network
	for id, has := range c.has {
		for _, r := range has {
			all[id] = append(all[id], r)
		}
		if len(has) > 0 {
			nets = append(nets, c.defs[id])
		}
	}
	c.mu.Unlock()
	for _, n := range nets {
		c.m.Follow(n)
	}
	c.m.Sync(all)
}

func (c *controller) enter() func() {
	c.mu.Lock()
	if c.calls++; c.calls != 1 {
		c.n.w.t.Errorf("%s: the sink is called twice at a time", c.n.h.Name)
	}
	c.heard++
	return func() {
		c.calls--
		c.mu.Unlock()
	}
}

func (c *controller) Networks(_ context.Context, all []*cnm.Network) {
	defer c.enter()()
	c.networks = map[string]*cnm.Network{}
	for _, n := range all {
		c.networks[n.ID] = n
	}
}

func (c *controller) Peers(context.Context) { defer c.enter()() }

func (c *controller) Remote(_ context.Context, network string, ch cnm.RemoteChange) {
	defer c.enter()()
	if c.watching != nil {
		c.watching(ch)
	}
	r, b := c.remotes[network], c.blocks[network]
	if ch.Whole || r == nil {
		r, b = map[string]cnm.Remote{}, map[netip.Prefix]string{}
		c.remotes[network], c.blocks[network] = r, b
		c.wholes++
	}
	for _, x := range ch.Came {
		r[x.ID] = x
	}
	for _, id := range ch.Gone {
		delete(r, id)
	}
	for _, x := range ch.Blocks {
		b[x.Prefix] = x.Host
	}
	for _, p := range ch.FreeBlocks {
		delete(b, p)
	}
}

func (c *controller) Ask(_ context.Context, network string, addr netip.Addr, host string) error {
	defer c.enter()()
	if r, used := c.has[network][addr]; used {
		return cnm.Conflict("Address already in use: %s is held by container %s", addr, r.ContainerName)
	}
	if c.granted[network] == nil {
		c.granted[network] = map[netip.Addr]string{}
	}
	c.granted[network][addr] = host
	return nil
}

func (c *controller) Unask(_ context.Context, network string, addr netip.Addr) {
	defer c.enter()()
	delete(c.granted[network], addr)
}

// run starts a container on a network, with an address or any, as the controller does:
// of its own blocks, and one more when they are used up.
func (c *controller) run(ctx context.Context, n *cnm.Network, name string, addr netip.Addr) (netip.Addr, error) {
	c.m.Follow(n)
	got, err := c.allocate(ctx, n, name, addr)
	c.mu.Lock()
	empty := len(c.has[n.ID]) == 0
	c.mu.Unlock()
	if err != nil && empty {
		c.m.Unfollow(n.ID)
	}
	return got, err
}

func (c *controller) allocate(ctx context.Context, n *cnm.Network, name string, addr netip.Addr) (netip.Addr, error) {
	for range 3 {
		c.mu.Lock()
		a, conflict := c.free(n, addr)
		if conflict != nil {
			c.mu.Unlock()
			return a, conflict
		}
		if a.IsValid() {
			r := cnm.Remote{ID: "e-" + name, Container: name, ContainerName: name, Addrs: []netip.Prefix{netip.PrefixFrom(a, n.Pools[0].Subnet.Bits())}, MAC: cnm.MACFor(a), Names: []string{name}}
			if c.has[n.ID] == nil {
				c.has[n.ID] = map[netip.Addr]cnm.Remote{}
			}
			c.has[n.ID][a] = r
			c.defs[n.ID] = n
			c.mu.Unlock()
			c.m.Publish(n, r)
			return a, nil
		}
		c.mu.Unlock()
		if _, err := c.m.Claim(ctx, n, n.Pools[0].Subnet, addr); err != nil {
			return netip.Addr{}, err
		}
	}
	return netip.Addr{}, fmt.Errorf("blocks were claimed, and there is no address")
}

// free is the address that was wished, or any, if it is of this host's blocks. The
// caller holds mu.
func (c *controller) free(n *cnm.Network, addr netip.Addr) (netip.Addr, error) {
	for _, b := range c.m.Blocks(n.ID) {
		for a := b.Prefix.Addr(); b.Prefix.Contains(a); a = a.Next() {
			if addr.IsValid() && a != addr || !dynamic(n.Pools[0], a) {
				continue
			}
			_, used := c.has[n.ID][a]
			_, given := c.granted[n.ID][a]
			if !used && !given {
				return a, nil
			}
			if addr.IsValid() {
				return netip.Addr{}, cnm.Conflict("%s is in use here", addr)
			}
		}
	}
	return netip.Addr{}, nil
}

// stop ends a container.
func (c *controller) stop(n *cnm.Network, a netip.Addr) {
	c.mu.Lock()
	r := c.has[n.ID][a]
	delete(c.has[n.ID], a)
	last := len(c.has[n.ID]) == 0
	c.mu.Unlock()
	c.m.Withdraw(n.ID, r.ID)
	if last {
		c.m.Unfollow(n.ID)
	}
	for _, b := range c.m.Blocks(n.ID) {
		if b.Prefix == single(a) {
			c.m.Release(n.ID, b.Prefix)
		}
	}
}

// view is what the controller knows of a network, in words.
func (c *controller) view(network string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for id, r := range c.remotes[network] {
		out = append(out, fmt.Sprintf("%s %v on %s", id, r.Addrs, c.n.w.nameOf(r.Host)))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func (w *world) nameOf(id string) string {
	for _, n := range w.hosts {
		if n.h.ID == id {
			return n.h.Name
		}
	}
	return id
}

func (c *controller) addrs(network string) []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Keys(c.has[network]), netip.Addr.Compare)
}

// create makes a network on a host.
func (n *node) create(name, subnet string) *cnm.Network {
	n.w.t.Helper()
	net := &cnm.Network{Name: name, Driver: "overlay", Pools: []cnm.Pool{{}}, VNIs: []uint32{0}}
	if subnet != "" {
		net.Pools[0].Subnet = netip.MustParsePrefix(subnet)
	}
	if err := n.Create(context.Background(), net, ipam.DefaultBases(), nil); err != nil {
		n.w.t.Fatal(err)
	}
	return net
}

func (n *node) mustRun(net *cnm.Network, name, addr string) netip.Addr {
	n.w.t.Helper()
	var want netip.Addr
	if addr != "" {
		want = netip.MustParseAddr(addr)
	}
	a, err := n.ctl.run(context.Background(), net, name, want)
	if err != nil {
		n.w.t.Fatalf("%s: %s: %v", n.h.Name, name, err)
	}
	return a
}
