package driver

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// What a tunnel adds to a packet, in bytes: the outer IP header, UDP's 8, and for VXLAN
// its own 8 and the 14 of the inner Ethernet header (RFC 7348, section 5).
const (
	vxlanOver4 = 20 + 8 + 8 + 14
	vxlanOver6 = 40 + 8 + 8 + 14
)

// SecureBits is the length of the prefix that all hosts' addresses in the WireGuard tunnel
// have in common.
const SecureBits = 64

// RoutedLink is the name of the VXLAN device that all routed networks share on this host:
// "ls-r" and the instance, which is the end of the table's name.
func RoutedLink(env Env) string {
	return "ls-r" + env.Table[strings.LastIndexByte(env.Table, '_')+1:]
}

// UnderlayMTU is the largest packet, in bytes, that every way to another host takes.
func UnderlayMTU(u *cnm.Underlay) int {
	mtu := u.MTU
	if mtu == 0 {
		mtu = 1500 // Ethernet's
	}
	if u.PathMTU != 0 {
		mtu = min(mtu, u.PathMTU)
	}
	return mtu
}

// DeviceMTU is VXLANMTU as far as this host's own device goes, whatever is on the way.
func DeviceMTU(u *cnm.Underlay, secure bool) int {
	own := *u
	own.PathMTU = 0
	return VXLANMTU(&own, secure)
}

// VXLANMTU is the largest packet of a container that fits into a VXLAN tunnel: over the
// wire, or, secure, inside of WireGuard.
func VXLANMTU(u *cnm.Underlay, secure bool) int {
	if secure {
		return inside(u.SecureMTU, u.SecureAddr)
	}
	return inside(UnderlayMTU(u), u.Addr)
}

// inside is what a VXLAN tunnel between addresses of outer's family leaves of a packet.
func inside(mtu int, outer netip.Addr) int {
	if outer.Is6() {
		return mtu - vxlanOver6
	}
	return mtu - vxlanOver4
}

// PathMTU is the largest packet, in bytes, that fits into a VXLAN tunnel to one peer.
func PathMTU(u *cnm.Underlay, p cnm.Peer, secure bool) int {
	mtu := VXLANMTU(u, secure)
	if !secure && p.MTU != 0 {
		mtu = min(mtu, inside(p.MTU, u.Addr))
	}
	return mtu
}

// NextHop is the address by which a peer's end of the routed VXLAN device is the next hop
// of a route of that family: the peer's own on the wire, which serves IPv4 whatever it is
// (RFC 5549), and for IPv6 over IPv4 the link-local one of its MAC (RFC 4291, appendix A).
// The zero Addr: its MAC is not known.
func NextHop(p cnm.Peer, v4 bool) netip.Addr {
	if v4 || p.Addr.Is6() {
		return p.Addr
	}
	return LinkLocal(p.MAC)
}

// LinkLocal is the IPv6 address that an interface with that MAC gives itself (modified
// EUI-64, RFC 4291, appendix A); the zero Addr for what is no MAC.
func LinkLocal(mac string) netip.Addr {
	m, err := net.ParseMAC(mac)
	if err != nil || len(m) != 6 {
		return netip.Addr{}
	}
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

// UnderlayObjects plans what a host in a mesh needs whatever its networks are: who may
// send it tunnelled packets, the device of the encrypted tunnels, and the one VXLAN device
// that carries routed networks to hosts behind a router. Nothing without an underlay.
func UnderlayObjects(env Env, peers []cnm.Peer) ([]dataplane.Object, error) {
	u := env.Underlay
	if u == nil {
		return nil, nil
	}
	b := &underlay{table: env.Table, u: u}
	for _, p := range peers {
		b.peer(p)
	}
	if u.Secure != "" {
		b.secure()
	}
	if u.RoutedVNI != 0 {
		b.routed(RoutedLink(env), peers)
	}
	return b.objs, nil
}

type underlay struct {
	table string
	u     *cnm.Underlay
	objs  []dataplane.Object
}

func (b *underlay) add(o ...dataplane.Object) { b.objs = append(b.objs, o...) }

func (b *underlay) because(format string, args ...any) dataplane.Meta {
	return dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerHost}, Reason: fmt.Sprintf(format, args...)}
}

func (b *underlay) peer(p cnm.Peer) {
	if p.Addr.IsValid() {
		b.add(dataplane.PeerElement(b.because("%s is of the mesh: tunnelled packets from it are taken", p.Name), b.table, p.Addr))
	}
	if b.u.Secure != "" && p.SecureAddr.IsValid() {
		b.add(dataplane.PeerElement(b.because("%s is of the mesh: its tunnelled packets inside of WireGuard are taken", p.Name), b.table, p.SecureAddr))
	}
}

// secure plans the WireGuard device. The kernel's route to the address's subnet leads to
// all peers; where the device is missing, nothing for them leaves by another way.
func (b *underlay) secure() {
	u := b.u
	prefix := netip.PrefixFrom(u.SecureAddr, SecureBits)
	b.add(
		dataplane.WireGuard{Meta: b.because("the encrypted tunnels to the other hosts"), Name: u.Secure, MTU: u.SecureMTU, UserSpace: u.SecureUserSpace},
		dataplane.Addr{Meta: b.because("this host inside of the encrypted tunnels"), Link: u.Secure, Prefix: prefix},
		dataplane.Up{Meta: b.because("the encrypted tunnels carry packets"), Link: u.Secure},
		dataplane.Route{Meta: b.because("what is to be encrypted never leaves by another way"), Dst: prefix.Masked(), Unreachable: true})
}

// routed plans the VXLAN device of routed networks, and the peers' ends of it. Those on
// the same link are there too: a peer can come to be behind a router.
func (b *underlay) routed(link string, peers []cnm.Peer) {
	u := b.u
	b.add(
		dataplane.VNIElement(b.because("VNI %d carries the routed networks", u.RoutedVNI), b.table, VXLANPort(u), u.RoutedVNI, ""),
		dataplane.VXLAN{Meta: b.because("routed networks reach hosts behind a router through it"), Name: link, VNI: u.RoutedVNI,
			Local: u.Addr, Dev: u.Dev, Port: u.VXLANPort, MTU: VXLANMTU(u, false), MAC: u.MAC},
		dataplane.Up{Meta: b.because("the tunnels of routed networks carry packets"), Link: link})
	for _, p := range peers {
		if p.MAC == "" || p.Addr.Is4() != u.Addr.Is4() {
			continue
		}
		b.add(dataplane.FDB{Meta: b.because("%s's end of the routed networks' tunnels", p.Name), Dev: link, MAC: p.MAC, Dst: p.Addr})
		b.add(dataplane.Neighbour{Meta: b.because("%s as the next hop of routed networks", p.Name), Link: link, Addr: p.Addr, MAC: p.MAC})
		if six := NextHop(p, false); six != p.Addr {
			b.add(dataplane.Neighbour{Meta: b.because("%s as the next hop of routed IPv6 networks", p.Name), Link: link, Addr: six, MAC: p.MAC})
		}
	}
}

// VXLANPort is the UDP port of VXLAN devices that say none.
func VXLANPort(u *cnm.Underlay) uint16 {
	if u.VXLANPort == 0 {
		return 4789
	}
	return u.VXLANPort
}
