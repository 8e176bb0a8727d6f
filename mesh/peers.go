package mesh

import (
	"net/netip"

	"linkspan/cnm"
)

// Underlay is this host's place; nil while it was forgotten by the mesh or has left it.
func (m *Mesh) Underlay() *cnm.Underlay {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fenced != "" || m.left {
		return nil
	}
	u := &cnm.Underlay{
		Host: m.id, Name: m.self.Name, Addr: m.self.Addr, Dev: m.place.Dev, MTU: m.place.MTU, PathMTU: m.place.PathMTU,
		SoftChecksums: m.place.SoftChecksums,
		VXLANPort:     m.record.VXLANPort, MAC: m.self.MAC, RoutedVNI: m.record.RoutedVNI,
	}
	if u.VXLANPort == 0 {
		u.VXLANPort = VXLANPort
	}
	if u.RoutedVNI == 0 {
		u.RoutedVNI = routedVNI
	}
	if m.place.Secure != "" {
		u.Secure, u.SecureMTU, u.SecureUserSpace = m.place.Secure, m.place.SecureMTU, m.place.SecureUserSpace
		u.SecureAddr = SecureAddr(m.record.Secure, m.self.Number)
	}
	return u
}

// SecureAddr is this host's address inside of WireGuard, and the prefix that all hosts'
// are in; zero until the mesh's record is known.
func (m *Mesh) SecureAddr() (netip.Addr, netip.Prefix) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return SecureAddr(m.record.Secure, m.self.Number), m.record.Secure
}

// Peers are the other hosts, by name.
func (m *Mesh) Peers() []cnm.Peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fenced != "" || m.left {
		return nil
	}
	var out []cnm.Peer
	for _, h := range m.others() {
		w := m.ways[h.Addr]
		p := cnm.Peer{ID: h.ID, Name: h.Name, Addr: h.Addr, Alive: m.alive[h.ID], OnLink: w.OnLink, Dev: w.Dev, MTU: w.MTU, MAC: h.MAC}
		if h.Key != "" {
			p.SecureAddr = SecureAddr(m.record.Secure, h.Number)
		}
		out = append(out, p)
	}
	return out
}

// others are the hosts besides this one. The caller holds mu.
func (m *Mesh) others() []Host {
	out := make([]Host, 0, len(m.hosts))
	for id, h := range m.hosts {
		if id != m.id {
			out = append(out, h)
		}
	}
	sortHosts(out)
	return out
}

// lookWays asks for the ways to hosts that are new. The caller holds mu.
func (m *Mesh) lookWays() {
	if m.cfg.Way == nil {
		return
	}
	for id, h := range m.hosts {
		if _, known := m.ways[h.Addr]; !known && id != m.id {
			m.ways[h.Addr] = m.cfg.Way(h.Addr)
		}
	}
}

// Refresh asks again for the ways to all hosts: routes or devices changed.
func (m *Mesh) Refresh() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.ways)
	m.lookWays()
	m.tellPeers()
}

// SetPlace says what this host's end is now.
func (m *Mesh) SetPlace(p Place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.place == p {
		return
	}
	m.place = p
	m.tellPeers()
}

// SetKey publishes this host's WireGuard public key.
func (m *Mesh) SetKey(key string) {
	m.setSelf(func(h *Host) { h.Key, m.set.key = key, true })
}

// SetPrefixes publishes what this host uses itself.
func (m *Mesh) SetPrefixes(used []Used) {
	m.setSelf(func(h *Host) { h.Prefixes, m.set.prefixes = used, true })
}

func (m *Mesh) setSelf(set func(*Host)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	set(&m.self)
	m.checkBell.ring()
}
