package mesh

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"linkspan/cnm"
)

// follow is what is known of a network elsewhere. One that came from the cache is
// parked until somebody follows it.
type follow struct {
	blocks, endpoints *mirror
	active            bool
	end               context.CancelFunc
}

func (f *follow) known() bool { return f.blocks.known && f.endpoints.known }

// newFollow makes the mirrors of a network. The caller holds mu.
func (m *Mesh) newFollow(network string) *follow {
	f := &follow{
		blocks:    newMirror(blockKeys+network+"/", network),
		endpoints: newMirror(endpointKeys+network+"/", network),
	}
	f.blocks.cached, f.endpoints.cached = true, true
	f.blocks.change = func(key string, was, is []byte, rev int64) {
		_, p, ok := splitBlock(key)
		if !ok {
			return
		}
		m.blockSeen(network, p, string(is), rev)
		if string(was) != string(is) {
			m.pend(network).block(p)
			m.tellBell.ring()
		}
	}
	f.endpoints.change = func(key string, was, is []byte, _ int64) {
		s, ok := parts(key, endpointKeys, 3)
		switch {
		case !ok:
			return
		case s[1] == m.id:
			m.ownSeen(network, s[2], key, is)
			return
		case string(was) == string(is):
			return
		}
		m.pend(network).endpoint(key)
		m.tellBell.ring()
	}
	whole := func() {
		m.pend(network).whole = true
		m.tellBell.ring()
	}
	f.blocks.whole, f.endpoints.whole = whole, whole
	m.follows[network] = f
	return f
}

// Follow has the sink told of everything on a network elsewhere, whole first.
func (m *Mesh) Follow(n *cnm.Network) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.owned(n)
	o.followed = true
	m.wantPresent(o)
	m.writeBell.ring()
	f := m.follows[n.ID]
	if f == nil {
		f = m.newFollow(n.ID)
	}
	if f.active {
		return
	}
	f.active = true
	m.pend(n.ID).whole = true
	m.tellBell.ring()
	if m.ctx != nil {
		m.startFollow(n.ID, f)
	}
}

// startFollow runs the mirrors of a network. The caller holds mu.
func (m *Mesh) startFollow(network string, f *follow) {
	if m.ctx.Err() != nil || f.end != nil {
		return
	}
	ctx, end := context.WithCancel(m.ctx)
	f.end = end
	m.spawn(func() { m.follow(ctx, f.blocks) })
	m.spawn(func() { m.follow(ctx, f.endpoints) })
}

// Unfollow ends Follow.
func (m *Mesh) Unfollow(network string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.own[network]; o != nil {
		o.followed, o.claimed = false, time.Time{}
		m.wantPresent(o)
		m.writeBell.ring()
	}
	m.drop(network)
}

// drop forgets what is elsewhere on a network. The caller holds mu.
func (m *Mesh) drop(network string) {
	f := m.follows[network]
	if f == nil {
		return
	}
	if f.end != nil {
		f.end()
	}
	// A goroutine of the mirror may be at work still: it changes what nobody looks at.
	nothing := func(string, []byte, []byte, int64) {}
	for _, v := range []*mirror{f.blocks, f.endpoints} {
		for key := range v.items {
			m.remembered(v, key, nil)
		}
		v.cached, v.change, v.whole = false, nothing, nil
	}
	delete(m.follows, network)
	delete(m.telling.remotes, network)
}

// Recall is what was last known of a network elsewhere, whole, at once: from memory or
// from the cache. It says false when nothing ever was.
func (m *Mesh) Recall(network string) (cnm.RemoteChange, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.follows[network]
	if f == nil || m.fenced != "" || m.left {
		return cnm.RemoteChange{Whole: true}, false
	}
	return m.wholeOf(f), f.known()
}

// wholeOf is all that is known. The caller holds mu.
func (m *Mesh) wholeOf(f *follow) cnm.RemoteChange {
	c := cnm.RemoteChange{Whole: true}
	for key, it := range f.endpoints.items {
		if r, ok := m.remoteOf(key, it.value); ok {
			c.Came = append(c.Came, r)
		}
	}
	for key, it := range f.blocks.items {
		if _, p, ok := splitBlock(key); ok {
			c.Blocks = append(c.Blocks, cnm.Block{Prefix: p, Host: string(it.value)})
		}
	}
	sortChange(&c)
	return c
}

func sortChange(c *cnm.RemoteChange) {
	slices.SortFunc(c.Came, func(a, b cnm.Remote) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), strings.Compare(a.ID, b.ID))
	})
	slices.Sort(c.Gone)
	slices.SortFunc(c.Blocks, func(a, b cnm.Block) int { return a.Prefix.Compare(b.Prefix) })
	slices.SortFunc(c.FreeBlocks, netip.Prefix.Compare)
}
