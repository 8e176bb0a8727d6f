package mesh

import (
	"encoding/json"
	"strings"
	"time"

	"linkspan/cnm"
)

// wire says what a change of a base mirror means. All changes come with mu held.
func (m *Mesh) wire(v *mirror) {
	// Asks are answered as they are now: an old one would be answered by no revision.
	v.cached = v.prefix != askKeys
	switch v.prefix {
	case recordKey:
		v.change = m.recordChanged
	case hostKeys:
		v.change = m.hostChanged
		v.whole = func() {
			if _, ok := v.items[hostKeys+m.id]; !ok {
				m.checkBell.ring() // forgotten, or the store is a restored one
			}
		}
	case aliveKeys:
		v.change = m.aliveChanged
	case networkKeys:
		v.change = m.networkChanged
		v.whole = func() { m.telling.networks = true; m.tellBell.ring() }
	case askKeys:
		v.change = m.askChanged
		v.whole = func() { m.askBell.ring(); m.checkBell.ring() }
	}
}

func (m *Mesh) recordChanged(key string, _, is []byte, rev int64) {
	if key != recordKey {
		return
	}
	r, ok := decode[Record](is)
	if !ok || m.cfg.Mesh != "" && r.ID != m.cfg.Mesh {
		m.checkBell.ring() // who looks finds the words
		return
	}
	if m.record.Generation != r.Generation {
		m.checkBell.ring()
	}
	m.record, m.recordRev = r, rev
	m.tellPeers()
}

func (m *Mesh) hostChanged(key string, _, is []byte, rev int64) {
	id := strings.TrimPrefix(key, hostKeys)
	if id == m.id {
		m.checkBell.ring()
		if h, ok := decode[Host](is); ok && rev > m.selfRev && m.selfRev != 0 {
			m.storedSelf(h, rev)
		}
	}
	h, ok := decode[Host](is)
	if !ok {
		delete(m.hosts, id)
		delete(m.seen, id)
		m.forgetPath(id)
		m.askBell.ring()
	} else {
		m.hosts[id] = h
	}
	m.tellPeers()
}

func (m *Mesh) aliveChanged(key string, _, is []byte, _ int64) {
	id := strings.TrimPrefix(key, aliveKeys)
	if id == m.id {
		return
	}
	is1 := is != nil
	if is1 || m.alive[id] {
		m.seen[id] = time.Now()
	}
	if m.alive[id] != is1 {
		if m.alive[id] = is1; !is1 {
			delete(m.alive, id)
		}
		m.tellPeers()
	}
}

func (m *Mesh) networkChanged(key string, was, is []byte, rev int64) {
	id := strings.TrimPrefix(key, networkKeys)
	if is == nil {
		delete(m.networks, id)
		delete(m.netRevs, id)
		m.networkGone(id)
		m.telling.networks = true
		m.tellBell.ring()
		return
	}
	m.netRevs[id] = rev
	n := new(cnm.Network)
	if err := json.Unmarshal(is, n); err != nil {
		m.log.Warn("a network of the mesh cannot be read", "key", key, "err", err)
		return
	}
	if m.networks[id] == nil || string(was) != string(is) {
		m.networks[id] = n
		m.telling.networks = true
		m.tellBell.ring()
		m.unstick(id)
	}
}

func (m *Mesh) askChanged(key string, _, is []byte, rev int64) {
	for _, w := range m.waiters[key] {
		close(w)
	}
	delete(m.waiters, key)
	network, addr, ok := splitAsk(key)
	if a, valid := decode[ask](is); ok && valid {
		m.asks[key] = askEntry{network, addr, a, rev}
	} else {
		delete(m.asks, key)
	}
	m.askBell.ring()
}

// networkGone is a network that was removed. What of it is this host's own goes too,
// unless this host has endpoints on it: then somebody removed it while this host was
// cut off, and it is put back (audit). The caller holds mu.
func (m *Mesh) networkGone(id string) {
	o := m.own[id]
	if o == nil {
		return
	}
	m.auditAll = true
	m.checkBell.ring()
}
