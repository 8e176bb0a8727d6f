package mesh

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// answer is the owner's side of asks: those for addresses of this host's blocks are
// passed to the sink and answered. What is there decides, not what changed: an ask that
// could not be answered is answered when it is seen again.
func (m *Mesh) answer(ctx context.Context) {
	again := time.NewTicker(m.cfg.Resync)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.askBell:
		case <-again.C:
		}
		failed := false
		for _, e := range m.asked() {
			if err := m.answerOne(ctx, e); err != nil {
				m.log.Info("an ask for an address is not answered yet", "addr", e.addr, "by", e.ask.Name, "err", err)
				failed = failed || !errors.Is(err, store.ErrCompare)
			}
		}
		for _, g := range m.ungranted() {
			m.ungrant(ctx, g.network, g.addr)
		}
		if failed {
			if pause(ctx, retry(6)) != nil {
				return
			}
			m.askBell.ring()
		}
	}
}

// asked are the asks for addresses of this host's blocks that need an answer.
func (m *Mesh) asked() (out []askEntry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.member() != nil {
		return nil
	}
	for _, e := range m.asks {
		o := m.own[e.network]
		if o == nil || e.ask.By == m.id || e.ask.State == refused || e.rev == 0 {
			continue
		}
		if _, ours := o.holding(e.addr); ours && (e.ask.State == "" || o.Grants[e.addr] != e.ask.By) {
			out = append(out, e)
		}
	}
	return out
}

// answerOne grants or refuses. What is granted is in this host's own store before the
// asker learns of it: this host never hands it out, crash or no crash.
func (m *Mesh) answerOne(ctx context.Context, e askEntry) error {
	m.mu.Lock()
	o := m.own[e.network]
	if o == nil || m.sink == nil {
		m.mu.Unlock()
		return nil
	}
	to, was := o.Grants[e.addr]
	n := o.Network
	m.mu.Unlock()
	answer := ask{By: e.ask.By, Name: e.ask.Name, State: granted}
	switch {
	case was && to != e.ask.By:
		m.mu.Lock()
		answer.State, answer.Why = refused, "Address already in use: "+e.addr.String()+" on network "+n.Name+" was given to host "+m.nameOf(to)
		m.mu.Unlock()
	case !was:
		if err := m.askSink(ctx, e); err != nil {
			answer.State, answer.Why = refused, err.Error()
			if e.ask.State == granted {
				m.log.Error("an address is in use here that another host was granted", "network", n.Name, "addr", e.addr, "host", e.ask.Name, "err", err)
				return nil
			}
			break
		}
		m.mu.Lock()
		o.Grants[e.addr] = e.ask.By
		m.mu.Unlock()
		if err := m.saveOwn(e.network); err != nil {
			m.cancelGrant(e.network, e.addr)
			return err
		}
	}
	if e.ask.State == granted {
		return nil
	}
	m.cfg.Hook("mesh.ask.answering")
	err := m.reply(ctx, n, e, answer)
	if errors.Is(err, store.ErrCompare) && answer.State == granted && !was {
		// Taken back meanwhile, or ours no more: as the store says now.
		m.ungrant(ctx, e.network, e.addr)
	}
	return err
}

// reply writes the answer, if the ask is as it was and the block still this host's.
func (m *Mesh) reply(ctx context.Context, n *cnm.Network, e askEntry, answer ask) error {
	if err := m.settle(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	p, ok := m.own[e.network].holding(e.addr)
	guard := m.guardSelf()
	m.mu.Unlock()
	if !ok {
		return store.ErrCompare
	}
	key := blockKey(e.network, p)
	b, ok, err := m.get(ctx, key)
	if err != nil {
		return err
	}
	if !ok || string(b.Value) != m.id {
		return store.ErrCompare
	}
	_, err = m.commit(ctx, guard,
		unchanged(key, b.Rev),
		store.Op{Key: askKey(e.network, e.addr), Value: encode(answer), Guard: true, IfRev: e.rev})
	if err == nil {
		m.log.Info("another host asked for an address", "network", n.Name, "addr", e.addr, "host", answer.Name, "answer", answer.State, "why", answer.Why)
	}
	return err
}

// askSink asks in the sink's turn.
func (m *Mesh) askSink(ctx context.Context, e askEntry) error {
	done := make(chan error, 1)
	m.mu.Lock()
	m.job(func(ctx context.Context, s Sink) { done <- s.Ask(ctx, e.network, e.addr, e.ask.Name) })
	m.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ungranted are grants of addresses that nobody asks for any more.
func (m *Mesh) ungranted() (out []askEntry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.member() != nil || !m.base[askKeys].listed {
		return nil
	}
	for network, o := range m.own {
		for a := range o.Grants {
			if _, there := m.asks[askKey(network, a)]; !there {
				out = append(out, askEntry{network: network, addr: a})
			}
		}
	}
	return out
}

// ungrant ends a grant, once the store itself says that it is over: not a copy of it,
// nor a store that was restored and in which the asker has not put its own back.
func (m *Mesh) ungrant(ctx context.Context, network string, addr netip.Addr) {
	r, e, err := m.identity(ctx)
	if err != nil || e.Rev == 0 {
		return
	}
	m.mu.Lock()
	o := m.own[network]
	to := ""
	if o != nil {
		to = o.Grants[addr]
	}
	wait := to == "" || m.suspect || r.Generation != m.cache.generation
	m.mu.Unlock()
	if wait {
		return
	}
	h, known, err := m.get(ctx, hostKeys+to)
	if err != nil {
		return
	}
	if host, _ := decode[Host](h.Value); known && host.Generation != r.Generation {
		return // it comes back, or is forgotten
	}
	k, there, err := m.get(ctx, askKey(network, addr))
	if a, _ := decode[ask](k.Value); err != nil || there && a.By == to {
		return
	}
	m.cancelGrant(network, addr)
}

// cancelGrant gives an address back to this host's own.
func (m *Mesh) cancelGrant(network string, addr netip.Addr) {
	m.mu.Lock()
	o := m.own[network]
	if o != nil {
		delete(o.Grants, addr)
	}
	m.mu.Unlock()
	if o == nil {
		return
	}
	if err := m.saveOwn(network); err != nil {
		m.log.Warn("an address stays given away until the next start", "addr", addr, "err", err)
		return
	}
	m.mu.Lock()
	m.job(func(ctx context.Context, s Sink) { s.Unask(ctx, network, addr) })
	m.mu.Unlock()
}

// remindGrants tells the sink first of all which addresses are others', since the
// process that heard it is gone.
func (m *Mesh) remindGrants() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for network, o := range m.own {
		var given []netip.Addr
		for a := range o.Grants {
			given = append(given, a)
		}
		if len(given) > 0 {
			m.job(func(ctx context.Context, s Sink) { m.remind(ctx, s, network, given) })
		}
	}
}

func (m *Mesh) remind(ctx context.Context, s Sink, network string, given []netip.Addr) {
	for _, a := range given {
		m.mu.Lock()
		o := m.own[network]
		var name, shop string
		to, ok := "", false
		if o != nil {
			if to, ok = o.Grants[a]; ok {
				name, shop = m.nameOf(to), o.Network.Name
			}
		}
		m.mu.Unlock()
		if !ok {
			continue
		}
		if err := s.Ask(ctx, network, a, name); err != nil {
			m.log.Error("an address is in use here that another host was granted", "network", shop, "addr", a, "host", name, "err", err)
		}
	}
}
