package driver

import (
	"fmt"
	"net/netip"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// SecureBits is the length of the prefix that all hosts' addresses in the WireGuard tunnel
// have in common.
const SecureBits = 64

// RoutedLink is the name of the VXLAN device that all routed networks share on this host:
// "ls-r" and the instance, which is the end of the table's name.
func RoutedLink(env Env) string {
	return "ls-r" + env.Table[strings.LastIndexByte(env.Table, '_')+1:]
}

// NextHop is the address by which a peer's end of the routed VXLAN device is the next hop
// of a route of that family: for IPv4 the peer's own on the wire, of whatever family that
// is (RFC 5549), for IPv6 the one inside of the tunnel. The zero Addr: its MAC is not known.
func NextHop(u *cnm.Underlay, p cnm.Peer, v4 bool) netip.Addr {
	if p.MAC == "" {
		return netip.Addr{}
	}
	if v4 {
		return p.Addr
	}
	return u.TunnelAddr(p.MAC)
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
	// Before anything of a mesh's is there: who has which address is not asked through
	// tunnels, whatever overlay networks come.
	b.add(dataplane.TunnelPage(env.Table))
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
		dataplane.SecureElement(b.because("what is to be encrypted comes and goes by %s alone", u.Secure), b.table, u.Secure),
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
		dataplane.VNIElement(b.because("VNI %d carries the routed networks", u.RoutedVNI), b.table, u.UDPPort(), u.RoutedVNI, ""),
		dataplane.VXLAN{Meta: b.because("routed networks reach hosts behind a router through it"), Name: link, VNI: u.RoutedVNI,
			Local: u.Addr, Dev: u.Dev, Port: u.VXLANPort, MTU: u.VXLANMTU(false), MAC: u.MAC},
		dataplane.Up{Meta: b.because("the tunnels of routed networks carry packets"), Link: link},
		dataplane.SpanElement(b.because("less fits into the tunnels than containers of routed networks send: TCP is told so"), b.table, link))
	if own := u.TunnelAddr(u.MAC); own.IsValid() {
		b.add(
			dataplane.Sysctl{Meta: b.because("the tunnels' own addresses are IPv6, also where the host's others are not"),
				Name: "net/ipv6/conf/" + link + "/disable_ipv6", Value: "0", Optional: true},
			dataplane.Addr{Meta: b.because("this host inside of the tunnels: the next hop of IPv6 routes, and where probes are answered"),
				Link: link, Prefix: netip.PrefixFrom(own, cnm.TunnelBits)})
	}
	b.soft(link)
	for _, p := range peers {
		if p.MAC == "" || p.Addr.Is4() != u.Addr.Is4() {
			continue
		}
		b.add(dataplane.FDB{Meta: b.because("%s's end of the routed networks' tunnels", p.Name), Dev: link, MAC: p.MAC, Dst: p.Addr})
		b.add(dataplane.Neighbour{Meta: b.because("%s as the next hop of routed networks", p.Name), Link: link, Addr: p.Addr, MAC: p.MAC})
		if in := u.TunnelAddr(p.MAC); in.IsValid() {
			b.add(dataplane.Neighbour{Meta: b.because("%s inside of the tunnels", p.Name), Link: link, Addr: in, MAC: p.MAC})
		}
	}
}

// soft has checksums of what goes into a tunnel computed before, where a device spoils
// them.
func (b *underlay) soft(link string) {
	if b.u.SoftChecksums {
		b.add(SoftChecksums(b.because("a device on the way spoils the checksums of what is inside of tunnels: they are computed before"), link))
	}
}

// SoftChecksums switches off, on one VXLAN device, that checksums are left to the device
// below.
func SoftChecksums(m dataplane.Meta, link string) dataplane.Offload {
	return dataplane.Offload{Meta: m, Link: link, Feature: "tx-checksum-ip-generic"}
}
