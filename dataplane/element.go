package dataplane

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// The builders below make the elements of the page's sets and maps (page.nft).
// Keys and data are laid out as the kernel stores concatenations: every field
// padded to 4 bytes, network byte order (nft(8), "CONCATENATIONS").

// ifNameSize is IFNAMSIZ: interface names are NUL-padded to it.
const ifNameSize = 16

// BridgeElement names a bridge as ours.
func BridgeElement(m Meta, table, bridge string) Element {
	e := ifElement(m, table, "bridges", bridge)
	e.Guard = true
	return e
}

// EgressElement lets a bridge's containers leave the host.
func EgressElement(m Meta, table, bridge string) Element {
	return ifElement(m, table, "egress", bridge)
}

// ICCElement lets a bridge's containers reach each other through the host's
// forward hook (bridged packets pass it when bridge-nf is on).
func ICCElement(m Meta, table, bridge string) Element {
	return pairElement(m, table, "icc", bridge, bridge)
}

// SwitchedElement names a bridge of someone else: what it switches is not guarded.
func SwitchedElement(m Meta, table, bridge string) Element {
	e := pairElement(m, table, "switched", bridge, bridge)
	e.Guard = true // before the guard itself
	return e
}

// MasqueradeElement gives a subnet's packets the host's address when they leave.
func MasqueradeElement(m Meta, table string, subnet netip.Prefix) Element {
	subnet = subnet.Masked()
	return Element{Meta: m, Family: "inet", Table: table, Set: "masquerade" + family(subnet.Addr()),
		KeyRaw: subnet.Addr().AsSlice(), Last: lastOf(subnet), KeyText: subnet.String()}
}

// EndpointElement says that an address lives behind a bridge.
func EndpointElement(m Meta, table string, addr netip.Addr, bridge string) Element {
	return Element{Meta: m, Family: "inet", Table: table, Set: "endpoints" + family(addr),
		KeyRaw:  append(addr.AsSlice(), ifname(bridge)...),
		KeyText: fmt.Sprintf("%s . %q", addr, bridge)}
}

// PublishElement translates one host port to a container's. An unspecified or
// zero host address means every address of to's family.
func PublishElement(m Meta, table, proto string, host netip.Addr, hostPort uint16, to netip.AddrPort) Element {
	e := Element{Meta: m, Family: "inet", Table: table,
		Data:     append(to.Addr().AsSlice(), port(to.Port())...),
		DataText: fmt.Sprintf("%s . %d", to.Addr(), to.Port()),
		Flow:     &Flow{Proto: proto, Port: hostPort, To: to},
	}
	key := append(protoField(proto), port(hostPort)...)
	text := fmt.Sprintf("%s . %d", proto, hostPort)
	if !host.IsValid() || host.IsUnspecified() {
		e.Set, e.KeyRaw, e.KeyText = "publish"+family(to.Addr())+"_any", key, text
		return e
	}
	e.Set, e.KeyRaw = "publish"+family(to.Addr())+"_addr", append(host.AsSlice(), key...)
	e.KeyText, e.Flow.Addr = host.String()+" . "+text, host
	return e
}

// PublishRangeElement translates the host's ports from first to last, on every
// address of to's family, to the same numbers of a container.
func PublishRangeElement(m Meta, table, proto string, first, last uint16, to netip.Addr) Element {
	text := fmt.Sprint(first)
	if last > first {
		text = fmt.Sprintf("%d-%d", first, last)
	}
	return Element{Meta: m, Family: "inet", Table: table, Set: "publish" + family(to) + "_" + proto + rangesSuffix,
		KeyRaw: port(first)[:2], Last: port(last)[:2], KeyText: text,
		Data: to.AsSlice(), DataText: to.String(),
		Flow: &Flow{Proto: proto, Port: first, PortEnd: last, To: netip.AddrPortFrom(to, first)},
	}
}

const rangesSuffix = "_ranges"

// RangeProto is the protocol of a map that PublishRangeElement fills; "" for other
// names.
func RangeProto(set string) string {
	name, ok := strings.CutSuffix(set, rangesSuffix)
	if _, proto, two := strings.Cut(name, "_"); ok && two {
		return proto
	}
	return ""
}

// GuardForwarding drops what would be forwarded between two interfaces that are
// not ours, for a family whose forwarding Linkspan turned on.
func GuardForwarding(m Meta, table string, v4 bool) Element {
	// NFPROTO_IPV4 is 2, NFPROTO_IPV6 is 10 (linux/netfilter.h); the kernel's
	// nf_proto is one byte.
	fam, text := byte(2), "ipv4"
	if !v4 {
		fam, text = 10, "ipv6"
	}
	return Element{Meta: m, Family: "inet", Table: table, Set: "forward_guard", KeyRaw: []byte{fam}, Verdict: "goto drop_not_forwarded", KeyText: text, Guard: true}
}

func ifElement(m Meta, table, set, link string) Element {
	return Element{Meta: m, Family: "inet", Table: table, Set: set, KeyRaw: ifname(link), KeyText: fmt.Sprintf("%q", link)}
}

func ifname(n string) []byte {
	b := make([]byte, ifNameSize)
	copy(b[:ifNameSize-1], n)
	return b
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "4"
	}
	return "6"
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) []byte {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return b
}

func port(p uint16) []byte {
	b := make([]byte, 4)
	binary.BigEndian.PutUint16(b, p)
	return b
}

// protoField is the IP protocol number, padded (IANA: tcp 6, udp 17, sctp 132).
func protoField(p string) []byte {
	n := map[string]byte{"tcp": 6, "udp": 17, "sctp": 132}[p]
	return []byte{n, 0, 0, 0}
}
