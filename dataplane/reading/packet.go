package reading

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// Packet is what the headers of an IP packet say.
type Packet struct {
	Proto string // "tcp", "udp", "icmp", "icmpv6", "sctp", or "proto-47"
	// Src and Dst have port 0 where the protocol has none, or the packet is a later
	// fragment.
	Src, Dst netip.AddrPort
	Length   int    // bytes, IP header included
	TCPFlags string // "SYN", "SYN,ACK", …
	// ICMPType is the type and, after a slash, the code, where it is not 0.
	ICMPType string
	// ID is an echo request's or reply's.
	ID       uint16
	Fragment bool // not the first one
	// payload is where the transport header begins; 0: not there.
	payload int
}

// protoNumbers are IANA's, of those with ports, and ICMP.
var protoNames = map[byte]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp", 136: "udplite", 47: "gre", 50: "esp", 2: "igmp", 89: "ospf", 33: "dccp"}

// ProtoName names an IP protocol.
func ProtoName(n byte) string {
	if s := protoNames[n]; s != "" {
		return s
	}
	return "proto-" + strconv.Itoa(int(n))
}

// HasPorts says whether a protocol's header begins with two ports.
func HasPorts(proto string) bool {
	switch proto {
	case "tcp", "udp", "sctp", "udplite", "dccp":
		return true
	}
	return false
}

// ParsePacket reads an IP packet from its first byte. What was cut off is left zero.
func ParsePacket(b []byte) (p Packet, ok bool) {
	if len(b) == 0 {
		return p, false
	}
	switch b[0] >> 4 {
	case 4:
		return parse4(b)
	case 6:
		return parse6(b)
	}
	return p, false
}

// parse4 follows RFC 791.
func parse4(b []byte) (p Packet, ok bool) {
	head := int(b[0]&0xf) * 4
	if len(b) < 20 || head < 20 {
		return p, false
	}
	p.Length = int(binary.BigEndian.Uint16(b[2:]))
	p.Proto = ProtoName(b[9])
	p.Fragment = binary.BigEndian.Uint16(b[6:])&0x1fff != 0
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	p.transport(b, head, src, dst)
	return p, true
}

// maxExtensions bounds the headers between IPv6's and the transport's.
const maxExtensions = 8

// parse6 follows RFC 8200.
func parse6(b []byte) (p Packet, ok bool) {
	if len(b) < 40 {
		return p, false
	}
	p.Length = int(binary.BigEndian.Uint16(b[4:])) + 40
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	next, at := b[6], 40
	for range maxExtensions {
		if next != 0 && next != 43 && next != 44 && next != 60 { // hop-by-hop, routing, fragment, destination options
			break
		}
		if len(b) < at+8 {
			break
		}
		size := int(b[at+1])*8 + 8
		if next == 44 {
			size = 8
			p.Fragment = binary.BigEndian.Uint16(b[at+2:])&^7 != 0
		}
		next, at = b[at], at+size
	}
	p.Proto = ProtoName(next)
	p.transport(b, at, src, dst)
	return p, true
}

func (p *Packet) transport(b []byte, at int, src, dst netip.Addr) {
	var sport, dport uint16
	if !p.Fragment && len(b) >= at+4 {
		p.payload = at
		switch {
		case HasPorts(p.Proto):
			sport, dport = binary.BigEndian.Uint16(b[at:]), binary.BigEndian.Uint16(b[at+2:])
			if p.Proto == "tcp" && len(b) >= at+14 {
				p.TCPFlags = tcpFlags(b[at+13])
			}
		case p.Proto == "icmp" || p.Proto == "icmpv6":
			p.ICMPType = icmpType(p.Proto, b[at], b[at+1])
			if strings.HasPrefix(p.ICMPType, "echo-") && len(b) >= at+6 {
				p.ID = binary.BigEndian.Uint16(b[at+4:])
			}
		}
	}
	p.Src, p.Dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
}

// Transport is where the transport header begins, of a packet whose own first bytes
// are there; 0 when it is not there.
func (p Packet) Transport() int { return p.payload }

func tcpFlags(f byte) string {
	var out []string
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"} {
		if f&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, ",")
}

var icmpNames = map[string]map[byte]string{
	"icmp": {0: "echo-reply", 3: "destination-unreachable", 5: "redirect", 8: "echo-request", 11: "time-exceeded", 12: "parameter-problem"},
	"icmpv6": {1: "destination-unreachable", 2: "packet-too-big", 3: "time-exceeded", 4: "parameter-problem", 128: "echo-request", 129: "echo-reply",
		130: "listener-query", 131: "listener-report", 133: "router-solicit", 134: "router-advert", 135: "neighbour-solicit", 136: "neighbour-advert", 143: "listener-report-v2"},
}

func icmpType(proto string, typ, code byte) string {
	s := icmpNames[proto][typ]
	if s == "" {
		s = "type-" + strconv.Itoa(int(typ))
	}
	if code != 0 {
		s += "/" + strconv.Itoa(int(code))
	}
	return s
}
