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
	m.mu.Lock()
	ops := []store.Op{m.guardSelf(), {Key: networkKeys + network, Guard: true, Keep: true}}
	m.mu.Unlock()
	fixed := len(ops)
	for i, e := range entries {
		if string(e.Value) == m.id {
			ops = append(ops, store.Op{Key: e.Key, Guard: true, IfRev: e.Rev})
		}
		if len(ops) == m.cfg.BatchOps || i == len(entries)-1 && len(ops) > fixed {
			if _, err := m.commit(ctx, ops...); err != nil {
				return err
			}
			ops = ops[:fixed]
		}
	}
	return nil
}

// auditBlocks puts back blocks that the store lost, and takes into memory those that it
// says are ours.
func (m *Mesh) auditBlocks(ctx context.Context, o *ownNet) error {
	network := o.Network.ID
	entries, _, err := m.list(ctx, blockKeys+network+"/")
	if err != nil {
		return err
	}
	found := map[netip.Prefix]store.Entry{}
	for _, e := range entries {
		if _, p, ok := splitBlock(e.Key); ok {
			found[p] = e
		}
	}
	m.mu.Lock()
	ours := slices.Clone(o.Blocks)
	singles := slices.Clone(o.Singles)
	m.mu.Unlock()
	for _, p := range ours {
		switch e, ok := found[p]; {
		case ok && string(e.Value) == m.id:
			m.mu.Lock()
			o.revs[p] = e.Rev
			m.mu.Unlock()
		case ok:
			m.loseBlock(o, p, string(e.Value))
		default:
			if err := m.putBlock(ctx, o, p); err != nil {
				return err
			}
		}
	}
	for p, e := range found {
		if string(e.Value) == m.id && !slices.Contains(ours, p) {
			if err := m.adoptNow(ctx, o, p, e.Rev); err != nil {
				return err
			}
		}
	}
	for _, a := range singles {
		if err := m.putAsk(ctx, o, a); err != nil {
			return err
		}
	}
	return nil
}

// putBlock writes a block back that is this host's and not in the store.
func (m *Mesh) putBlock(ctx context.Context, o *ownNet, p netip.Prefix) error {
	m.mu.Lock()
	network, guard := o.Network.ID, m.guardSelf()
	ops := []store.Op{guard, {Key: blockKey(network, p), Value: []byte(m.id), Guard: true},
		unchanged(networkKeys+network, m.netRevs[network]), m.bumpMembers(network)}
	m.mu.Unlock()
	rev, err := m.commit(ctx, ops...)
	if errors.Is(err, store.ErrCompare) {
		e, ok, again := m.get(ctx, blockKey(network, p))
		switch {
		case again != nil:
			return again
		case ok && string(e.Value) != m.id:
			m.loseBlock(o, p, string(e.Value))
			return nil
		case !ok:
			return err // the network, or this host
		}
		rev, err = e.Rev, nil
	}
	if err == nil {
		m.mu.Lock()
		o.revs[p] = rev
		m.mu.Unlock()
		m.log.Warn("a block of addresses was put back into the mesh's store", "network", o.Network.Name, "block", p)
	}
	return err
}

// loseBlock gives up a block that the store says is another's: after a restore from an
// old backup, somebody was faster.
func (m *Mesh) loseBlock(o *ownNet, p netip.Prefix, owner string) {
	m.mu.Lock()
	o.Blocks = slices.DeleteFunc(o.Blocks, func(b netip.Prefix) bool { return b == p })
	delete(o.revs, p)
	m.pend(o.Network.ID).block(p)
	m.tellBell.ring()
	name := m.nameOf(owner)
	m.mu.Unlock()
	m.log.Error("a block of addresses that was this host's is another's now: containers here that have addresses of it must be made anew",
		"network", o.Network.Name, "block", p, "host", name)
	if err := m.saveOwn(o.Network.ID); err != nil {
		m.log.Error("the block is still in this host's own state", "err", err)
	}
}

// putAsk puts back the title to a borrowed address that is not in the store. If the
// address is in somebody's block, he is asked again: one who granted it remembers. If it
// is in none, the title is written, on condition that nobody claims a block meanwhile:
// who claims one afterwards sees it.
func (m *Mesh) putAsk(ctx context.Context, o *ownNet, a netip.Addr) error {
	network := o.Network.ID
	key := askKey(network, a)
	members, _, err := m.get(ctx, memberKeys+network)
	if err != nil {
		return err
	}
	e, ok, err := m.get(ctx, key)
	if err != nil {
		return err
	}
	k, _ := decode[ask](e.Value)
	switch {
	case ok && k.By != m.id:
		m.loseSingle(o, a, "it is host "+k.Name+"'s now")
		return m.saveOwn(network)
	case ok && k.State != "":
		return nil // granted, or refused: see auditAsks
	}
	blocks, _, err := m.list(ctx, blockKeys+network+"/")
	if err != nil {
		return err
	}
	state := granted
	for _, b := range blocks {
		if _, p, valid := splitBlock(b.Key); valid && p.Contains(a) && string(b.Value) != m.id {
			state = ""
		}
	}
	if ok && state == "" {
		return nil // asked, and to be answered
	}
	m.mu.Lock()
	guard := m.guardSelf()
	value := encode(ask{By: m.id, Name: m.self.Name, State: state})
	held := slices.Contains(o.Singles, a)
	m.mu.Unlock()
	if !held { // released meanwhile
		return nil
	}
	bump := m.bumpMembers(network)
	bump.Guard, bump.IfRev = true, members.Rev
	_, err = m.commit(ctx, guard, bump, store.Op{Key: key, Value: value, Guard: true, IfRev: e.Rev})
	return err
}

// loseSingle gives up a borrowed address that is another's now.
func (m *Mesh) loseSingle(o *ownNet, a netip.Addr, why string) {
	m.log.Error("an address that this host borrowed is lost: the container here that has it must be made anew", "network", o.Network.Name, "addr", a, "why", why)
	m.mu.Lock()
	defer m.mu.Unlock()
	o.Singles = slices.DeleteFunc(o.Singles, func(b netip.Addr) bool { return b == a })
}

// adoptNow takes a block into memory that the store says is ours, unless a Claim is at
// it in this moment.
func (m *Mesh) adoptNow(ctx context.Context, o *ownNet, p netip.Prefix, rev int64) error {
	key := blockKey(o.Network.ID, p)
	m.mu.Lock()
	busy := m.claims[key] || m.adopting[key] || slices.Contains(o.Blocks, p) || m.left
	if !busy {
		m.adopting[key] = true
	}
	m.mu.Unlock()
	if busy {
		return nil
	}
	defer func() {
		m.mu.Lock()
		delete(m.adopting, key)
		m.mu.Unlock()
	}()
	err := m.adopt(ctx, o.Network, p, rev)
	if err == nil {
		m.mu.Lock()
		m.pend(o.Network.ID).block(p)
		m.tellBell.ring()
		m.mu.Unlock()
	}
	return err
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

// auditAsks gives back what was granted to an earlier life of this host and is not used,
// and gives up what was put back and refused.
func (m *Mesh) auditAsks() {
	m.mu.Lock()
	ready := m.base[askKeys].listed && m.cfg.Local != nil && m.synced && m.audited && m.member() == nil
	var lost []askEntry
	if ready {
		for key, e := range m.asks {
			if e.ask.By != m.id || m.borrowing[key] > 0 {
				continue
			}
			o := m.own[e.network]
			uses := o != nil && slices.Contains(o.Singles, e.addr)
			if uses && e.ask.State == refused {
				lost = append(lost, e)
			}
			if _, there := m.queue.releases[key]; !there && (!uses || e.ask.State == refused) {
				m.queue.releases[key] = false
				m.writeBell.ring()
			}
		}
	}
	m.mu.Unlock()
	for _, e := range lost {
		m.mu.Lock()
		o := m.own[e.network]
		m.mu.Unlock()
		if o == nil {
			continue
		}
		m.loseSingle(o, e.addr, e.ask.Why)
		if err := m.saveOwn(e.network); err != nil {
			m.log.Error("the address is still in this host's own state", "err", err)
		}
	}
}
