package mesh

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"linkspan/store"
)

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
