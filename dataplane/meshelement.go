package dataplane

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// The builders of the elements of networks that span hosts; see page.nft and tunnels.nft.

// MeshElement says that packets between two containers of subnet, of which one is on
// another host, are of one network: let in, and never masqueraded.
func MeshElement(m Meta, table string, subnet netip.Prefix) Element {
	return meshElement(m, table, subnet, "accept")
}

// SealedElement says so of an encrypted network: such packets come and go by the devices
// of SecureElement only, and are dropped elsewhere.
func SealedElement(m Meta, table string, subnet netip.Prefix) Element {
	return meshElement(m, table, subnet, "goto sealed")
}

func meshElement(m Meta, table string, subnet netip.Prefix, verdict string) Element {
	subnet = subnet.Masked()
	first, last := subnet.Addr().AsSlice(), lastOf(subnet)
	return Element{Meta: m, Family: "inet", Table: table, Set: "mesh" + family(subnet.Addr()),
		KeyRaw: append(first, first...), Last: append(last, last...), Each: true, Verdict: verdict,
		KeyText: fmt.Sprintf("%s . %s", subnet, subnet)}
}

// SecureElement names the device that encrypts what goes to other hosts.
func SecureElement(m Meta, table, link string) Element {
	return ifElement(m, table, "secure", link)
}

// SpanElement names an interface of networks that span hosts, by which less fits than
// containers send: connections over it begin with segments that fit the path.
func SpanElement(m Meta, table, link string) Element {
	return ifElement(m, table, "spans", link)
}

// PeerElement lets tunnelled packets in from another host of the mesh: those of our VNIs
// from any other address are dropped.
func PeerElement(m Meta, table string, addr netip.Addr) Element {
	return Element{Meta: m, Family: "inet", Table: table, Set: "peers" + family(addr), KeyRaw: addr.AsSlice(), KeyText: addr.String()}
}

// VNIElement names a VNI on a UDP port as ours; secure is the one device by which its
// packets may come and go ("" for any): plain text of an encrypted network is dropped.
// The device has to be named by SecureElement too: until it is, nothing passes.
func VNIElement(m Meta, table string, udp uint16, vni uint32, secure string) Element {
	e := Element{Meta: m, Family: "inet", Table: table, Set: "vnis", Guard: true,
		// 24 bits, padded as every field of a concatenation.
		KeyRaw:  append(port(udp), binary.BigEndian.AppendUint32(nil, vni<<8)...),
		KeyText: fmt.Sprintf("%d . 0x%x", udp, vni)}
	if secure != "" {
		e.Set = "vnis_secure"
	}
	return e
}

// TunnelElement names a VXLAN device that is a bridge's port: ARP and neighbour discovery
// never leave by it, since the bridge knows all answers. It is on TunnelPage.
func TunnelElement(m Meta, table, link string) Element {
	e := ifElement(m, table, "tunnels", link)
	e.Family, e.Guard = "bridge", true
	return e
}
