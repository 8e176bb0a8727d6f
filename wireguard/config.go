// Package wireguard is the encrypted tunnels between the hosts of a mesh: their keys,
// what a host's one device has to have, the difference to what it has, and the manager
// that keeps the device right and changes the keys. The device itself is the kernel's
// (package wireguard/kernel), or, where the kernel has none, one in user space that lives
// in the keeper (wireguard/userspace).
package wireguard

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"linkspan/cnm"
)

// DefaultPort is the UDP port of the encrypted tunnels. WireGuard's customary 51820 is
// left to what people set up themselves.
const DefaultPort = 51871

// Config is all that a device has.
type Config struct {
	// Name is the network device's.
	Name string
	// PrivateKey is in no encoding: who sends a configuration sends it beside.
	PrivateKey PrivateKey `json:"-"`
	// Port is UDP; 0: DefaultPort.
	Port uint16
	// MTU in bytes is that with which a device in user space is made; from then on it is
	// the data plane's, as the kernel's device is. 0: 1420.
	MTU   int
	Peers []Peer
}

// Peer is another host's end.
type Peer struct {
	PublicKey PublicKey
	// Endpoint is where it is found; not valid: it speaks first.
	Endpoint netip.AddrPort
	// Allowed are the addresses that it may send from, and that are sent to it. No
	// address is allowed to two peers.
	Allowed []netip.Prefix
	// Keepalive, in whole seconds, is how often an empty packet is sent when there is no
	// other; 0: never.
	Keepalive time.Duration
}

// Device is where configurations are set: the kernel's, or the keeper's. Its methods are
// safe for concurrent use. They err with cnm.ErrUnavailable when that is away.
type Device interface {
	// Set has the device be c. It changes what is different and nothing else, so that
	// running sessions go on, and what a peer's endpoint has become is kept until
	// another is wished. One that is not there is made, or, if it is the kernel's,
	// cnm.ErrNotFound: the data plane makes that.
	Set(ctx context.Context, c Config) error
	// Status is how a device is; cnm.ErrNotFound when there is none of that name.
	Status(ctx context.Context, name string) (Status, error)
	// Remove ends it: in user space the network device goes too, in the kernel its key
	// and peers. One that is not there is success.
	Remove(ctx context.Context, name string) error
}

// Status is a device as it is.
type Status struct {
	Name      string
	PublicKey PublicKey
	Port      uint16
	// UserSpace: its packets are encrypted by the keeper, not by the kernel.
	UserSpace bool
	// Err says why nothing can be received; empty: it can.
	Err   string `json:",omitempty"`
	Peers []PeerStatus
}

// PeerStatus is a peer as it is.
type PeerStatus struct {
	PublicKey PublicKey
	// Endpoint is from where it was last heard, or where it is expected.
	Endpoint netip.AddrPort
	// Handshake is when a session with it was last begun; zero: never.
	Handshake time.Time `json:",omitzero"`
	// Received and Sent are bytes on the wire.
	Received, Sent uint64
	Allowed        []netip.Prefix
}

// SessionTime is how long a session is used after its handshake (RejectAfterTime,
// section 6.1 of WireGuard's paper): a peer whose last handshake is older has none.
const SessionTime = 180 * time.Second

// Up says whether there is a session with the peer.
func (p PeerStatus) Up(now time.Time) bool {
	return !p.Handshake.IsZero() && now.Sub(p.Handshake) < SessionTime
}

// Peer finds a peer by its key.
func (s Status) Peer(k PublicKey) (PeerStatus, bool) {
	i := slices.IndexFunc(s.Peers, func(p PeerStatus) bool { return p.PublicKey == k })
	if i < 0 {
		return PeerStatus{}, false
	}
	return s.Peers[i], true
}

// The defaults and bounds.
const (
	defaultMTU   = 1420
	minMTU       = 576
	maxMTU       = 65535 - 80
	maxKeepalive = 65535 * time.Second
)

// Normal returns c with its defaults, its peers in the order of their keys and their
// prefixes in order, or says what is wrong with it.
func (c Config) Normal() (Config, error) {
	switch {
	case c.Name == "" || len(c.Name) > 15 || strings.ContainsAny(c.Name, "/: \t\n%"):
		return c, cnm.Invalid("%q is no name of a network device: 1 to 15 bytes without '/', ':', '%%' and spaces", c.Name)
	case c.PrivateKey.IsZero():
		return c, cnm.Invalid("WireGuard device %s: it needs a private key", c.Name)
	case c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU):
		return c, cnm.Invalid("WireGuard device %s: an MTU of %d bytes is not within %d to %d", c.Name, c.MTU, minMTU, maxMTU)
	}
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	if c.MTU == 0 {
		c.MTU = defaultMTU
	}
	c.Peers = slices.Clone(c.Peers)
	slices.SortFunc(c.Peers, func(a, b Peer) int { return slices.Compare(a.PublicKey[:], b.PublicKey[:]) })
	own := c.PrivateKey.Public()
	holder := map[netip.Prefix]PublicKey{}
	for i := range c.Peers {
		p := &c.Peers[i]
		switch {
		case p.PublicKey.IsZero():
			return c, cnm.Invalid("WireGuard device %s: a peer without a public key", c.Name)
		case p.PublicKey == own:
			return c, cnm.Invalid("WireGuard device %s: peer %s has this host's own key: two hosts share one, make one of them another (linkspan mesh rotate)", c.Name, p.PublicKey)
		case i > 0 && c.Peers[i-1].PublicKey == p.PublicKey:
			return c, cnm.Conflict("WireGuard device %s: two peers have the key %s: make one of them another (linkspan mesh rotate)", c.Name, p.PublicKey)
		case p.Keepalive < 0 || p.Keepalive > maxKeepalive || p.Keepalive%time.Second != 0:
			return c, cnm.Invalid("WireGuard device %s: peer %s: a keepalive of %s is not whole seconds up to %s", c.Name, p.PublicKey, p.Keepalive, maxKeepalive)
		}
		if p.Endpoint.IsValid() {
			// One address, one form: an endpoint that only looks different would be set anew.
			p.Endpoint = netip.AddrPortFrom(p.Endpoint.Addr().Unmap(), p.Endpoint.Port())
			if p.Endpoint.Port() == 0 || p.Endpoint.Addr().IsUnspecified() {
				return c, cnm.Invalid("WireGuard device %s: peer %s cannot be at %s", c.Name, p.PublicKey, p.Endpoint)
			}
		}
		p.Allowed = slices.Clone(p.Allowed)
		for j, a := range p.Allowed {
			if !a.IsValid() {
				return c, cnm.Invalid("WireGuard device %s: peer %s: %s is no prefix", c.Name, p.PublicKey, a)
			}
			p.Allowed[j] = a.Masked()
		}
		slices.SortFunc(p.Allowed, netip.Prefix.Compare)
		p.Allowed = slices.Compact(p.Allowed)
		for _, a := range p.Allowed {
			if k, ok := holder[a]; ok {
				return c, cnm.Conflict("WireGuard device %s: %s is allowed to two peers, %s and %s", c.Name, a, k, p.PublicKey)
			}
			holder[a] = p.PublicKey
		}
	}
	return c, nil
}
