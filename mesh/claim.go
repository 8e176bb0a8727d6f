package mesh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/ipam"
	"linkspan/store"
)

// Claim makes one more block of a subnet this host's: that which holds addr, or, when
// addr is zero, any that is free. An address in another host's block is asked of that
// host, and comes alone. When no block is free, one address is asked of others.
func (m *Mesh) Claim(ctx context.Context, n *cnm.Network, subnet netip.Prefix, addr netip.Addr) (cnm.Block, error) {
	addr = addr.Unmap()
	pool, err := poolOf(n, subnet)
	if err != nil {
		return cnm.Block{}, err
	}
	if addr.IsValid() && !subnet.Contains(addr) {
		return cnm.Block{}, cnm.Invalid("Invalid address %s: It does not belong to subnet %s of network %s", addr, subnet, n.Name)
	}
	what := fmt.Sprintf("network %s: no more addresses of %s can be claimed for this host", n.Name, subnet)
	if addr.IsValid() {
		what = fmt.Sprintf("network %s: %s is in no block of addresses of this host, and cannot be claimed", n.Name, addr)
	}
	m.mu.Lock()
	if o := m.own[n.ID]; o != nil && addr.IsValid() && m.member() == nil {
		if b, ok := o.holding(addr); ok {
			to, given := o.Grants[addr]
			name := m.nameOf(to)
			m.mu.Unlock()
			if given {
				return cnm.Block{}, cnm.Conflict("Address already in use: %s on network %s was given to host %s, for a container there; choose another address, or remove that container", addr, n.Name, name)
			}
			return cnm.Block{Prefix: b, Host: m.id}, nil
		}
		if slices.Contains(o.Singles, addr) {
			m.mu.Unlock()
			return cnm.Block{Prefix: single(addr), Host: m.id}, nil
		}
	}
	m.mu.Unlock()
	for try := 0; ; try++ {
		b, err := m.claim(ctx, n, pool, addr, try)
		if !errors.Is(err, store.ErrCompare) {
			return b, m.unreachable(what, err)
		}
		if try == 50 {
			return b, cnm.Errorf(cnm.ErrUnavailable, "%s: other hosts were faster fifty times; try again", what)
		}
		if err := pause(ctx, retry(min(try, 4))); err != nil {
			return b, err
		}
	}
}

// claim is one attempt; store.ErrCompare means that something changed meanwhile.
func (m *Mesh) claim(ctx context.Context, n *cnm.Network, pool cnm.Pool, addr netip.Addr, try int) (cnm.Block, error) {
	if try > 0 { // perhaps it is this host's record that is another
		m.mu.Lock()
		m.selfRev = 0
		m.mu.Unlock()
	}
	if err := m.settle(ctx); err != nil {
		return cnm.Block{}, err
	}
	if err := m.settled("network " + n.Name); err != nil {
		return cnm.Block{}, err
	}
	network, ok, err := m.get(ctx, networkKeys+n.ID)
	if err != nil {
		return cnm.Block{}, err
	}
	if !ok {
		return cnm.Block{}, cnm.NotFound("network %s is no more: it was removed on another host; make it again with docker network create", n.Name)
	}
	entries, _, err := m.list(ctx, blockKeys+n.ID+"/")
	if err != nil {
		return cnm.Block{}, err
	}
	var used ipam.Space
	owners := map[netip.Prefix]string{}
	for _, e := range entries {
		_, p, ok := splitBlock(e.Key)
		if !ok || !pool.Subnet.Contains(p.Addr()) {
			continue
		}
		owner := string(e.Value)
		owners[p] = owner
		used.Add(p, owner)
		switch here := addr.IsValid() && p.Contains(addr); {
		case owner == m.id && !m.has(n.ID, p) && (here || !addr.IsValid()):
			// Claimed in an earlier life, or by a commit whose answer was lost.
			if err := m.adopt(ctx, n, p, e.Rev); err != nil {
				return cnm.Block{}, err
			}
			return cnm.Block{Prefix: p, Host: m.id}, nil
		case owner != m.id && here:
			return m.borrow(ctx, n, network.Rev, addr, p, e.Rev, owner)
		}
	}
	p := blockOf(pool.Subnet, addr)
	if !addr.IsValid() {
		if p, ok = choose(pool, &used, try); !ok {
			return m.borrowAny(ctx, n, network.Rev, pool, owners)
		}
	}
	key := blockKey(n.ID, p)
	m.mu.Lock()
	m.claims[key] = true
	ops := append(m.coming(n), m.guardSelf(), unchanged(recordKey, m.recordRev),
		unchanged(networkKeys+n.ID, network.Rev), store.Op{Key: key, Value: []byte(m.id), Guard: true})
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.claims, key)
		m.mu.Unlock()
	}()
	rev, err := m.commit(ctx, ops...)
	if err != nil && !errors.Is(err, store.ErrCompare) {
		// Whether it was written is not known: who asks again learns it.
		if e, ok, again := m.get(ctx, key); again == nil && ok && string(e.Value) == m.id {
			rev, err = e.Rev, nil
		}
	}
	if err != nil {
		return cnm.Block{}, err
	}
	m.came(n)
	m.cfg.Hook("mesh.block.claimed")
	return cnm.Block{Prefix: p, Host: m.id}, m.take(ctx, n, p, rev)
}

func (m *Mesh) has(network string, p netip.Prefix) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.own[network]
	return o != nil && slices.Contains(o.Blocks, p)
}

// gain takes a block into memory and into the host's own store.
func (m *Mesh) gain(n *cnm.Network, p netip.Prefix, rev int64) error {
	m.mu.Lock()
	o := m.owned(n)
	if !slices.Contains(o.Blocks, p) {
		o.Blocks = append(o.Blocks, p)
	}
	o.revs[p] = rev
	m.mu.Unlock()
	m.log.Info("addresses of the mesh are this host's", "network", n.Name, "block", p)
	return m.saveOwn(n.ID)
}

// adopt makes a block this host's in memory that is its own in the store.
func (m *Mesh) adopt(ctx context.Context, n *cnm.Network, p netip.Prefix, rev int64) error {
	m.mu.Lock()
	guard := m.guardSelf()
	m.mu.Unlock()
	key := blockKey(n.ID, p)
	// Written again by its revision: it is ours now, not only when it was listed.
	rev, err := m.commit(ctx, guard, store.Op{Key: key, Value: []byte(m.id), Guard: true, IfRev: rev})
	if err != nil {
		return err
	}
	return m.take(ctx, n, p, rev)
}

// take makes a block this host's to hand out. Addresses inside of it that other hosts
// have a title to are told to the sink first: a block that was somebody else's, or of a
// network that was put back, can have some. Whoever puts back a title later sees the
// block (putAsk).
func (m *Mesh) take(ctx context.Context, n *cnm.Network, p netip.Prefix, rev int64) error {
	asks, _, err := m.list(ctx, askKeys+n.ID+"/")
	if err != nil {
		return err
	}
	var given []netip.Addr
	m.mu.Lock()
	o := m.owned(n)
	for _, e := range asks {
		if _, a, ok := splitAsk(e.Key); ok && p.Contains(a) {
			if k, _ := decode[ask](e.Value); k.State == granted && k.By != m.id {
				o.Grants[a] = k.By
				given = append(given, a)
			}
		}
	}
	m.mu.Unlock()
	if len(given) > 0 {
		if err := m.saveOwn(n.ID); err != nil {
			return err
		}
		done := make(chan struct{})
		m.mu.Lock()
		m.job(func(ctx context.Context, s Sink) { m.remind(ctx, s, n.ID, given); close(done) })
		m.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return m.gain(n, p, rev)
}

// settled errs while hosts that are there have not put back their own into a store that
// was restored from a backup: what seems free may be theirs.
func (m *Mesh) settled(what string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.suspect || m.cache.generation != m.record.Generation {
		m.checkBell.ring()
		return cnm.Errorf(cnm.ErrUnavailable, "%s: the mesh's store was restored from a backup, and this host is putting back what is its own; try again in a moment", what)
	}
	var late []string
	for id, h := range m.hosts {
		if id != m.id && m.alive[id] && h.Generation != m.record.Generation {
			late = append(late, h.Name)
		}
	}
	if len(late) > 0 {
		slices.Sort(late)
		return cnm.Errorf(cnm.ErrUnavailable, "%s: the mesh's store was restored from a backup, and what is theirs has not been put back yet by %s: addresses that seem free may be in use there; try again in a moment", what, strings.Join(late, ", "))
	}
	return nil
}

// spent is the error for a subnet without a free block or address.
func (m *Mesh) spent(n *cnm.Network, pool cnm.Pool, owners map[netip.Prefix]string, asked []string) error {
	count := map[string]int{}
	for _, owner := range owners {
		count[owner]++
	}
	m.mu.Lock()
	var who []string
	for owner, c := range count {
		who = append(who, fmt.Sprintf("%s has %d", m.nameOf(owner), c))
	}
	m.mu.Unlock()
	slices.Sort(who)
	tail := ""
	if len(asked) > 0 {
		tail = "; no single address could be had of them: " + strings.Join(asked, "; ")
	}
	return cnm.Errorf(cnm.ErrExhausted, "network %s: all %d blocks (/%d) of %s are claimed: %s%s; remove containers there, forget hosts that are no more (linkspan mesh forget HOST), "+
		"or make a network with a larger --subnet", n.Name, len(owners), BlockBits(pool.Subnet), pool.Subnet, strings.Join(who, ", "), tail)
}
