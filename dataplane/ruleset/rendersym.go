package ruleset

import (
	"fmt"
	"strings"
)

// symbol is what a register holds, in words.
type symbol struct {
	text string
	kind kind
	len  int // bytes
	full int // of the whole field, when only its beginning was loaded (a prefix)
	// A masked value, compared afterwards.
	mask, xor []byte
	value     []byte // a constant
	mapped    bool   // the data of a map: several registers are one text
	at        int    // its first word
	swapped   bool   // in network order instead of the machine's
	implies   string // what its name says of what was compared before, see imply
}

type field struct {
	offset, len uint32
	name        string
	kind        kind
}

var networkFields = map[string][]field{
	"ip": {{0, 1, "version", kindInteger}, {1, 1, "dscp", kindHex}, {2, 2, "length", kindInteger}, {4, 2, "id", kindInteger}, {6, 2, "frag-off", kindHex},
		{8, 1, "ttl", kindInteger}, {9, 1, "protocol", kindProto}, {10, 2, "checksum", kindInteger}, {12, 4, "saddr", kindIP}, {16, 4, "daddr", kindIP}},
	"ip6": {{4, 2, "length", kindInteger}, {6, 1, "nexthdr", kindProto}, {7, 1, "hoplimit", kindInteger}, {8, 16, "saddr", kindIP6}, {24, 16, "daddr", kindIP6}},
	"arp": {{0, 2, "htype", kindInteger}, {2, 2, "ptype", kindEthType}, {6, 2, "operation", kindInteger}, {8, 6, "saddr ether", kindEther}, {14, 4, "saddr ip", kindIP},
		{18, 6, "daddr ether", kindEther}, {24, 4, "daddr ip", kindIP}},
}

var transportFields = map[string][]field{
	"tcp": {{0, 2, "sport", kindPort}, {2, 2, "dport", kindPort}, {4, 4, "sequence", kindInteger}, {8, 4, "ackseq", kindInteger}, {13, 1, "flags", kindTCPFlags},
		{14, 2, "window", kindInteger}},
	"udp":       {{0, 2, "sport", kindPort}, {2, 2, "dport", kindPort}, {4, 2, "length", kindInteger}},
	"sctp":      {{0, 2, "sport", kindPort}, {2, 2, "dport", kindPort}, {4, 4, "vtag", kindHex}},
	"th":        {{0, 2, "sport", kindPort}, {2, 2, "dport", kindPort}},
	"icmp":      {{0, 1, "type", kindICMP}, {1, 1, "code", kindInteger}, {4, 2, "id", kindInteger}, {6, 2, "sequence", kindInteger}},
	"ipv6-icmp": {{0, 1, "type", kindICMP6}, {1, 1, "code", kindInteger}, {4, 2, "id", kindInteger}, {6, 2, "sequence", kindInteger}},
}

var linkFields = []field{{0, 6, "ether daddr", kindEther}, {6, 6, "ether saddr", kindEther}, {12, 2, "ether type", kindEthType}}

// payloadSymbol names what a payload expression reads.
func (w *writer) payloadSymbol(x Payload) (s symbol) {
	s = symbol{kind: kindHex, len: int(x.Len)}
	pick := func(prefix string, fields []field) bool {
		for _, f := range fields {
			if f.offset != x.Offset || x.Len > f.len || x.Len < f.len && !f.kind.address() {
				continue
			}
			s.text, s.kind = strings.TrimSpace(prefix+" "+f.name), f.kind
			if x.Len < f.len {
				s.full = int(f.len)
			}
			return true
		}
		return false
	}
	switch x.Base {
	case 0:
		if pick("", linkFields) {
			return s
		}
		s.text = fmt.Sprintf("@ll,%d,%d", x.Offset*8, x.Len*8)
	case 1:
		l3 := w.l3
		if l3 == "" && x.Offset == 9 {
			l3 = "ip"
		}
		if pick(l3, networkFields[l3]) {
			s.implies = "3"
			return s
		}
		s.text = fmt.Sprintf("@nh,%d,%d", x.Offset*8, x.Len*8)
	default:
		l4 := w.l4
		if l4 == "" {
			l4 = "th"
		}
		name := l4
		if l4 == "ipv6-icmp" {
			name = "icmpv6"
		}
		if pick(name, transportFields[l4]) {
			switch l4 {
			case "icmp", "ipv6-icmp":
				s.implies = "34"
			case "th":
			default:
				s.implies = "4"
			}
			return s
		}
		s.text = fmt.Sprintf("@th,%d,%d", x.Offset*8, x.Len*8)
	}
	return s
}

var metaSymbols = map[uint32]symbol{
	metaLen: {text: "meta length", kind: kindGroup, len: 4}, metaProtocol: {text: "meta protocol", kind: kindEthType, len: 2},
	metaPriority: {text: "meta priority", kind: kindHex, len: 4}, metaMark: {text: "meta mark", kind: kindMark, len: 4},
	metaIIF: {text: "iif", kind: kindIfIndex, len: 4}, metaOIF: {text: "oif", kind: kindIfIndex, len: 4},
	metaIIFName: {text: "iifname", kind: kindIfName, len: 16}, metaOIFName: {text: "oifname", kind: kindIfName, len: 16},
	metaIIFType: {text: "iiftype", kind: kindHex, len: 2}, metaOIFType: {text: "oiftype", kind: kindHex, len: 2},
	metaUID: {text: "meta skuid", kind: kindUID, len: 4}, metaGID: {text: "meta skgid", kind: kindGID, len: 4},
	metaNFProto: {text: "meta nfproto", kind: kindNFProto, len: 1}, metaL4Proto: {text: "meta l4proto", kind: kindProto, len: 1},
	metaBriIn: {text: "meta ibrname", kind: kindIfName, len: 16}, metaBriOut: {text: "meta obrname", kind: kindIfName, len: 16},
	metaPktType: {text: "meta pkttype", kind: kindPktType, len: 1}, metaTrace: {text: "meta nftrace", kind: kindInteger, len: 1},
	metaIIFGroup: {text: "iifgroup", kind: kindGroup, len: 4}, metaOIFGroup: {text: "oifgroup", kind: kindGroup, len: 4},
	metaIIFKind: {text: "meta iifkind", kind: kindString, len: 16}, metaOIFKind: {text: "meta oifkind", kind: kindString, len: 16},
	23: {text: "meta cgroup", kind: kindGroup, len: 4}, 20: {text: "meta cpu", kind: kindGroup, len: 4}, 13: {text: "rtclassid", kind: kindHex, len: 4},
}

func metaSymbol(x Meta) symbol {
	if s, ok := metaSymbols[x.Key]; ok {
		return s
	}
	return symbol{text: fmt.Sprintf("meta key-%d", x.Key), kind: kindHex, len: 4}
}

var ctNames = map[uint32]symbol{ctState: {text: "state", kind: kindCTState, len: 4}, ctDir: {text: "direction", kind: kindCTDir, len: 1},
	ctStatus: {text: "status", kind: kindCTStatus, len: 4}, ctMark: {text: "mark", kind: kindMark, len: 4}, 5: {text: "expiration", kind: kindGroup, len: 4},
	6: {text: "helper", kind: kindString, len: 16}, ctL3Proto: {text: "l3proto", kind: kindNFProto, len: 1}, ctProto: {text: "protocol", kind: kindProto, len: 1},
	ctProtoSrc: {text: "proto-src", kind: kindPort, len: 2}, ctProtoDst: {text: "proto-dst", kind: kindPort, len: 2}, ctZone: {text: "zone", kind: kindHex, len: 2},
	ctSrcIP: {text: "ip saddr", kind: kindIP, len: 4}, ctDstIP: {text: "ip daddr", kind: kindIP, len: 4}, ctSrcIP6: {text: "ip6 saddr", kind: kindIP6, len: 16},
	ctDstIP6: {text: "ip6 daddr", kind: kindIP6, len: 16}, 13: {text: "label", kind: kindHex, len: 16}, 14: {text: "packets", kind: kindHex, len: 8},
	15: {text: "bytes", kind: kindHex, len: 8}, 16: {text: "avgpkt", kind: kindHex, len: 8}}

func ctSymbol(x CT) symbol {
	s, ok := ctNames[x.Key]
	if !ok {
		s = symbol{text: fmt.Sprintf("key-%d", x.Key), kind: kindHex, len: 4}
	}
	switch x.Dir {
	case 0:
		s.text = "original " + s.text
	case 1:
		s.text = "reply " + s.text
	}
	s.text = "ct " + s.text
	return s
}

func fibSymbol(x FIB) symbol {
	var keys []string
	for _, f := range []flagName{{fibSaddr, "saddr"}, {fibDaddr, "daddr"}, {fibMark, "mark"}, {fibIIF, "iif"}, {fibOIFFlag, "oif"}} {
		if x.Flags&f.bit != 0 {
			keys = append(keys, f.name)
		}
	}
	s := symbol{text: "fib " + strings.Join(keys, " . "), len: 4}
	switch {
	case x.Result == fibType:
		s.text, s.kind = s.text+" type", kindFIBType
	case x.Flags&fibPresent != 0:
		s.text, s.kind, s.len = s.text+" oif", kindBool, 1
	case x.Result == fibOIFName:
		s.text, s.kind, s.len = s.text+" oifname", kindIfName, 16
	default:
		s.text, s.kind = s.text+" oif", kindIfIndex
	}
	return s
}
