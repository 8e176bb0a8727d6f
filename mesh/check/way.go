package check

import (
	"net/netip"
	"strconv"

	"linkspan/cnm"
)

// Way is one way to a peer.
type Way struct {
	Peer string // id
	// Host is the peer's address on the wire, where it is asked for a key.
	Host netip.Addr
	Kind cnm.PathKind
	// Target is the peer's address on it, Dev the device that packets leave by.
	Target netip.Addr
	Dev    string
	// MTU is the largest packet that should pass, in bytes.
	MTU int
}

// Ways are those to a peer, the wire itself first.
func Ways(u *cnm.Underlay, p cnm.Peer) (ways []Way) {
	if !p.Addr.IsValid() || p.Addr.Is4() != u.Addr.Is4() {
		return nil
	}
	dev := p.Dev
	if dev == "" {
		dev = u.Dev
	}
	own := *u
	own.PathMTU = 0 // it is what is to be found
	ways = append(ways, Way{Peer: p.ID, Host: p.Addr, Kind: cnm.PathDirect, Target: p.Addr, Dev: dev, MTU: own.PacketMTU()})
	if in := u.TunnelAddr(p.MAC); in.IsValid() && u.TunnelAddr(u.MAC).IsValid() {
		ways = append(ways, Way{Peer: p.ID, Host: p.Addr, Kind: cnm.PathVXLAN, Target: in, Dev: dev, MTU: u.VXLANMTU(false)})
	}
	if u.Secure != "" && u.SecureAddr.IsValid() && p.SecureAddr.IsValid() {
		ways = append(ways, Way{Peer: p.ID, Host: p.Addr, Kind: cnm.PathWireGuard, Target: p.SecureAddr, Dev: u.Secure, MTU: u.SecureMTU})
	}
	return ways
}

type wayKey struct {
	peer string
	kind cnm.PathKind
	to   netip.Addr
}

func (w Way) key() wayKey { return wayKey{w.Peer, w.Kind, w.Target} }

func portText(p uint16) string { return strconv.Itoa(int(p)) }
