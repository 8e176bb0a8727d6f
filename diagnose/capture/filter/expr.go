// Package filter is the common part of pcap's filter language (pcap-filter(7)): host,
// net, port, portrange, the usual protocols, src and dst, and, or, not. An expression
// becomes classic BPF for the kernel, or is asked about one packet; there is no libpcap
// in it, so that the binary needs none.
package filter

import (
	"net/netip"
	"slices"

	"linkspan/dataplane/reading"
)

// Expr is a filter. The nil Expr lets everything through.
type Expr struct{ root node }

// The directions of an address or port.
type direction int

const (
	either direction = iota // src or dst
	src
	dst
	both // src and dst
)

// node is one of: all, not, and, or, proto, addrs, ports.
type node interface{}

type (
	all   bool // true lets everything through, false nothing
	not   struct{ x node }
	and   struct{ l, r node }
	or    struct{ l, r node }
	proto struct{ name string } // "ip", "ip6", "arp", "tcp", "udp", "sctp", "icmp", "icmp6"
	// addrs are an address or subnet; family is "ip", "ip6", "arp" or "" for both of IP
	// and ARP.
	addrs struct {
		dir    direction
		prefix netip.Prefix
		family string
	}
	// ports is a port or a range; proto is "tcp", "udp", "sctp" or "" for these three.
	ports struct {
		dir   direction
		from  uint16
		to    uint16
		proto string
	}
)

// View is a packet as a filter sees it.
type View struct {
	// Kind is "ip", "ip6", "arp" or "".
	Kind string
	// Packet is of IP; of ARP only its addresses are set.
	Packet reading.Packet
}

// ethernet is the length of its header; the type is its last two bytes.
const ethernet = 14

// ViewOf reads an Ethernet frame.
func ViewOf(frame []byte) (v View) {
	if len(frame) < ethernet {
		return v
	}
	body := frame[ethernet:]
	switch uint16(frame[12])<<8 | uint16(frame[13]) {
	case 0x0800:
		v.Kind = "ip"
	case 0x86dd:
		v.Kind = "ip6"
	case 0x0806:
		if len(body) >= 28 { // RFC 826, of Ethernet and IPv4
			v.Kind = "arp"
			v.Packet.Src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[14:18])), 0)
			v.Packet.Dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[24:28])), 0)
		}
		return v
	default:
		return v
	}
	p, ok := reading.ParsePacket(body)
	if !ok {
		return View{}
	}
	v.Packet = p
	return v
}

// Match says whether the filter lets a packet through. Of a packet that is translated
// there are two views, and an address or port may be either's: "port 80" is true where
// one of them has it, and "not port 80" where none has.
func (e *Expr) Match(views ...View) bool { return e == nil || match(e.root, views) }

func match(n node, views []View) bool {
	switch n := n.(type) {
	case all:
		return bool(n)
	case not:
		return !match(n.x, views)
	case and:
		return match(n.l, views) && match(n.r, views)
	case or:
		return match(n.l, views) || match(n.r, views)
	}
	for _, v := range views {
		if one(n, v) {
			return true
		}
	}
	return false
}

// one asks a primitive about one view.
func one(n node, v View) bool {
	switch n := n.(type) {
	case proto:
		switch n.name {
		case "ip", "ip6", "arp":
			return v.Kind == n.name
		case "icmp6":
			return v.Kind == "ip6" && v.Packet.Proto == "icmpv6"
		case "icmp":
			return v.Kind == "ip" && v.Packet.Proto == "icmp"
		}
		return v.Packet.Proto == n.name
	case addrs:
		if v.Kind == "" || n.family != "" && n.family != v.Kind {
			return false
		}
		return sides(n.dir, n.prefix.Contains(v.Packet.Src.Addr()), n.prefix.Contains(v.Packet.Dst.Addr()))
	case ports:
		p := v.Packet
		if p.Fragment || !slices.Contains(withPorts(n.proto), p.Proto) {
			return false
		}
		in := func(port uint16) bool { return port >= n.from && port <= n.to }
		return sides(n.dir, in(p.Src.Port()), in(p.Dst.Port()))
	}
	return false
}

func sides(d direction, s, t bool) bool {
	switch d {
	case src:
		return s
	case dst:
		return t
	case both:
		return s && t
	}
	return s || t
}

func withPorts(name string) []string {
	if name != "" {
		return []string{name}
	}
	return []string{"tcp", "udp", "sctp"}
}

// Untranslated is a filter that lets through at least what this one does of packets
// whose addresses and ports are going to be, or were, translated: it keeps only what NAT
// does not change. same says that it is this one.
func (e *Expr) Untranslated() (out *Expr, same bool) {
	if e == nil {
		return nil, true
	}
	if !translatable(e.root) {
		return e, true
	}
	return &Expr{loosen(e.root, true)}, false
}

func translatable(n node) bool {
	switch n := n.(type) {
	case not:
		return translatable(n.x)
	case and:
		return translatable(n.l) || translatable(n.r)
	case or:
		return translatable(n.l) || translatable(n.r)
	case addrs, ports:
		return true
	}
	return false
}

// loosen gives what lets through at least as much (more) or at most as much.
func loosen(n node, more bool) node {
	switch n := n.(type) {
	case not:
		return negate(loosen(n.x, !more))
	case and:
		l, r := loosen(n.l, more), loosen(n.r, more)
		switch {
		case l == all(false) || r == all(false):
			return all(false)
		case l == all(true):
			return r
		case r == all(true):
			return l
		}
		return and{l, r}
	case or:
		l, r := loosen(n.l, more), loosen(n.r, more)
		switch {
		case l == all(true) || r == all(true):
			return all(true)
		case l == all(false):
			return r
		case r == all(false):
			return l
		}
		return or{l, r}
	case addrs:
		return all(more)
	case ports:
		if more && n.proto != "" {
			return proto{n.proto}
		}
		return all(more)
	}
	return n
}

func negate(n node) node {
	if c, ok := n.(all); ok {
		return !c
	}
	return not{n}
}

// And lets through what both do.
func And(a, b *Expr) *Expr {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return &Expr{and{a.root, b.root}}
}

// IP lets IP packets of both versions through.
func IP() *Expr { return &Expr{or{proto{"ip"}, proto{"ip6"}}} }
