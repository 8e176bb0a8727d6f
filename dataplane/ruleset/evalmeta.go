package ruleset

import (
	"encoding/binary"
	"net/netip"
	"strings"
)

// Keys of meta (enum nft_meta_keys).
const (
	metaLen      = 0
	metaProtocol = 1
	metaPriority = 2
	metaMark     = 3
	metaIIF      = 4
	metaOIF      = 5
	metaIIFName  = 6
	metaOIFName  = 7
	metaIIFType  = 8
	metaOIFType  = 9
	metaUID      = 10
	metaGID      = 11
	metaTrace    = 12
	metaNFProto  = 15
	metaL4Proto  = 16
	metaBriIn    = 17
	metaBriOut   = 18
	metaPktType  = 19
	metaIIFGroup = 21
	metaOIFGroup = 22
	metaIIFKind  = 26
	metaOIFKind  = 27
)

var ne = binary.NativeEndian

func u32(v uint32) []byte { return ne.AppendUint32(nil, v) }

func name16(s string) []byte {
	b := make([]byte, 16)
	copy(b, s)
	return b
}

// link is an interface of the packet; ok is false when the packet has none there.
func (w *walker) link(name string) (l Link, ok, known bool) {
	if name == "" {
		return l, false, true
	}
	if w.env.Link == nil {
		return l, true, false
	}
	l, ok = w.env.Link(name)
	return l, ok, ok
}

func (w *walker) meta(x Meta) result {
	if x.From != 0 {
		if x.Key == metaMark {
			b, known := w.load(x.From, 4)
			if !known {
				return w.unsure("it sets a mark that cannot be known beforehand")
			}
			w.p.Mark = ne.Uint32(b)
		}
		return match
	}
	p := &w.p
	switch x.Key {
	case metaLen:
		w.store(x.To, u32(uint32(p.Length)))
	case metaProtocol:
		w.store(x.To, binary.BigEndian.AppendUint16(nil, p.etherType()))
	case metaPriority:
		w.store(x.To, u32(0))
	case metaMark:
		w.store(x.To, u32(p.Mark))
	case metaIIFName:
		w.store(x.To, name16(p.in(w.bridged())))
	case metaOIFName:
		w.store(x.To, name16(p.out(w.bridged())))
	case metaBriIn, metaBriOut:
		at := p.In
		if x.Key == metaBriOut {
			at = p.Out
		}
		if at == "" {
			return mismatch
		}
		w.store(x.To, name16(at))
	case metaIIF, metaIIFType, metaIIFGroup, metaIIFKind:
		return w.metaLink(x, p.in(w.bridged()))
	case metaOIF, metaOIFType, metaOIFGroup, metaOIFKind:
		return w.metaLink(x, p.out(w.bridged()))
	case metaUID:
		return w.owner(x.To, p.UID)
	case metaGID:
		return w.owner(x.To, p.GID)
	case metaNFProto:
		n := byte(2)
		if p.Family() == "ip6" {
			n = 10
		}
		if w.bridged() {
			n = 7
		}
		w.store(x.To, []byte{n})
	case metaL4Proto:
		w.store(x.To, []byte{p.protoNumber()})
	case metaPktType:
		w.store(x.To, []byte{p.pktType()})
	default:
		w.unknown(x.To, 16)
	}
	return match
}

// metaLink reads what belongs to an interface.
func (w *walker) metaLink(x Meta, name string) result {
	l, ok, known := w.link(name)
	if !ok && name == "" {
		// Without an interface its number is 0; its type and group cannot be read.
		if x.Key == metaIIF || x.Key == metaOIF {
			w.store(x.To, u32(0))
			return match
		}
		return mismatch
	}
	if !known {
		w.unknown(x.To, 16)
		return match
	}
	switch x.Key {
	case metaIIF, metaOIF:
		w.store(x.To, u32(uint32(l.Index)))
	case metaIIFType, metaOIFType:
		w.store(x.To, ne.AppendUint16(nil, l.Type))
	case metaIIFGroup, metaOIFGroup:
		w.store(x.To, u32(l.Group))
	default:
		w.store(x.To, name16(l.Kind))
	}
	return match
}

// owner is the sending socket's; forwarded packets have none.
func (w *walker) owner(to Register, id *uint32) result {
	if w.at == "input" && w.p.In != "lo" && !w.fresh {
		w.unknown(to, 4) // the kernel may know the receiver already (early demux)
		return match
	}
	if w.p.In != "" && w.p.In != "lo" || w.at == "prerouting" || w.at == "forward" {
		return mismatch
	}
	if id == nil {
		w.unknown(to, 4)
		return match
	}
	w.store(to, u32(*id))
	return match
}

// bridged says that the rules of family bridge are being asked, which see ports.
func (w *walker) bridged() bool { return w.family == "bridge" }

func (p Packet) in(bridged bool) string {
	if bridged && p.PhysIn != "" {
		return p.PhysIn
	}
	return p.In
}

func (p Packet) out(bridged bool) string {
	if bridged && p.PhysOut != "" {
		return p.PhysOut
	}
	return p.Out
}

// pktType is skb->pkt_type (if_packet.h).
func (p Packet) pktType() byte {
	switch {
	case p.Dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || strings.EqualFold(p.DstMAC, "ff:ff:ff:ff:ff:ff"):
		return 1
	case p.Dst.IsMulticast():
		return 2
	}
	return 0
}

// etherTypeAt is where an Ethernet header (IEEE 802.3) says what follows.
const etherTypeAt = 12

// payload reads, or writes, bytes of a header.
func (w *walker) payload(x Payload) result {
	if x.From != 0 {
		return result{fatal: "the rule rewrites bytes of the packet"}
	}
	if w.net == nil {
		w.net, w.trans = w.p.network(), w.p.transport()
	}
	var head []byte
	switch x.Base {
	case 0:
		if head = w.p.link(); head == nil {
			if x.Offset == etherTypeAt && x.Len == 2 && w.family == "bridge" {
				// Whose addresses it has is not known, of what protocol it is, is.
				w.store(x.To, binary.BigEndian.AppendUint16(nil, w.p.etherType()))
				return match
			}
			if w.p.In == "" && w.family != "bridge" {
				return mismatch // what this host sends has no such header yet
			}
			w.unknown(x.To, int(x.Len))
			return match
		}
	case 1:
		head = w.net
	case 2:
		head = w.trans
	default:
		w.unknown(x.To, int(x.Len))
		return match
	}
	end := int(x.Offset) + int(x.Len)
	if end > len(head) || end < 0 || x.Len > 64 {
		return mismatch // as the kernel: what is not there cannot match
	}
	w.store(x.To, head[x.Offset:end])
	return match
}

// FIB's results and flags (nf_tables.h).
const (
	fibOIF     = 1
	fibOIFName = 2
	fibType    = 3

	fibSaddr   = 1
	fibDaddr   = 2
	fibMark    = 4
	fibIIF     = 8
	fibOIFFlag = 16
	fibPresent = 32
)

var addrTypes = []string{"unspec", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit"}

func (w *walker) fib(x FIB) result {
	a, dev := w.p.Dst, ""
	if x.Flags&fibSaddr != 0 {
		a = w.p.Src
	}
	if x.Flags&fibIIF != 0 {
		dev = w.p.In
	} else if x.Flags&fibOIFFlag != 0 {
		dev = w.p.Out
	}
	if x.Result == fibType {
		if w.env.AddrType == nil {
			w.unknown(x.To, 4)
			return match
		}
		kind := w.env.AddrType(a, dev)
		for i, t := range addrTypes {
			if t == kind {
				w.store(x.To, u32(uint32(i)))
				return match
			}
		}
		w.unknown(x.To, 4)
		return match
	}
	if w.env.Route == nil {
		w.unknown(x.To, 16)
		return match
	}
	q := Packet{Dst: a, Proto: w.p.Proto}
	if x.Flags&fibMark != 0 {
		q.Mark = w.p.Mark
	}
	out := ""
	if w.at == "prerouting" && w.p.In == "lo" {
		out = "lo" // nft_fib_is_loopback
	} else if to := w.env.Route(q); to.Err == "" && !to.Local && (dev == "" || to.Out == dev) {
		out = to.Out
	}
	switch {
	case x.Flags&fibPresent != 0:
		w.store(x.To, []byte{byte(b2i(out != ""))})
	case x.Result == fibOIFName:
		w.store(x.To, name16(out))
	default:
		l, _, known := w.link(out)
		if out != "" && !known {
			w.unknown(x.To, 4)
			return match
		}
		w.store(x.To, u32(uint32(l.Index)))
	}
	return match
}
