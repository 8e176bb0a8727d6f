package cnm

import (
	"net"
	"net/netip"
)

// What a VXLAN tunnel adds to a packet, in bytes: the outer IP header, UDP's 8, its own 8
// and the 14 of the inner Ethernet header (RFC 7348, section 5).
const (
	vxlanOver4 = 20 + 8 + 8 + 14
	vxlanOver6 = 40 + 8 + 8 + 14
)

// PacketMTU is the largest packet, in bytes, that every way to another host takes.
func (u *Underlay) PacketMTU() int {
	mtu := u.MTU
	if mtu == 0 {
		mtu = 1500 // Ethernet's
	}
	if u.PathMTU != 0 {
		mtu = min(mtu, u.PathMTU)
	}
	return mtu
}

// VXLANMTU is the largest packet of a container, in bytes, that fits into a VXLAN tunnel:
// over the wire, or, secure, inside of WireGuard.
func (u *Underlay) VXLANMTU(secure bool) int {
	if secure {
		return inVXLAN(u.SecureMTU, u.SecureAddr)
	}
	return inVXLAN(u.PacketMTU(), u.Addr)
}

// DeviceMTU is VXLANMTU as far as this host's own device goes, whatever is on the way.
func (u *Underlay) DeviceMTU(secure bool) int {
	own := *u
	own.PathMTU = 0
	return own.VXLANMTU(secure)
}

// PeerMTU is VXLANMTU for the way to one peer.
func (u *Underlay) PeerMTU(p Peer, secure bool) int {
	mtu := u.VXLANMTU(secure)
	if !secure && p.MTU != 0 {
		mtu = min(mtu, inVXLAN(p.MTU, u.Addr))
	}
	return mtu
}

// inVXLAN is what a tunnel between addresses of outer's family leaves of a packet.
func inVXLAN(mtu int, outer netip.Addr) int {
	if outer.Is6() {
		return mtu - vxlanOver6
	}
	return mtu - vxlanOver4
}

// UDPPort is the UDP port of VXLAN devices that say none.
func (u *Underlay) UDPPort() uint16 {
	if u.VXLANPort == 0 {
		return 4789
	}
	return u.VXLANPort
}

// TunnelBits is the length of the prefix that all TunnelAddrs of a mesh have in common.
const TunnelBits = 64

// TunnelAddr is the address that the host with that VTEP's MAC has on the VXLAN device of
// routed networks: a local one (RFC 4193) of the mesh's, by which the host is a next hop of
// IPv6 routes, and by which probes go through the tunnel. The zero Addr: no such device,
// or no MAC.
func (u *Underlay) TunnelAddr(mac string) netip.Addr {
	id, ok := EUI64(mac)
	if !ok || u.RoutedVNI == 0 {
		return netip.Addr{}
	}
	v := u.RoutedVNI
	return netip.AddrFrom16([16]byte{0xfd, 0x4c, 0x53, byte(v >> 16), byte(v >> 8), byte(v),
		8: id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]})
}

// LinkLocal is the IPv6 address that an interface with that MAC gives itself; the zero
// Addr for what is no MAC.
func LinkLocal(mac string) netip.Addr {
	id, ok := EUI64(mac)
	if !ok {
		return netip.Addr{}
	}
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]})
}

// EUI64 is the interface identifier that goes with a MAC address (modified EUI-64, RFC
// 4291, appendix A).
func EUI64(mac string) (id [8]byte, ok bool) {
	m, err := net.ParseMAC(mac)
	if err != nil || len(m) != 6 {
		return id, false
	}
	return [8]byte{m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]}, true
}
