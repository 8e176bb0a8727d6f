package network

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// spans is what the controller knows of the mesh and of what is elsewhere on its
// networks. Nothing of it is stored: the mesh remembers it.
type spans struct {
	mesh atomic.Pointer[Mesh]
	// underlay and peers are as of the last time that the mesh told of them: all plans
	// are made of them, so that what was planned can be planned again. They change while
	// the world is held exclusively.
	underlay atomic.Pointer[cnm.Underlay]
	// before is the underlay before the daemon's start, until is how long it counts.
	before *cnm.Underlay
	until  time.Time

	mu     sync.Mutex
	peers  map[string]cnm.Peer // by id
	told   uint64              // how often
	of     map[string]*span    // by network id
	silent map[string]bool     // peers dead for so long that their names left
	dying  map[string]*time.Timer
	// made and removed are networks of which the list of all that is on its way may not
	// know yet.
	made, removed map[string]bool
	lone          map[string]bool // networks that the mesh has no more, and local containers are on
	strays        map[string]bool // endpoints that nobody is told of
}

// span is one global network as this host sees it. Lock order: the world, span.mu,
// Controller.mu.
type span struct {
	mu sync.Mutex // one change of it in the kernel at a time
	// here says that its objects are in the kernel: while this host has endpoints on it.
	here bool
	told chan struct{} // closes when all that is elsewhere is known
	came time.Time     // when its first container here came
	// remotes are the endpoints elsewhere, by id; hosts what each peer has.
	remotes map[string]cnm.Remote
	hosts   map[string]*presence
	// holder is whose an address is: the endpoint that came last, where two have it for
	// as long as news of one's end and the other's beginning cross.
	holder map[netip.Addr]string
	// news counts the changes of all these.
	news uint64
	// home are the blocks of this host's own that were planned for.
	home []cnm.Block
}

// presence is what one peer has on a network.
type presence struct {
	blocks    []cnm.Block // in order
	endpoints map[string]bool
}

// nameGrace is how long the names of a host that is dead, or cut off, are kept.
const nameGrace = time.Minute

// Mesh is the mesh that the host is in, or nil.
func (c *Controller) Mesh() Mesh {
	if p := c.spans.mesh.Load(); p != nil {
		return *p
	}
	return nil
}

// spanner is the driver of a network that spans hosts.
func (c *Controller) spanner(n *cnm.Network) (driver.Spanner, bool) {
	if !n.Global() {
		return nil, false
	}
	d, err := c.cfg.Drivers.Get(n.Driver)
	if err != nil {
		return nil, false
	}
	s, ok := d.(driver.Spanner)
	return s, ok
}

// span is what is known of a network; nothing yet, the first time.
func (c *Controller) span(network string) *span {
	s := &c.spans
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.of[network]
	if sp == nil {
		sp = &span{}
		sp.empty()
		if s.of == nil {
			s.of = map[string]*span{}
		}
		s.of[network] = sp
	}
	return sp
}

// empty forgets what is elsewhere.
func (sp *span) empty() {
	sp.remotes, sp.hosts, sp.holder = map[string]cnm.Remote{}, map[string]*presence{}, map[netip.Addr]string{}
	sp.told, sp.home = make(chan struct{}), nil
	sp.news++
}

// heard notes that all that is elsewhere is known, as of now or as of the last time that
// it could be. The caller holds mu.
func (sp *span) heard() {
	select {
	case <-sp.told:
	default:
		close(sp.told)
	}
}

// host is what a peer has; nothing yet, the first time.
func (sp *span) host(id string) *presence {
	p := sp.hosts[id]
	if p == nil {
		p = &presence{endpoints: map[string]bool{}}
		sp.hosts[id] = p
	}
	return p
}

// peerList are all of them, by name.
func peerList(peers map[string]cnm.Peer) []cnm.Peer {
	return slices.SortedFunc(maps.Values(peers), func(a, b cnm.Peer) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
}

// hostName is what people call a peer.
func (c *Controller) hostName(id string) string {
	if p := c.knownPeers()[id]; p.Name != "" {
		return p.Name
	}
	return id
}

// used says whether a sandbox of this host is on a network, or about to be.
func (c *Controller) used(network string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.users[network]) > 0
}

// underlayObjects are what a host in a mesh needs whatever its networks.
func (c *Controller) underlayObjects(env driver.Env, peers map[string]cnm.Peer) ([]dataplane.Object, error) {
	if env.Underlay == nil {
		return nil, nil
	}
	return c.cfg.UnderlayObjects(env, peerList(peers))
}

// spanObjects are what a network of several hosts needs here while endpoints of this
// host are on it: its own, and those of all that is elsewhere, which may be ready. The
// caller holds sp.mu.
func (c *Controller) spanObjects(env driver.Env, n *cnm.Network, sp *span, ready prepared) ([]dataplane.Object, error) {
	d, ok := c.spanner(n)
	if !ok {
		return nil, nil
	}
	objs, err := d.Network(env, n)
	if err != nil {
		return nil, err
	}
	home, err := d.Home(env, n, sp.home)
	if err != nil {
		return nil, err
	}
	return slices.Concat(objs, home, c.allElsewhere(env, d, n, sp, ready).objs), nil
}

// elsewhere is what some peers, and some endpoints of peers, need. What others publish
// is theirs to get right: of what cannot be planned the rest is. Peers that nobody told
// of yet need nothing. The caller holds sp.mu.
func (c *Controller) elsewhere(env driver.Env, peers map[string]cnm.Peer, d driver.Spanner, n *cnm.Network, sp *span, hosts, ids []string) (objs []dataplane.Object) {
	if env.Underlay == nil {
		return nil
	}
	for _, id := range hosts {
		h, p := sp.hosts[id], peers[id]
		if h == nil || len(h.endpoints) == 0 || p.ID == "" {
			continue
		}
		more, err := d.Peer(env, n, p, h.blocks)
		if err != nil {
			c.log.Warn("a host of the mesh cannot be reached on a network", "network", n.Name, "host", p.Name, "err", err)
		}
		objs = append(objs, more...)
	}
	// Whose the address is comes last: of two objects of one key the later counts.
	for _, holders := range []bool{false, true} {
		for _, id := range ids {
			r, there := sp.remotes[id]
			if !there || sp.holds(&r) != holders {
				continue
			}
			p := peers[r.Host]
			if p.ID == "" {
				continue
			}
			more, err := d.Remote(env, n, p, sp.host(r.Host).blocks, r)
			if err != nil {
				c.log.Warn("a container on another host cannot be reached", "network", n.Name, "host", p.Name, "container", r.ContainerName, "err", err)
			}
			objs = append(objs, more...)
		}
	}
	return objs
}

// holds says whether an endpoint's addresses are its own.
func (sp *span) holds(r *cnm.Remote) bool {
	return len(r.Addrs) == 0 || sp.holder[r.Addrs[0].Addr()] == r.ID
}

// knownPeers are those that the mesh told of last; the caller only reads them.
func (c *Controller) knownPeers() map[string]cnm.Peer {
	c.spans.mu.Lock()
	defer c.spans.mu.Unlock()
	return c.spans.peers
}

// ownBlocks are this host's.
func (c *Controller) ownBlocks(network string) []cnm.Block {
	if m := c.Mesh(); m != nil {
		return m.Blocks(network)
	}
	return nil
}

// spannedObjects are all that global networks need here now.
func (c *Controller) spannedObjects(env driver.Env, n *cnm.Network, ready prepared) ([]dataplane.Object, error) {
	if !c.used(n.ID) {
		return nil, nil
	}
	sp := c.span(n.ID)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return c.spanObjects(env, n, sp, ready)
}

// coming are what the networks of a sandbox need that come with it.
func (c *Controller) coming(env driver.Env, s *cnm.Sandbox) (objs []dataplane.Object, err error) {
	for i := range s.Endpoints {
		n, err := c.Network(s.Endpoints[i].NetworkID)
		if err != nil {
			return nil, err
		}
		if _, ok := c.spanner(n); !ok || c.used(n.ID) {
			continue
		}
		fresh := &span{}
		fresh.empty()
		fresh.home = c.ownBlocks(n.ID)
		more, err := c.spanObjects(env, n, fresh, nil)
		if err != nil {
			return nil, err
		}
		objs = append(objs, more...)
	}
	dataplane.Sort(objs)
	return objs, nil
}

// recall takes over what the mesh remembers of a network. The caller holds sp.mu.
func (c *Controller) recall(n *cnm.Network, sp *span) {
	sp.home = c.ownBlocks(n.ID)
	if r, ok := c.Mesh().(Recaller); ok {
		last, known := r.Recall(n.ID)
		sp.take(last, c.self())
		if known {
			sp.heard()
		}
	}
}

// self is this host's id in the mesh.
func (c *Controller) self() string {
	if u := c.spans.underlay.Load(); u != nil {
		return u.Host
	}
	return ""
}

// restored brings what is known of the mesh to what it remembers, before the first
// comparison with the kernel, and has the networks told of that this host is on.
func (c *Controller) restored() {
	env, peers := c.cfg.Env(), c.knownPeers()
	for _, n := range c.Networks() {
		d, ok := c.spanner(n)
		if !ok || !c.used(n.ID) {
			continue
		}
		sp := c.span(n.ID)
		sp.mu.Lock()
		sp.here = true
		c.recall(n, sp)
		c.allow(env, peers, d, n, sp)
		sp.mu.Unlock()
	}
}

// followed says to the mesh what this host has and wants to hear of.
func (c *Controller) followed() {
	m := c.Mesh()
	if m == nil {
		return
	}
	m.Sync(c.published())
	for _, n := range c.Networks() {
		if _, ok := c.spanner(n); ok && c.used(n.ID) {
			m.Follow(n)
		}
	}
}
