package ruleset

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Packet is what rules see. What is zero is filled with what is usual: a new
// connection's SYN, an echo request, an ephemeral source port.
type Packet struct {
	In  string `json:"in,omitempty"`  // interface it comes in at; "" for our own
	Out string `json:"out,omitempty"` // interface it leaves by, once that is known

	Src     netip.Addr `json:"src"`
	Dst     netip.Addr `json:"dst"`
	Proto   string     `json:"proto"` // "tcp", "udp", "icmp", "icmpv6", "sctp"; "arp" in the families arp and bridge
	SrcPort uint16     `json:"src_port,omitempty"`
	DstPort uint16     `json:"dst_port,omitempty"`

	ICMPType uint8  `json:"icmp_type,omitempty"`
	ICMPCode uint8  `json:"icmp_code,omitempty"`
	TCPFlags uint8  `json:"tcp_flags,omitempty"`
	Mark     uint32 `json:"mark,omitempty"`
	Length   int    `json:"length,omitempty"` // of the IP packet; 0: 60 bytes
	TTL      uint8  `json:"ttl,omitempty"`

	// State is conntrack's: "new" (or ""), "established", "related", "invalid",
	// "untracked". Translation is decided for new ones only.
	State string `json:"state,omitempty"`
	// CT is the connection that it belongs to; made for a new one, unless given.
	CT *Conntrack `json:"conntrack,omitempty"`
	// Reply: it goes from the one who was called to the caller.
	Reply bool `json:"reply,omitempty"`

	UID *uint32 `json:"uid,omitempty"` // of a local sender
	GID *uint32 `json:"gid,omitempty"`

	SrcMAC string `json:"src_mac,omitempty"`
	DstMAC string `json:"dst_mac,omitempty"`
	// PhysIn and PhysOut are a bridge's ports, when the bridge shows the packet to the IP
	// hooks (bridge-nf) or to the bridge family.
	PhysIn  string `json:"phys_in,omitempty"`
	PhysOut string `json:"phys_out,omitempty"`
}

// Tuple is one direction's ends.
type Tuple struct {
	Src netip.AddrPort `json:"src"`
	Dst netip.AddrPort `json:"dst"`
}

// Conntrack is a connection: where Reply is no mirror image of Original, addresses are
// translated.
type Conntrack struct {
	Original Tuple  `json:"original"`
	Reply    Tuple  `json:"reply"`
	Mark     uint32 `json:"mark,omitempty"`
	Zone     uint16 `json:"zone,omitempty"`
	SNAT     bool   `json:"snat,omitempty"`
	DNAT     bool   `json:"dnat,omitempty"`
}

// Family is "ip" or "ip6".
func (p Packet) Family() string {
	if p.Dst.Unmap().Is4() {
		return "ip"
	}
	return "ip6"
}

func (p Packet) tuple() Tuple {
	return Tuple{netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(p.Dst, p.DstPort)}
}

// Answer is the packet that comes back, of the connection that a walk ended with.
func (p Packet) Answer(in string) Packet {
	a := Packet{In: in, Proto: p.Proto, State: "established", Reply: true, CT: p.CT, Length: p.Length,
		Src: p.Dst, Dst: p.Src, SrcPort: p.DstPort, DstPort: p.SrcPort, SrcMAC: p.DstMAC, DstMAC: p.SrcMAC}
	if p.CT != nil {
		a.Src, a.SrcPort = p.CT.Reply.Src.Addr(), p.CT.Reply.Src.Port()
		a.Dst, a.DstPort = p.CT.Reply.Dst.Addr(), p.CT.Reply.Dst.Port()
	}
	switch p.Proto {
	case "tcp":
		a.TCPFlags = 0x12 // SYN, ACK
	case "icmp":
		a.ICMPType = 0
	case "icmpv6":
		a.ICMPType = 129
	}
	return a
}

var protoNumbers = map[string]byte{"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "sctp": 132, "udplite": 136}

func protoText(n byte) string {
	for name, v := range protoNumbers {
		if v == n {
			if n == 58 {
				return "ipv6-icmp"
			}
			return name
		}
	}
	return itoa(int(n))
}

func (p Packet) protoNumber() byte {
	if p.Proto == "icmp" && p.Family() == "ip6" || p.Proto == "ipv6-icmp" {
		return 58
	}
	return protoNumbers[p.Proto]
}

func (p Packet) hasPorts() bool {
	switch p.protoNumber() {
	case 6, 17, 33, 132, 136:
		return true
	}
	return false
}

const ephemeral = 49152 // the first of RFC 6335's dynamic ports

// usual fills what the caller left away.
func (p Packet) usual() Packet {
	p.Src, p.Dst = p.Src.Unmap().WithZone(""), p.Dst.Unmap().WithZone("")
	fresh := p.State == "" || p.State == "new"
	if p.State == "" {
		p.State = "new"
	}
	if p.hasPorts() && p.SrcPort == 0 {
		p.SrcPort = ephemeral
	}
	if p.Length == 0 {
		p.Length = 60
	}
	if p.TTL == 0 {
		p.TTL = 64
	}
	switch n := p.protoNumber(); {
	case n == 6 && p.TCPFlags == 0 && fresh:
		p.TCPFlags = 0x02
	case n == 6 && p.TCPFlags == 0:
		p.TCPFlags = 0x10
	case n == 1 && p.ICMPType == 0 && !p.Reply:
		p.ICMPType = 8
	case n == 58 && p.ICMPType == 0 && !p.Reply:
		p.ICMPType = 128
	case n == 58 && p.ICMPType == 0:
		p.ICMPType = 129
	}
	if p.CT != nil {
		c := *p.CT
		p.CT = &c
	}
	return p
}

// network builds the IP header (RFC 791, RFC 8200); checksums are left away.
func (p Packet) network() []byte {
	be := binary.BigEndian
	if p.Proto == "arp" { // RFC 826
		op := byte(1 + b2i(p.Reply))
		b := []byte{0, 1, 8, 0, 6, 4, 0, op}
		for _, end := range []struct {
			mac string
			ip  netip.Addr
		}{{p.SrcMAC, p.Src}, {p.DstMAC, p.Dst}} {
			mac, _ := net.ParseMAC(end.mac)
			b = append(append(b, append(mac, make([]byte, 6)...)[:6]...), addrBytes(end.ip, 4)...)
		}
		return b
	}
	if p.Family() == "ip" {
		b := make([]byte, 20)
		b[0], b[8], b[9] = 0x45, p.TTL, p.protoNumber()
		be.PutUint16(b[2:], uint16(p.Length))
		if p.protoNumber() == 6 {
			b[6] = 0x40 // don't fragment, as TCP does
		}
		copy(b[12:], addrBytes(p.Src, 4))
		copy(b[16:], addrBytes(p.Dst, 4))
		return b
	}
	b := make([]byte, 40)
	b[0], b[6], b[7] = 0x60, p.protoNumber(), p.TTL
	be.PutUint16(b[4:], uint16(max(p.Length-40, 0)))
	copy(b[8:], addrBytes(p.Src, 16))
	copy(b[24:], addrBytes(p.Dst, 16))
	return b
}

// transport builds the header after it, without payload.
func (p Packet) transport() []byte {
	be := binary.BigEndian
	switch p.protoNumber() {
	case 6:
		b := make([]byte, 20)
		be.PutUint16(b, p.SrcPort)
		be.PutUint16(b[2:], p.DstPort)
		b[12], b[13] = 5<<4, p.TCPFlags
		be.PutUint16(b[14:], 64240)
		return b
	case 17, 136:
		b := make([]byte, 8)
		be.PutUint16(b, p.SrcPort)
		be.PutUint16(b[2:], p.DstPort)
		be.PutUint16(b[4:], uint16(max(p.Length-28, 8)))
		return b
	case 132, 33:
		b := make([]byte, 16)
		be.PutUint16(b, p.SrcPort)
		be.PutUint16(b[2:], p.DstPort)
		b[12] = 1 // INIT
		return b
	case 1, 58:
		return []byte{p.ICMPType, p.ICMPCode, 0, 0, 0, 1, 0, 1}
	}
	return nil
}

// link builds the Ethernet header; nil when the addresses are not known.
func (p Packet) link() []byte {
	src, _ := net.ParseMAC(p.SrcMAC)
	dst, _ := net.ParseMAC(p.DstMAC)
	if len(src) != 6 || len(dst) != 6 {
		return nil
	}
	b := append(append(make([]byte, 0, 14), dst...), src...)
	return binary.BigEndian.AppendUint16(b, p.etherType())
}

func (p Packet) etherType() uint16 {
	if p.Proto == "arp" {
		return 0x0806
	}
	if p.Family() == "ip" {
		return 0x0800
	}
	return 0x86dd
}

func addrBytes(a netip.Addr, n int) []byte {
	if a.BitLen() != n*8 {
		return make([]byte, n)
	}
	return a.AsSlice()
}
