package mesh

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/store"
)

// auditDue compares, when something asked for it, what this host has of each network
// with what the store says is its.
func (m *Mesh) auditDue(ctx context.Context) error {
	m.mu.Lock()
	due := m.auditAll && m.member() == nil
	m.auditAll = false
	m.mu.Unlock()
	if !due {
		return nil
	}
	err := m.audit(ctx, false)
	if err != nil {
		m.mu.Lock()
		m.auditAll = true
		m.mu.Unlock()
	}
	m.writeBell.ring()
	return err
}

// putBack is audit after a restore: what is missing was not taken away by anybody.
func (m *Mesh) putBack(ctx context.Context) error { return m.audit(ctx, true) }

func (m *Mesh) audit(ctx context.Context, restored bool) error {
	if err := m.sweepAll(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	networks := slices.Collect(maps.Keys(m.own))
	networks = slices.AppendSeq(networks, maps.Keys(m.auditAlso))
	also := m.auditAlso
	m.auditAlso = map[string]bool{}
	first := !m.audited
	m.mu.Unlock()
	if first || restored { // networks that this host was on, or had blocks of, in an earlier life
		all, _, err := m.list(ctx, presentKeys)
		if err != nil {
			return err
		}
		for _, e := range all {
			if s, ok := parts(e.Key, presentKeys, 2); ok && s[1] == m.id {
				networks = append(networks, s[0])
			}
		}
		if all, _, err = m.list(ctx, blockKeys); err != nil {
			return err
		}
		for _, e := range all {
			if network, _, ok := splitBlock(e.Key); ok && string(e.Value) == m.id {
				networks = append(networks, network)
			}
		}
	}
	slices.Sort(networks)
	for _, network := range slices.Compact(networks) {
		if err := m.auditOne(ctx, network, restored); err != nil {
			m.mu.Lock()
			maps.Copy(m.auditAlso, also)
			m.mu.Unlock()
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.audited = true
	if m.synced { // what was known of networks that this host is not on any more
		for network, f := range m.follows {
			if !f.active {
				m.drop(network)
			}
		}
	}
	return nil
}

// auditOne is audit for one network.
func (m *Mesh) auditOne(ctx context.Context, network string, restored bool) error {
	e, there, err := m.get(ctx, networkKeys+network)
	if err != nil {
		return err
	}
	m.mu.Lock()
	arrivals := m.queue.arrivals[network]
	m.mu.Unlock()
	_, present, err := m.get(ctx, presentKey(network, m.id))
	if err != nil {
		return err
	}
	m.mu.Lock()
	o := m.own[network]
	if o == nil {
		n, ok := decode[cnm.Network](e.Value)
		if !there || !ok { // nothing here, nothing there
			n = cnm.Network{ID: network}
		}
		o = m.owned(&n)
	}
	needed := len(o.endpoints) > 0 || restored && len(o.Blocks)+len(o.Singles) > 0
	if there {
		m.netRevs[network] = e.Rev
		if n, ok := decode[cnm.Network](e.Value); ok {
			o.Network = &n
		}
		o.stuck = ""
	}
	m.mu.Unlock()
	switch {
	case !there && needed:
		if err := m.revive(ctx, o); err != nil {
			if !errors.Is(err, cnm.ErrConflict) {
				return err
			}
			m.mu.Lock()
			o.stuck = err.Error()
			m.mu.Unlock()
			m.log.Error("a network of the mesh that is in use here was removed elsewhere and cannot be put back", "network", o.Network.Name, "err", err)
			return nil
		}
	case !there:
		m.mu.Lock()
		o.Blocks, o.Singles, o.Grants = nil, nil, map[netip.Addr]string{}
		m.mu.Unlock()
		if err := m.saveOwn(network); err != nil {
			return err
		}
		if err := m.giveBack(ctx, network); err != nil {
			return err
		}
	}
	if there || needed {
		if err := m.auditBlocks(ctx, o); err != nil {
			return err
		}
	}
	return m.auditEndpoints(ctx, o, present, arrivals)
}

// giveBack frees this host's blocks of a network that is no more, and of which it has
// forgotten them. If the network is back they are its own still, and found again.
func (m *Mesh) giveBack(ctx context.Context, network string) error {
	entries, _, err := m.list(ctx, blockKeys+network+"/")
	if err != nil {
		return err
	}
	var ops []store.Op
	for _, e := range entries {
		if string(e.Value) == m.id {
			ops = append(ops, store.Op{Key: e.Key, Guard: true, IfRev: e.Rev})
		}
	}
	m.mu.Lock()
	guards := []store.Op{m.guardSelf(), {Key: networkKeys + network, Guard: true, Keep: true}}
	m.mu.Unlock()
	return m.commitAll(ctx, guards, ops)
}

// blockSeen compares a block as it is in the store with what this host believes. The
// caller holds mu.
func (m *Mesh) blockSeen(network string, p netip.Prefix, owner string, rev int64) {
	o := m.own[network]
	if o == nil || m.member() != nil {
		return
	}
	has := slices.Contains(o.Blocks, p)
	switch {
	case has && owner == m.id:
		o.revs[p] = rev
	case has != (owner == m.id) && !m.claims[blockKey(network, p)]:
		m.auditAll = true
		m.checkBell.ring()
	}
}

// ownSeen compares an endpoint of this host's as it is in the store with what it should
// be: a commit whose answer was lost may be done later than the one after it. The caller
// holds mu.
func (m *Mesh) ownSeen(network, id, key string, is []byte) {
	var want []byte
	if o := m.own[network]; o != nil {
		want = o.endpoints[id]
	}
	if m.synced && m.member() == nil && string(want) != string(is) {
		m.queue.stale(key)
		m.writeBell.ring()
	}
}

// auditEndpoints queues what the store lacks of this host's, and what it has too much.
// present is as it was read after so many arrivals.
func (m *Mesh) auditEndpoints(ctx context.Context, o *ownNet, present bool, arrivals int) error {
	network := o.Network.ID
	entries, _, err := m.list(ctx, endpointKeys+network+"/"+m.id+"/")
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.own[network] != o { // tidied away meanwhile
		m.own[network] = o
	}
	if m.queue.arrivals[network] == arrivals { // else what was written since is what is true
		m.queue.present[network] = present
	}
	if m.synced || o.wanted() {
		m.wantPresent(o)
	}
	found := map[string]bool{}
	for _, e := range entries {
		id := e.Key[strings.LastIndexByte(e.Key, '/')+1:]
		// Until Sync, what is not known here may be what the controller is about to tell.
		if found[id] = true; string(o.endpoints[id]) != string(e.Value) && (m.synced || o.endpoints[id] != nil) {
			m.queue.stale(e.Key)
		}
	}
	for id := range o.endpoints {
		if !found[id] {
			m.queue.stale(endpointKey(network, m.id, id))
		}
	}
	m.tidy(network)
	return nil
}
