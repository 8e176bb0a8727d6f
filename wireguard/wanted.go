package wireguard

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Wanted is what the mesh says.
type Wanted struct {
	// MTU of the device in bytes, see MTU.
	MTU int
	// Published is the key in this host's own record; empty: none. Known is whether the
	// record was read at all: else nothing is said of the key.
	Published string
	Known     bool
	// Hosts are the others.
	Hosts []Host
	// Busy: there are encrypted networks. Then sessions are kept, so that the first packet
	// need not wait for one.
	Busy bool
}

// Host is another host, as its record has it.
type Host struct {
	ID, Name string
	// Key is its public key; empty: it has published none.
	Key string
	// Endpoint is its address on the underlay and the tunnels' port.
	Endpoint netip.AddrPort
	// Addr is its address in the tunnel.
	Addr netip.Addr
}

// Overhead of a packet in the tunnel, in bytes: the outer IP header, UDP's 8, WireGuard's
// 16 and the 16 of the authenticator (section 5.4.6 of WireGuard's paper).
const (
	overheadOver4 = 20 + 8 + 16 + 16
	overheadOver6 = 40 + 8 + 16 + 16
)

// MTU is what fits into a tunnel between addresses of outer's family over a wire of mtu
// bytes.
func MTU(mtu int, outer netip.Addr) int {
	if outer.Is6() {
		return mtu - overheadOver6
	}
	return mtu - overheadOver4
}

// keepalive is how often a session that has nothing to send is kept (the paper's
// persistent keepalive; 25 s is below the usual 30 s of firewalls for UDP).
const keepalive = 25 * time.Second

// config is what the device should be. Hosts that cannot be peers are left out and said:
// they must not keep the others from it.
func (m *Manager) config() Config {
	c := Config{Name: m.cfg.Device, PrivateKey: m.keys.Current(), Port: m.cfg.Port, MTU: m.wanted.MTU}
	own := c.PrivateKey.Public()
	skip := func(h Host, why string) {
		if line := h.ID + " " + why; !m.skipped[line] {
			m.skipped[line] = true
			m.log.Warn("a host gets no encrypted packets: "+why, "host", h.Name)
		}
	}
	hosts := slices.Clone(m.wanted.Hosts)
	slices.SortFunc(hosts, func(a, b Host) int { return strings.Compare(a.ID, b.ID) })
	byKey, byPrefix := map[PublicKey]string{}, map[netip.Prefix]string{}
	for _, h := range hosts {
		if h.Key == "" {
			continue // it has none yet
		}
		key, err := ParsePublicKey(h.Key)
		switch {
		case err != nil:
			skip(h, err.Error())
			continue
		case key == own:
			skip(h, "its key is this host's own: was its data folder copied? (linkspan mesh rotate makes another)")
			continue
		case byKey[key] != "":
			skip(h, "its key is also that of host "+byKey[key]+": was its data folder copied? (linkspan mesh rotate makes another)")
			continue
		}
		byKey[key] = h.Name
		p := Peer{PublicKey: key, Endpoint: h.Endpoint}
		if m.wanted.Busy {
			p.Keepalive = keepalive
		}
		allow := func(a netip.Prefix) {
			a = a.Masked()
			if by := byPrefix[a]; by == "" {
				byPrefix[a] = h.ID
				p.Allowed = append(p.Allowed, a)
			}
		}
		if h.Addr.IsValid() {
			allow(netip.PrefixFrom(h.Addr, h.Addr.BitLen()))
		}
		for _, network := range slices.Sorted(maps.Keys(m.allowed)) {
			for _, a := range m.allowed[network][h.ID] {
				allow(a)
			}
		}
		c.Peers = append(c.Peers, p)
	}
	return c
}
