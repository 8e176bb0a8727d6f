package mesh

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// ownNet is what this host has of a network: its blocks, single addresses borrowed of
// others, addresses granted to others, and its endpoints. All but the endpoints, which
// the controller tells anew, are in the host's own store.
type ownNet struct {
	Network *cnm.Network          `json:"network"`
	Blocks  []netip.Prefix        `json:"blocks,omitempty"`
	Singles []netip.Addr          `json:"singles,omitempty"`
	Grants  map[netip.Addr]string `json:"grants,omitempty"` // to whom, a host's id

	revs      map[netip.Prefix]int64 // of blocks' keys, where known
	endpoints map[string][]byte      // by id, as they are written
	followed  bool
	claimed   time.Time // last: who claims is about to come
	stuck     string    // why nothing of it can be written
}

func (o *ownNet) fill() {
	o.revs, o.endpoints = map[netip.Prefix]int64{}, map[string][]byte{}
	if o.Grants == nil {
		o.Grants = map[netip.Addr]string{}
	}
}

// holding is the block of ours that has an address.
func (o *ownNet) holding(a netip.Addr) (netip.Prefix, bool) {
	for _, b := range o.Blocks {
		if b.Contains(a) {
			return b, true
		}
	}
	return netip.Prefix{}, false
}

// wanted says whether this host is to be counted among those on the network.
func (o *ownNet) wanted() bool {
	return o.followed || len(o.endpoints) > 0 || time.Since(o.claimed) < comingTime
}

// comingTime is how long after a claim a host is counted among those on the network: so
// long a container may take from its address to its endpoint.
const comingTime = 30 * time.Second

// coming makes this host present on a network in the same commit as what it claims
// there: from then on nobody removes the network. The caller holds mu.
func (m *Mesh) coming(n *cnm.Network) []store.Op {
	o := m.owned(n)
	o.claimed = time.Now()
	return []store.Op{{Key: presentKey(n.ID, m.id), Value: []byte("{}")}, m.bumpMembers(n.ID)}
}

// came takes note that coming was written.
func (m *Mesh) came(n *cnm.Network) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue.arrived(n.ID, true)
	if m.ctx == nil || m.ctx.Err() != nil {
		return
	}
	ctx := m.ctx
	m.spawn(func() {
		if pause(ctx, comingTime) == nil {
			m.mu.Lock()
			defer m.mu.Unlock()
			if o := m.own[n.ID]; o != nil {
				m.wantPresent(o)
				m.writeBell.ring()
			}
		}
	})
}

// owned is this host's part in a network. The caller holds mu.
func (m *Mesh) owned(n *cnm.Network) *ownNet {
	o := m.own[n.ID]
	if o == nil {
		c := *n
		o = &ownNet{Network: &c}
		o.fill()
		m.own[n.ID] = o
	}
	return o
}

// saveOwn writes a network's part to the host's own store, before anything is built on
// it: a restart without the common store must know what was given away.
func (m *Mesh) saveOwn(network string) error {
	if m.cfg.Local == nil {
		return nil
	}
	m.mu.Lock()
	op := store.Op{Key: ownKeys + network}
	if o := m.own[network]; o != nil && (len(o.Blocks) > 0 || len(o.Singles) > 0 || len(o.Grants) > 0) {
		op.Value = encode(o)
	}
	delete(m.cache.dirty, op.Key)
	m.mu.Unlock()
	// The daemon may be ending: what was claimed is written down all the same.
	if _, err := m.cfg.Local.Commit(context.Background(), op); err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "addresses of the mesh could not be written to this host's own state: %w", err)
	}
	return nil
}

// Blocks are this host's own of a network, single addresses that it borrowed included,
// from memory.
func (m *Mesh) Blocks(network string) []cnm.Block {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.own[network]
	if o == nil || m.fenced != "" || m.left {
		return nil
	}
	var out []cnm.Block
	for _, b := range o.Blocks {
		out = append(out, cnm.Block{Prefix: b, Host: m.id})
	}
	for _, a := range o.Singles {
		out = append(out, cnm.Block{Prefix: single(a), Host: m.id})
	}
	slices.SortFunc(out, func(a, b cnm.Block) int { return a.Prefix.Compare(b.Prefix) })
	return out
}

// Granted are the addresses of this host's blocks that other hosts have, with the
// host's name: they are handed out to nobody here. The sink hears of each (Ask) too.
func (m *Mesh) Granted(network string) map[netip.Addr]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[netip.Addr]string{}
	if o := m.own[network]; o != nil {
		for a, host := range o.Grants {
			out[a] = m.nameOf(host)
		}
	}
	return out
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// nameOf is what people call a host. The caller holds mu.
func (m *Mesh) nameOf(id string) string {
	if id == m.id {
		return m.self.Name
	}
	if h, ok := m.hosts[id]; ok {
		return h.Name
	}
	return "(forgotten, id " + id + ")"
}

// Publish tells the others of this host's endpoints on a network.
func (m *Mesh) Publish(n *cnm.Network, endpoints ...cnm.Remote) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.owned(n)
	for _, r := range endpoints {
		m.publish(o, r)
	}
	m.wantPresent(o)
	m.writeBell.ring()
}

// publish queues one endpoint. The caller holds mu.
func (m *Mesh) publish(o *ownNet, r cnm.Remote) {
	value := encodeRemote(&r)
	if bytes.Equal(o.endpoints[r.ID], value) {
		return // written, or queued
	}
	o.endpoints[r.ID] = value
	m.queue.add(endpointKey(o.Network.ID, m.id, r.ID))
}

// wantPresent queues this host's presence on a network, or its end. The caller holds mu.
func (m *Mesh) wantPresent(o *ownNet) {
	if id := o.Network.ID; o.wanted() != m.queue.present[id] {
		m.queue.add(presentKey(id, m.id))
	}
}

// Withdraw takes endpoints back.
func (m *Mesh) Withdraw(network string, endpoints ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.own[network]
	if o == nil {
		return
	}
	for _, id := range endpoints {
		m.withdraw(o, id)
	}
	if len(o.endpoints) == 0 {
		o.claimed = time.Time{} // who came has left
	}
	m.wantPresent(o)
	m.writeBell.ring()
}

func (m *Mesh) withdraw(o *ownNet, id string) {
	if _, ok := o.endpoints[id]; ok {
		delete(o.endpoints, id)
		m.queue.add(endpointKey(o.Network.ID, m.id, id))
	}
}

// Sync tells all endpoints that this host has, by network: whatever the store has
// besides of this host is taken away.
func (m *Mesh) Sync(endpoints map[string][]cnm.Remote) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for network, o := range m.own {
		has := map[string]bool{}
		for _, r := range endpoints[network] {
			has[r.ID] = true
		}
		for id := range o.endpoints {
			if !has[id] {
				m.withdraw(o, id)
			}
		}
		m.wantPresent(o)
	}
	for network, all := range endpoints {
		o := m.own[network]
		if o == nil {
			n := m.networks[network]
			if n == nil { // its definition is on its way: Publish names it
				n = &cnm.Network{ID: network, Scope: cnm.ScopeGlobal}
			}
			o = m.owned(n)
		}
		for _, r := range all {
			m.publish(o, r)
		}
		m.wantPresent(o)
	}
	m.synced = true
	m.auditAll = true // what the store has of this host's earlier life
	m.checkBell.ring()
	m.writeBell.ring()
}
