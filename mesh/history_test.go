package mesh

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"linkspan/cnm"
	"linkspan/ipam"
	"linkspan/store"
	"linkspan/store/mem"
)

var (
	historySeed  = flag.Uint64("mesh.seed", 0, "the random history of TestHistories to run; 0: some")
	historyCount = flag.Int("mesh.histories", 12, "how many random histories")
	historySteps = flag.Int("mesh.steps", 60, "how many steps each")
)

// laggy is a way to the store on which everything takes some time, never the same.
type laggy struct {
	*mem.View
	h    *history
	name string
}

func (l laggy) lag() { time.Sleep(time.Duration(l.h.intn(20)) * time.Millisecond) }

func (l laggy) Get(ctx context.Context, key string) (store.Entry, bool, error) {
	l.lag()
	defer l.lag()
	return l.View.Get(ctx, key)
}

func (l laggy) List(ctx context.Context, prefix string) ([]store.Entry, int64, error) {
	l.lag()
	defer l.lag()
	return l.View.List(ctx, prefix)
}

func (l laggy) Commit(ctx context.Context, ops ...store.Op) (int64, error) {
	l.lag()
	defer l.lag()
	if len(ops) > 128 {
		l.h.t.Errorf("a commit of %d operations", len(ops))
	}
	rev, err := l.View.Commit(ctx, ops...)
	var k []string
	for _, op := range ops {
		if !op.Keep {
			k = append(k, fmt.Sprintf("%s=%.40s", op.Key, op.Value))
		}
	}
	l.h.say("    %s commits %v: %d %v", l.name, k, rev, err)
	return rev, err
}

func (l laggy) Watch(ctx context.Context, prefix string, rev int64) (<-chan store.Event, error) {
	l.lag()
	in, err := l.View.Watch(ctx, prefix, rev)
	if err != nil {
		return nil, err
	}
	out := make(chan store.Event)
	go func() {
		defer close(out)
		for e := range in {
			l.lag()
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// history is one random life of a mesh.
type history struct {
	t  *testing.T
	w  *world
	mu sync.Mutex
	r  *rand.Rand

	nets    []*cnm.Network
	counter int
	trace   []string
}

func (h *history) intn(n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.r.IntN(n)
}

func (h *history) say(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trace = append(h.trace, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

func (h *history) number() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counter++
	return h.counter
}

// TestHistories lets hosts run, crash, be cut off, forgotten, and join again, while they
// start and stop containers, and holds at every step: no address is had, or could be
// handed out, by two members. In the end all know the same, and nothing is left of who
// is no member.
func TestHistories(t *testing.T) {
	n := *historyCount
	if testing.Short() {
		n = 3
	}
	for i := range n {
		seed := *historySeed
		if seed == 0 {
			seed = rand.Uint64()
		} else if i > 0 {
			break
		}
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				h := &history{t: t, w: w, r: rand.New(rand.NewPCG(seed, 1))}
				defer func() {
					if t.Failed() {
						t.Logf("go test ./mesh -run TestHistories -mesh.seed=%d\n%s", seed, strings.Join(h.trace, "\n"))
					}
				}()
				h.live()
			})
		})
	}
}

func (h *history) join(name string) *node {
	n := h.w.enroll(name, func(c *Config) {
		c.Store = laggy{c.Store.(*mem.View), h, c.Self.Name + "/" + c.Self.ID}
		c.Log = h.w.log
	})
	n.start()
	return n
}

func (h *history) live() {
	for i := range 4 {
		h.join(fmt.Sprintf("host%d", i+1))
	}
	time.Sleep(time.Second)
	subnets := []string{"10.1.0.0/24", "10.2.0.0/28", "10.3.0.0/16"}
	for i, s := range subnets {
		h.nets = append(h.nets, h.w.hosts[0].create(fmt.Sprintf("net%d", i), s))
	}
	for range *historySteps {
		h.step()
		if h.t.Failed() {
			return
		}
	}
	h.end()
}

// step does a few things at the same time, on different hosts, and looks while they are
// on their way.
func (h *history) step() {
	var group sync.WaitGroup
	hosts := h.w.hosts
	for _, i := range h.perm(len(hosts))[:1+h.intn(3)] {
		n := hosts[i]
		do := h.choose(n)
		if do == nil {
			continue
		}
		group.Add(1)
		go func() {
			defer group.Done()
			time.Sleep(time.Duration(h.intn(30)) * time.Millisecond)
			do()
		}()
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		case <-time.After(time.Duration(1+h.intn(40)) * time.Millisecond):
		}
		h.check()
	}
	switch h.intn(6) {
	case 0:
		time.Sleep(time.Duration(h.intn(20)) * time.Second)
	case 1, 2:
		time.Sleep(time.Duration(h.intn(500)) * time.Millisecond)
	}
	h.check()
}

func (h *history) perm(n int) []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.r.Perm(n)
}

// choose is something that can happen to a host now.
func (h *history) choose(n *node) func() {
	if n.Mesh == nil { // crashed
		if h.intn(3) > 0 {
			return nil
		}
		return func() { h.say("%s starts", n.h.Name); n.start() }
	}
	net := h.nets[h.intn(len(h.nets))]
	switch k := h.intn(40); {
	case k < 14:
		return func() { h.start(n, net, netip.Addr{}) }
	case k < 20:
		a := net.Pools[0].Subnet.Addr()
		for range 2 + h.intn(60) {
			a = a.Next()
		}
		if !net.Pools[0].Subnet.Contains(a) || !dynamic(net.Pools[0], a) {
			a = netip.Addr{}
		}
		return func() { h.start(n, net, a) }
	case k < 27:
		return func() { h.stop(n, net) }
	case k < 29:
		return func() { h.say("%s crashes", n.h.Name); n.crash() }
	case k < 32:
		unclear := h.intn(2) == 0
		return func() { h.say("%s is cut off (%v)", n.h.Name, unclear); n.view.Cut(unclear) }
	case k < 36:
		return func() { h.say("%s is back", n.h.Name); n.view.Heal() }
	case k < 37:
		return func() { h.forget(n) }
	case k < 38:
		return func() { h.network(n) }
	case k < 39 && h.intn(3) == 0:
		return func() { h.leave(n) }
	}
	return nil
}

func (h *history) start(n *node, net *cnm.Network, a netip.Addr) {
	name := fmt.Sprintf("c%d", h.number())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	got, err := n.ctl.run(ctx, net, name, a)
	if err != nil {
		h.say("%s: %s on %s (%s): %v", n.h.Name, name, net.Name, a, err)
		h.known(err)
		return
	}
	h.say("%s: %s on %s has %s", n.h.Name, name, net.Name, got)
}

// known: whatever happens, a person is told in a class and a sentence.
func (h *history) known(err error) {
	for _, class := range []error{cnm.ErrUnavailable, cnm.ErrConflict, cnm.ErrExhausted, cnm.ErrNotFound, context.DeadlineExceeded} {
		if errors.Is(err, class) {
			return
		}
	}
	h.t.Errorf("an error of no class: %v", err)
}

func (h *history) stop(n *node, net *cnm.Network) {
	if all := n.ctl.addrs(net.ID); len(all) > 0 {
		a := all[h.intn(len(all))]
		h.say("%s: stops %s on %s", n.h.Name, a, net.Name)
		n.ctl.stop(net, a)
	}
}

// forget has a host forget another, which joins anew by the same name.
func (h *history) forget(by *node) {
	victim := h.w.hosts[h.intn(len(h.w.hosts))]
	if victim.h.Name == by.h.Name || !h.member(victim) {
		return
	}
	err := by.Forget(context.Background(), victim.h.Name, h.intn(2) == 0)
	h.say("%s forgets %s: %v", by.h.Name, victim.h.Name, err)
	if err != nil {
		h.known(err)
	}
	h.again(victim)
}

// again lets a new host take a place that is free.
func (h *history) again(n *node) {
	if h.member(n) {
		return
	}
	host, err := Enroll(context.Background(), h.w.common, Host{Name: n.h.Name, Addr: n.h.Addr})
	if err != nil {
		h.say("%s does not join: %v", n.h.Name, err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	x := &node{w: h.w, h: host, view: h.w.common.View(), local: mem.New(mem.Options{}), tune: n.tune}
	x.ctl = newController(x)
	h.w.hosts = append(h.w.hosts, x)
	h.trace = append(h.trace, fmt.Sprintf("%s joins, as %s", host.Name, host.ID))
}

func (h *history) leave(n *node) {
	for _, net := range h.nets {
		for _, a := range n.ctl.addrs(net.ID) {
			n.ctl.stop(net, a)
		}
	}
	m := n.Mesh
	err := m.Leave(context.Background())
	h.say("%s leaves: %v", n.h.Name, err)
	if err != nil {
		h.known(err)
		return
	}
	h.again(n)
}

// network removes a network, or makes one.
func (h *history) network(n *node) {
	h.mu.Lock()
	nets := slices.Clone(h.nets)
	h.mu.Unlock()
	if h.intn(2) == 0 && len(nets) > 1 {
		net := nets[h.intn(len(nets))]
		err := n.Remove(context.Background(), net)
		h.say("%s removes %s: %v", n.h.Name, net.Name, err)
		if err != nil {
			h.known(err)
		}
		return
	}
	k := h.number()
	net := &cnm.Network{Name: fmt.Sprintf("net%d", k), Driver: "overlay", VNIs: []uint32{0}, Pools: []cnm.Pool{{Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + k>>8), byte(k), 0}), 26)}}}
	err := n.Create(context.Background(), net, ipam.DefaultBases(), nil)
	h.say("%s makes %s: %v", n.h.Name, net.Name, err)
	if err != nil {
		h.known(err)
		return
	}
	h.mu.Lock()
	h.nets = append(h.nets, net)
	h.mu.Unlock()
}

// member says what the store says.
func (h *history) member(n *node) bool {
	_, ok, _ := h.w.common.Get(context.Background(), hostKeys+n.h.ID)
	return ok
}

// mine is what a host could hand out, or has handed out, of one network.
type mine struct {
	n       *node
	blocks  []netip.Prefix
	singles map[netip.Addr]bool
	given   map[netip.Addr]bool // of the blocks, to others
	has     map[netip.Addr]string
}

func (h *history) mine(n *node, network string) mine {
	x := mine{n: n, singles: map[netip.Addr]bool{}, given: map[netip.Addr]bool{}, has: map[netip.Addr]string{}}
	var o *ownNet
	if m := n.running(); m != nil {
		m.mu.Lock()
		if p := m.own[network]; p != nil {
			v, _ := decode[ownNet](encode(p))
			o = &v
		}
		m.mu.Unlock()
	} else if e, ok, _ := n.local.Get(context.Background(), ownKeys+network); ok { // what it believes when it starts
		v, _ := decode[ownNet](e.Value)
		o = &v
	}
	if o != nil {
		x.blocks = slices.Clone(o.Blocks)
		for _, a := range o.Singles {
			x.singles[a] = true
		}
		for a := range o.Grants {
			x.given[a] = true
		}
	}
	n.ctl.mu.Lock()
	defer n.ctl.mu.Unlock()
	for a, r := range n.ctl.has[network] {
		x.has[a] = r.ContainerName
	}
	return x
}

// check holds that no two members share an address.
func (h *history) check() {
	h.mu.Lock()
	nets, hosts := slices.Clone(h.nets), slices.Clone(h.w.hosts)
	h.mu.Unlock()
	for _, net := range nets {
		var all []mine
		for _, n := range hosts {
			if h.member(n) {
				all = append(all, h.mine(n, net.ID))
			}
		}
		for i, x := range all {
			for _, y := range all[:i] {
				h.apart(net, x, y)
				h.apart(net, y, x)
			}
		}
	}
}

func (h *history) apart(net *cnm.Network, x, y mine) {
	bad := func(format string, args ...any) {
		h.t.Errorf("%s: %s and %s: %s", net.Name, x.n.h.Name, y.n.h.Name, fmt.Sprintf(format, args...))
	}
	for _, b := range x.blocks {
		for _, c := range y.blocks {
			if b.Overlaps(c) {
				bad("both have block %s", b)
			}
		}
		for a := range y.singles {
			if b.Contains(a) && !x.given[a] {
				bad("%s is in the first one's block, the second borrowed it, and it is not kept back", a)
			}
		}
		for a, c := range y.has {
			if b.Contains(a) && !x.given[a] {
				bad("%s is in the first one's block, and the second has a container %s there", a, c)
			}
		}
	}
	for a := range x.singles {
		if y.singles[a] {
			bad("both borrowed %s", a)
		}
	}
	for a, c := range x.has {
		if d, ok := y.has[a]; ok {
			bad("both have %s: %s and %s", a, c, d)
		}
	}
}

// end heals everything, waits, and holds that all agree.
func (h *history) end() {
	h.say("all is healed")
	for _, n := range h.w.hosts {
		n.view.Heal()
		if n.Mesh == nil {
			n.start()
		}
	}
	time.Sleep(90 * time.Second)
	synctest.Wait()
	h.check()
	t := h.t
	ids := map[string]*node{}
	for _, n := range h.w.hosts {
		if h.member(n) {
			ids[n.h.ID] = n
		} else if st := n.Status(); st.Fenced == "" && n.Underlay() != nil {
			t.Errorf("%s (%s) is no member and does not know it", n.h.Name, n.h.ID)
		}
	}
	for _, n := range h.w.hosts {
		if ids[n.h.ID] != nil {
			continue
		}
		for _, k := range h.w.keys("") {
			if strings.Contains(k, n.h.ID) {
				t.Errorf("of %s (%s), no member: %s", n.h.Name, n.h.ID, k)
			}
		}
	}
	if k := h.w.keys(sweepKeys); len(k) > 0 {
		t.Errorf("left to sweep: %q", k)
	}
	there := map[string]bool{}
	for _, k := range h.w.keys(networkKeys) {
		there[strings.TrimPrefix(k, networkKeys)] = true
	}
	want := map[string]bool{} // keys of endpoints
	titles := map[string]bool{}
	blocks := map[string]string{}
	for _, n := range ids {
		if s := n.Status(); s.Queue != 0 || !s.Reachable || len(s.Stuck) > 0 {
			t.Errorf("%s: %+v", n.h.Name, s)
		}
		if p := n.Peers(); len(p) != len(ids)-1 || slices.ContainsFunc(p, func(p cnm.Peer) bool { return !p.Alive }) {
			t.Errorf("%s: peers %+v", n.h.Name, p)
		}
		if len(n.ctl.networks) != len(there) {
			t.Errorf("%s knows %d networks of %d", n.h.Name, len(n.ctl.networks), len(there))
		}
		for _, net := range h.nets {
			x := h.mine(n, net.ID)
			for _, b := range x.blocks {
				blocks[blockKey(net.ID, b)] = n.h.ID
			}
			for a := range x.singles {
				titles[askKey(net.ID, a)] = true
			}
			for a, c := range x.has {
				want[endpointKey(net.ID, n.h.ID, "e-"+c)] = true
				if !there[net.ID] {
					t.Errorf("%s has %s on %s, which is gone", n.h.Name, a, net.Name)
				}
				if !x.singles[a] && !slices.ContainsFunc(x.blocks, func(b netip.Prefix) bool { return b.Contains(a) }) {
					t.Errorf("%s has %s on %s, which is not its to have", n.h.Name, a, net.Name)
				}
			}
			// What it heard is what the others have.
			var heard []string
			for _, o := range ids {
				if o != n && len(x.has) > 0 {
					for a, c := range h.mine(o, net.ID).has {
						heard = append(heard, fmt.Sprintf("e-%s [%s/%d] on %s", c, a, net.Pools[0].Subnet.Bits(), o.h.ID))
					}
				}
			}
			slices.Sort(heard)
			if len(x.has) > 0 {
				var got []string
				for id, r := range n.ctl.remotes[net.ID] {
					got = append(got, fmt.Sprintf("%s %v on %s", id, r.Addrs, r.Host))
				}
				slices.Sort(got)
				if !slices.Equal(got, heard) {
					t.Errorf("%s on %s knows\n%s\nand there is\n%s", n.h.Name, net.Name, strings.Join(got, "\n"), strings.Join(heard, "\n"))
				}
			}
		}
	}
	for _, k := range h.w.keys(endpointKeys) {
		if !want[k] {
			t.Errorf("stale: %s", k)
		}
		delete(want, k)
	}
	for k := range want {
		t.Errorf("missing: %s", k)
	}
	all, _, _ := h.w.common.List(context.Background(), blockKeys)
	for _, e := range all {
		if blocks[e.Key] != string(e.Value) {
			t.Errorf("the store says %s is %s's, the hosts say %q's", e.Key, e.Value, blocks[e.Key])
		}
		delete(blocks, e.Key)
	}
	for k, id := range blocks {
		t.Errorf("%s believes in %s, which is not in the store", id, k)
	}
	for _, k := range h.w.keys(askKeys) {
		if !titles[k] {
			t.Errorf("an ask that nobody needs: %s", k)
		}
		delete(titles, k)
	}
	for k := range titles {
		t.Errorf("a borrowed address without title: %s", k)
	}
	for _, n := range ids {
		for _, net := range h.nets {
			for a := range h.mine(n, net.ID).given {
				if k := askKey(net.ID, a); !slices.Contains(h.w.keys(askKeys), k) {
					t.Errorf("%s keeps %s of %s back, which nobody has", n.h.Name, a, net.Name)
				}
			}
		}
	}
}
