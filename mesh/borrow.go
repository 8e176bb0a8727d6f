package mesh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// borrow asks the host whose block an address is in for that address. The ask is a key
// that the owner answers; once granted it stays, as this host's title to the address.
func (m *Mesh) borrow(ctx context.Context, n *cnm.Network, networkRev int64, addr netip.Addr, block netip.Prefix, blockRev int64, owner string) (cnm.Block, error) {
	key := askKey(n.ID, addr)
	m.mu.Lock()
	if m.queue.releases[key] { // on its way back: asked again when it is through
		m.mu.Unlock()
		return cnm.Block{}, store.ErrCompare
	}
	delete(m.queue.releases, key) // not begun
	m.borrowing[key]++            // from here on none begins
	defer m.borrowEnds(key)
	name := m.nameOf(owner)
	guard, self := m.guardSelf(), m.self.Name
	answered := m.wait(key)
	m.mu.Unlock()
	defer func() { m.unwait(key, answered) }()

	e, ok, err := m.get(ctx, key)
	if err != nil {
		return cnm.Block{}, err
	}
	if k, _ := decode[ask](e.Value); ok {
		switch {
		case k.By != m.id:
			return cnm.Block{}, m.lent(n, addr, k, name)
		case k.State == granted:
			return m.borrowed(n, addr)
		case k.State == refused: // of an earlier life
			if err := m.takeBack(ctx, key, e.Rev); err != nil {
				return cnm.Block{}, err
			}
			return cnm.Block{}, store.ErrCompare
		}
	} else {
		if _, there, err := m.get(ctx, aliveKeys+owner); err != nil {
			return cnm.Block{}, err
		} else if !there {
			return cnm.Block{}, m.away(n, addr, block, owner)
		}
		m.mu.Lock()
		ops := append(m.coming(n), guard, unchanged(networkKeys+n.ID, networkRev), unchanged(blockKey(n.ID, block), blockRev),
			store.Op{Key: key, Value: encode(ask{By: m.id, Name: self}), Guard: true})
		m.mu.Unlock()
		rev, err := m.commit(ctx, ops...)
		if err == nil {
			m.came(n)
		}
		if err != nil {
			if !errors.Is(err, store.ErrCompare) { // written or not
				m.releaseLater(key)
			}
			return cnm.Block{}, err
		}
		e.Rev = rev
	}
	k, rev := m.answerOf(ctx, key, answered)
	if k.State == "" {
		// Taken back, unless the answer comes in this very moment.
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.Timeout)
		defer cancel()
		switch err := m.takeBack(back, key, rev); {
		case rev == 0: // it was not seen: as if it could not be taken back
			m.releaseLater(key)
		case errors.Is(err, store.ErrCompare):
			if e, ok, err := m.get(back, key); err == nil && ok {
				k, _ = decode[ask](e.Value)
				rev = e.Rev
			}
		case err != nil:
			m.releaseLater(key)
			return cnm.Block{}, err
		}
	}
	switch {
	case k.By == m.id && k.State == granted:
		m.cfg.Hook("mesh.ask.granted")
		return m.borrowed(n, addr)
	case k.By == m.id && k.State == refused:
		if err := m.takeBack(ctx, key, rev); err != nil {
			m.releaseLater(key)
		}
		return cnm.Block{}, cnm.Conflict("%s (said by host %s, whose block %s it is in)", k.Why, name, block)
	}
	if err := ctx.Err(); err != nil {
		return cnm.Block{}, err
	}
	return cnm.Block{}, m.away(n, addr, block, owner)
}

func (m *Mesh) borrowEnds(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.borrowing[key]--; m.borrowing[key] == 0 {
		delete(m.borrowing, key)
	}
	m.writeBell.ring()
}

// answerOf waits for the owner, and returns the ask as it is then.
func (m *Mesh) answerOf(ctx context.Context, key string, answered chan struct{}) (ask, int64) {
	end := time.NewTimer(m.cfg.AskWait)
	defer end.Stop()
	look := time.NewTicker(m.cfg.AskWait / 6) // the watch may be what is broken
	defer look.Stop()
	var k ask
	var rev int64
	for over := false; ; {
		if e, ok, err := m.get(ctx, key); err == nil {
			k, _ = decode[ask](e.Value)
			if rev = e.Rev; !ok || k.State != "" {
				return k, rev
			}
		}
		if over {
			return k, rev
		}
		select {
		case <-ctx.Done():
			over = true
		case <-end.C:
			over = true
		case <-answered:
			answered = nil
		case <-look.C:
		}
		if answered == nil {
			m.mu.Lock()
			answered = m.wait(key)
			m.mu.Unlock()
			defer m.unwait(key, answered)
		}
	}
}

// wait is closed at the next change of an ask. The caller holds mu.
func (m *Mesh) wait(key string) chan struct{} {
	c := make(chan struct{})
	m.waiters[key] = append(m.waiters[key], c)
	return c
}

func (m *Mesh) unwait(key string, c chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiters[key] = slices.DeleteFunc(m.waiters[key], func(o chan struct{}) bool { return o == c }); len(m.waiters[key]) == 0 {
		delete(m.waiters, key)
	}
}

// takeBack deletes an ask, if it is what it was.
func (m *Mesh) takeBack(ctx context.Context, key string, rev int64) error {
	m.mu.Lock()
	guard := m.guardSelf()
	m.mu.Unlock()
	_, err := m.commit(ctx, guard, store.Op{Key: key, Guard: true, IfRev: rev})
	return err
}

// borrowed takes a granted address into memory and into the host's own store.
func (m *Mesh) borrowed(n *cnm.Network, addr netip.Addr) (cnm.Block, error) {
	m.mu.Lock()
	delete(m.queue.releases, askKey(n.ID, addr))
	o := m.owned(n)
	if !slices.Contains(o.Singles, addr) {
		o.Singles = append(o.Singles, addr)
	}
	m.mu.Unlock()
	return cnm.Block{Prefix: single(addr), Host: m.id}, m.saveOwn(n.ID)
}

// borrowAny asks for one address, any, of hosts that are there: of those that seem to
// be free in their blocks, from the end, since a host hands out its own from the start.
func (m *Mesh) borrowAny(ctx context.Context, n *cnm.Network, networkRev int64, pool cnm.Pool, owners map[netip.Prefix]string) (cnm.Block, error) {
	endpoints, _, err := m.list(ctx, endpointKeys+n.ID+"/")
	if err != nil {
		return cnm.Block{}, err
	}
	taken := map[netip.Addr]bool{}
	for _, e := range endpoints {
		r, _ := decodeRemote(e.Value)
		for _, a := range r.Addrs {
			taken[a.Addr()] = true
		}
	}
	asks, _, err := m.list(ctx, askKeys+n.ID+"/")
	if err != nil {
		return cnm.Block{}, err
	}
	for _, e := range asks {
		if _, a, ok := splitAsk(e.Key); ok {
			taken[a] = true
		}
	}
	var asked []string
	refusals := 0
	for _, p := range sortedBlocks(owners) {
		owner := owners[p]
		if owner == m.id {
			continue
		}
		m.mu.Lock()
		there, name := m.alive[owner], m.nameOf(owner)
		m.mu.Unlock()
		if !there {
			asked = append(asked, fmt.Sprintf("%s is not there", name))
			continue
		}
		free := freeIn(pool, p, taken, 4)
		if len(free) == 0 {
			asked = append(asked, fmt.Sprintf("%s uses all of %s", name, p))
		}
		for _, a := range free {
			e, ok, err := m.get(ctx, blockKey(n.ID, p))
			if err != nil {
				return cnm.Block{}, err
			}
			if !ok || string(e.Value) != owner {
				return cnm.Block{}, store.ErrCompare
			}
			b, err := m.borrow(ctx, n, networkRev, a, p, e.Rev, owner)
			if err == nil || errors.Is(err, store.ErrCompare) {
				return b, err
			}
			if !errors.Is(err, cnm.ErrConflict) { // it does not answer: not that one again
				asked = append(asked, err.Error())
				break
			}
			if refusals++; refusals == 8 {
				return cnm.Block{}, m.spent(n, pool, owners, []string{"eight were in use"})
			}
		}
	}
	return cnm.Block{}, m.spent(n, pool, owners, slices.Compact(asked))
}

// freeIn are up to max addresses of a block that nobody is known to have, from its end.
func freeIn(pool cnm.Pool, p netip.Prefix, taken map[netip.Addr]bool, max int) (out []netip.Addr) {
	tries := 4096
	for a := lastOf(p); p.Contains(a) && len(out) < max && tries > 0; a, tries = a.Prev(), tries-1 {
		if dynamic(pool, a) && !taken[a] {
			out = append(out, a)
		}
	}
	return out
}

func sortedBlocks(owners map[netip.Prefix]string) []netip.Prefix {
	var out []netip.Prefix
	for p := range owners {
		out = append(out, p)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

// lent is the error for an address that another host borrowed.
func (m *Mesh) lent(n *cnm.Network, addr netip.Addr, k ask, owner string) error {
	if k.State == granted {
		return cnm.Conflict("Address already in use: %s on network %s is held by a container on host %s; choose another address, or remove that container", addr, n.Name, k.Name)
	}
	return cnm.Conflict("Address already in use: host %s is asking host %s for %s on network %s in this moment; choose another address", k.Name, owner, addr, n.Name)
}

// away is the error for an address whose owner does not answer.
func (m *Mesh) away(n *cnm.Network, addr netip.Addr, block netip.Prefix, owner string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name, last := m.nameOf(owner), ""
	if t, ok := m.seen[owner]; ok {
		last = ", last seen " + time.Since(t).Round(time.Second).String() + " ago"
	}
	return cnm.Errorf(cnm.ErrUnavailable, "network %s: %s is in block %s of host %s, which does not answer%s: whether a container there has it cannot be known; "+
		"choose another address (or none: then one of this host's own is taken), start %s, or, if it is no more, linkspan mesh forget %s", n.Name, addr, block, name, last, name, name)
}
