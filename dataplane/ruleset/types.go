package ruleset

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// kind is nft's number of a data type: sets tell theirs in it, six bits for each part of
// a concatenation.
type kind uint32

const (
	kindVerdict  kind = 1
	kindNFProto  kind = 2
	kindInteger  kind = 4
	kindString   kind = 5
	kindIP       kind = 7
	kindIP6      kind = 8
	kindEther    kind = 9
	kindEthType  kind = 10
	kindProto    kind = 12
	kindPort     kind = 13
	kindICMP     kind = 14
	kindTCPFlags kind = 15
	kindTime     kind = 18
	kindMark     kind = 19
	kindIfIndex  kind = 20
	kindUID      kind = 24
	kindGID      kind = 25
	kindCTState  kind = 26
	kindCTDir    kind = 27
	kindCTStatus kind = 28
	kindICMP6    kind = 29
	kindPktType  kind = 31
	kindGroup    kind = 35
	kindDSCP     kind = 36
	kindFIBType  kind = 38
	kindBool     kind = 39
	kindIfName   kind = 41

	kindHex kind = 1000 // ours: what has no better form
)

// parts splits a concatenation's kind.
func (k kind) parts() (all []kind) {
	for ; k != 0; k >>= 6 {
		all = append([]kind{k & 0x3f}, all...)
	}
	return all
}

// size of a part in bytes; 0 when the kind does not say.
func (k kind) size() int {
	switch k {
	case kindIP, kindMark, kindIfIndex, kindUID, kindGID, kindCTState, kindCTStatus, kindGroup, kindFIBType:
		return 4
	case kindIP6, kindIfName:
		return 16
	case kindEther:
		return 6
	case kindPort, kindEthType:
		return 2
	case kindProto, kindNFProto, kindICMP, kindICMP6, kindTCPFlags, kindPktType, kindDSCP, kindBool, kindCTDir:
		return 1
	case kindTime:
		return 8
	}
	return 0
}

var icmpTypes = map[byte]string{0: "echo-reply", 3: "destination-unreachable", 4: "source-quench", 5: "redirect", 8: "echo-request",
	9: "router-advertisement", 10: "router-solicitation", 11: "time-exceeded", 12: "parameter-problem", 13: "timestamp-request", 14: "timestamp-reply",
	15: "info-request", 16: "info-reply", 17: "address-mask-request", 18: "address-mask-reply"}

var icmp6Types = map[byte]string{1: "destination-unreachable", 2: "packet-too-big", 3: "time-exceeded", 4: "parameter-problem", 128: "echo-request",
	129: "echo-reply", 130: "mld-listener-query", 131: "mld-listener-report", 132: "mld-listener-done", 133: "nd-router-solicit", 134: "nd-router-advert",
	135: "nd-neighbor-solicit", 136: "nd-neighbor-advert", 137: "nd-redirect", 138: "router-renumbering", 141: "ind-neighbor-solicit",
	142: "ind-neighbor-advert", 143: "mld2-listener-report"}

type flagName struct {
	bit  uint32
	name string
}

var (
	stateNames  = []flagName{{1, "invalid"}, {8, "new"}, {2, "established"}, {4, "related"}, {64, "untracked"}}
	statusNames = []flagName{{1, "expected"}, {2, "seen-reply"}, {4, "assured"}, {8, "confirmed"}, {16, "snat"}, {32, "dnat"}, {512, "dying"}}
	tcpNames    = []flagName{{1, "fin"}, {2, "syn"}, {4, "rst"}, {8, "psh"}, {16, "ack"}, {32, "urg"}, {64, "ecn"}, {128, "cwr"}}
	dscpNames   = map[byte]string{0: "cs0", 8: "cs1", 16: "cs2", 24: "cs3", 32: "cs4", 40: "cs5", 48: "cs6", 56: "cs7", 46: "ef",
		10: "af11", 12: "af12", 14: "af13", 18: "af21", 20: "af22", 22: "af23", 26: "af31", 28: "af32", 30: "af33", 34: "af41", 36: "af42", 38: "af43"}
)

func flagNames(v uint32, names []flagName, sep string) string {
	var all []string
	for _, n := range names {
		if v&n.bit != 0 {
			all = append(all, n.name)
			v &^= n.bit
		}
	}
	if v != 0 || len(all) == 0 {
		all = append(all, fmt.Sprintf("0x%x", v))
	}
	return strings.Join(all, sep)
}

func number(b []byte) uint64 {
	var v uint64
	for _, c := range b[:min(len(b), 8)] {
		v = v<<8 | uint64(c)
	}
	return v
}

func host32(b []byte) uint32 {
	if len(b) < 4 {
		return uint32(number(b))
	}
	return binary.NativeEndian.Uint32(b)
}

// value writes one value as nft does.
func (k kind) value(b []byte) string {
	if n := k.size(); n != 0 && len(b) < n && k != kindIfName {
		return "0x" + hex.EncodeToString(b)
	}
	switch k {
	case kindIP, kindIP6:
		a, _ := netip.AddrFromSlice(b[:k.size()])
		return a.String()
	case kindEther:
		return net.HardwareAddr(b[:6]).String()
	case kindPort:
		return strconv.Itoa(int(number(b[:2])))
	case kindProto:
		return protoText(b[0])
	case kindNFProto:
		switch b[0] {
		case 2:
			return "ipv4"
		case 10:
			return "ipv6"
		}
		return itoa(int(b[0]))
	case kindEthType:
		switch n := number(b[:2]); n {
		case 0x0800:
			return "ip"
		case 0x86dd:
			return "ip6"
		case 0x0806:
			return "arp"
		case 0x8100:
			return "vlan"
		default:
			return fmt.Sprintf("0x%04x", n)
		}
	case kindMark:
		return fmt.Sprintf("0x%08x", host32(b))
	case kindIfName, kindString:
		s, _, ended := strings.Cut(string(b), "\x00")
		if !ended && len(b) < 16 && k == kindIfName {
			s += "*"
		}
		return strconv.Quote(s)
	case kindIfIndex:
		if host32(b) == 1 {
			return `"lo"`
		}
		return itoa(int(host32(b)))
	case kindUID, kindGID, kindGroup:
		if k == kindGroup && host32(b) == 0 {
			return `"default"`
		}
		return itoa(int(host32(b)))
	case kindCTState:
		return flagNames(host32(b), stateNames, ",")
	case kindCTStatus:
		return flagNames(host32(b), statusNames, ",")
	case kindTCPFlags:
		return flagNames(uint32(b[0]), tcpNames, " | ")
	case kindCTDir:
		return []string{"original", "reply"}[b[0]&1]
	case kindICMP:
		return named(icmpTypes, b[0])
	case kindICMP6:
		return named(icmp6Types, b[0])
	case kindDSCP:
		return named(dscpNames, b[0])
	case kindPktType:
		return named(map[byte]string{0: "host", 1: "broadcast", 2: "multicast", 3: "other"}, b[0])
	case kindFIBType:
		if n := host32(b); int(n) < len(addrTypes) {
			return addrTypes[n]
		}
		return itoa(int(host32(b)))
	case kindBool:
		return []string{"missing", "exists"}[b[0]&1]
	case kindTime:
		return (time.Duration(binary.NativeEndian.Uint64(b)) * time.Millisecond).String()
	case kindInteger:
		if len(b) > 8 {
			return "0x" + hex.EncodeToString(b)
		}
		return strconv.FormatUint(number(b), 10)
	}
	return "0x" + hex.EncodeToString(b)
}

func named(names map[byte]string, b byte) string {
	if n := names[b]; n != "" {
		return n
	}
	return itoa(int(b))
}

// host says that values are in the machine's order.
func (k kind) host() bool {
	switch k {
	case kindMark, kindIfIndex, kindUID, kindGID, kindCTState, kindCTStatus, kindGroup, kindFIBType:
		return true
	}
	return false
}

func (k kind) address() bool { return k == kindIP || k == kindIP6 }
