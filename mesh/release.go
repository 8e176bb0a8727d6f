package mesh

import (
	"context"
	"net/netip"
	"slices"
)

// Release gives a borrowed address back, in the background. Blocks stay.
func (m *Mesh) Release(network string, block netip.Prefix) {
	m.mu.Lock()
	o := m.own[network]
	if o == nil || !block.IsSingleIP() || !slices.Contains(o.Singles, block.Addr()) {
		m.mu.Unlock()
		return
	}
	o.Singles = slices.DeleteFunc(o.Singles, func(a netip.Addr) bool { return a == block.Addr() })
	m.mu.Unlock()
	// Out of this host's own store first: what is given back must not be found there
	// after a crash.
	if err := m.saveOwn(network); err != nil {
		m.log.Warn("an address stays borrowed", "addr", block.Addr(), "err", err)
		m.mu.Lock()
		o.Singles = append(o.Singles, block.Addr())
		m.mu.Unlock()
		return
	}
	m.mu.Lock()
	m.queue.releases[askKey(network, block.Addr())] = false
	m.writeBell.ring()
	m.mu.Unlock()
}

// releaseLater has an ask taken back that could not be, or of which it is not known
// whether it was written.
func (m *Mesh) releaseLater(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.queue.releases[key]; !there && m.member() == nil {
		m.queue.releases[key] = false
		m.writeBell.ring()
	}
}

// release writes what Release promised. Only an ask that is this host's is taken away,
// by its revision: after an answer that was lost, the address may be another's already.
func (m *Mesh) release(ctx context.Context) error {
	for {
		m.mu.Lock()
		key := ""
		for k := range m.queue.releases {
			if m.borrowing[k] == 0 {
				key = k
				m.queue.releases[k] = true
				break
			}
		}
		m.mu.Unlock()
		if key == "" {
			return nil
		}
		err := m.releaseOne(ctx, key)
		m.mu.Lock()
		if err == nil {
			delete(m.queue.releases, key)
			if s, ok := parts(key, askKeys, 2); ok {
				// The whole block may have become this host's, by a forget.
				m.auditAlso[s[0]] = true
				m.auditAll = true
				m.checkBell.ring()
			}
		} else {
			m.queue.releases[key] = false
		}
		m.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (m *Mesh) releaseOne(ctx context.Context, key string) error {
	e, ok, err := m.get(ctx, key)
	if err != nil || !ok {
		return err
	}
	if k, valid := decode[ask](e.Value); valid && k.By != m.id {
		return nil
	}
	return m.takeBack(ctx, key, e.Rev)
}
