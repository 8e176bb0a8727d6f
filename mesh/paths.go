package mesh

import (
	"net/netip"
	"strings"
)

// pathKeys, in the host's own store, are the ways to peers: what is not found out again in
// the moment of a restart, and until then is as it was.
const pathKeys = localKeys + "paths/" // <peer>: path

// path is what was measured of the way to a peer.
type path struct {
	// Addr is the peer's: what was measured of another way does not count.
	Addr netip.Addr `json:"addr"`
	// MTU is the largest packet that passed, in bytes.
	MTU int `json:"mtu"`
}

// PathMTU is the largest packet, in bytes, that was last found to pass on the way to a
// peer; 0: it was not measured since the peer has this address.
func (m *Mesh) PathMTU(peer string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.paths[peer]; p.Addr == m.hosts[peer].Addr {
		return p.MTU
	}
	return 0
}

// SetPathMTU remembers, also for the next start, what passes on the way to a peer; 0: it
// is not known. It is written behind.
func (m *Mesh) SetPathMTU(peer string, mtu int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, there := m.hosts[peer]
	p := path{h.Addr, mtu}
	switch {
	case !there || mtu == 0:
		m.forgetPath(peer)
	case m.paths[peer] != p:
		m.paths[peer] = p
		m.cached(pathKeys+peer, encode(p))
	}
}

// forgetPath is for a peer that is no more. The caller holds mu.
func (m *Mesh) forgetPath(peer string) {
	if _, known := m.paths[peer]; known {
		delete(m.paths, peer)
		m.cached(pathKeys+peer, nil)
	}
}

// loadPaths takes what was remembered of hosts that there are. The caller holds mu.
func (m *Mesh) loadPaths(stored map[string][]byte) {
	for key, value := range stored {
		peer, ok := strings.CutPrefix(key, pathKeys)
		if !ok {
			continue
		}
		p, valid := decode[path](value)
		if _, there := m.hosts[peer]; there && valid {
			m.paths[peer] = p
		} else {
			m.cached(key, nil)
		}
	}
}
