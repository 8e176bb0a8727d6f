package ruleset

import "net/netip"

// Extensions of iptables, in nftables' rules (iptables-nft writes them) and in legacy
// ones. Their settings are C structures of linux/netfilter/xt_*.h, in the machine's
// order but for addresses and some ports.

// matcher evaluates one match: known is false when it depends on what nobody can know
// beforehand.
type matcher func(w *walker, b info, rev uint32) (ok, known bool)

func sure(ok bool) (bool, bool) { return ok, true }

func portIn(v, low, high uint16) bool { return v >= low && v <= high }

func (w *walker) xtMatch(x Match) result {
	m := matchers[x.Name]
	if m == nil {
		return w.unsure("the iptables match \"" + x.Name + "\" is not known")
	}
	ok, known := m(w, x.Info, x.Rev)
	if !known {
		return w.unsure("the iptables match \"" + x.Name + "\" cannot be known beforehand")
	}
	return truth(ok)
}

var matchers = map[string]matcher{
	"comment": func(*walker, info, uint32) (bool, bool) { return true, true },
	"tcp": func(w *walker, b info, _ uint32) (bool, bool) {
		inv := b.u8(11)
		if w.p.protoNumber() != 6 || b.u8(8) != 0 {
			return false, w.p.protoNumber() != 6
		}
		return sure(portIn(w.p.SrcPort, b.u16(0), b.u16(2)) != (inv&1 != 0) && portIn(w.p.DstPort, b.u16(4), b.u16(6)) != (inv&2 != 0) &&
			(w.p.TCPFlags&b.u8(9) == b.u8(10)) != (inv&4 != 0))
	},
	"udp": func(w *walker, b info, _ uint32) (bool, bool) {
		inv := b.u8(8)
		return sure(w.p.protoNumber() == 17 && portIn(w.p.SrcPort, b.u16(0), b.u16(2)) != (inv&1 != 0) && portIn(w.p.DstPort, b.u16(4), b.u16(6)) != (inv&2 != 0))
	},
	"sctp": func(w *walker, b info, _ uint32) (bool, bool) {
		flags, inv := b.u32(60), b.u32(64)
		ok := w.p.protoNumber() == 132 && (flags&1 == 0 || portIn(w.p.SrcPort, b.u16(4), b.u16(6)) != (inv&1 != 0)) &&
			(flags&2 == 0 || portIn(w.p.DstPort, b.u16(0), b.u16(2)) != (inv&2 != 0))
		return ok, !ok || flags&4 == 0
	},
	"icmp":      icmpMatch(1, 0xff),
	"icmp6":     icmpMatch(58, -1),
	"multiport": multiport,
	"addrtype":  addrtype,
	"conntrack": xtConntrack,
	"state": func(w *walker, b info, _ uint32) (bool, bool) {
		mask := b.u32(0)
		if w.state() == 64 {
			return sure(mask&(1<<6) != 0)
		}
		return sure(mask&w.state() != 0)
	},
	"mark": func(w *walker, b info, _ uint32) (bool, bool) {
		return sure((w.p.Mark&b.u32(4) == b.u32(0)) != (b.u8(8) != 0))
	},
	"connmark": func(w *walker, b info, _ uint32) (bool, bool) {
		if w.p.CT == nil || !w.tracked {
			return false, true
		}
		return sure((w.p.CT.Mark&b.u32(4) == b.u32(0)) != (b.u8(8) != 0))
	},
	"limit": func(w *walker, _ info, _ uint32) (bool, bool) { return sure(!w.assume(false, "a rate limit").no) },
	"hashlimit": func(w *walker, b info, rev uint32) (bool, bool) {
		mode := b.u32(16)
		if rev >= 2 {
			mode = b.u32(256)
		}
		return sure(!w.assume(mode&(1<<4) != 0, "a rate limit").no)
	},
	"connlimit": func(w *walker, b info, _ uint32) (bool, bool) {
		return sure(!w.assume(b.u32(20)&1 == 0, "a limit of connections").no)
	},
	"physdev": physdev,
	"iprange": func(w *walker, b info, _ uint32) (bool, bool) {
		f, v6 := b.u8(64), w.p.Dst.Is6()
		in := func(a netip.Addr, at int) bool {
			return a.Compare(b.addr(at, v6)) >= 0 && a.Compare(b.addr(at+16, v6)) <= 0
		}
		return sure((f&1 == 0 || in(w.p.Src, 0) != (f&16 != 0)) && (f&2 == 0 || in(w.p.Dst, 32) != (f&32 != 0)))
	},
	"owner": xtOwner,
	"mac": func(w *walker, b info, _ uint32) (bool, bool) {
		head := w.p.link()
		if head == nil {
			return false, w.p.In == ""
		}
		return sure((string(head[6:12]) == string(append([]byte(nil), b[:min(6, len(b))]...))) != (b.u32(8) != 0))
	},
	"length": func(w *walker, b info, _ uint32) (bool, bool) {
		return sure(portIn(uint16(w.p.Length), b.u16(0), b.u16(2)) != (b.u8(4) != 0))
	},
	"pkttype": func(w *walker, b info, _ uint32) (bool, bool) {
		return sure((uint32(w.p.pktType()) == b.u32(0)) != (b.u32(4) != 0))
	},
	"ttl": ttlMatch, "hl": ttlMatch,
	"dscp": func(w *walker, b info, _ uint32) (bool, bool) { return sure((b.u8(0) == 0) != (b.u8(1) != 0)) },
	"rpfilter": func(w *walker, b info, _ uint32) (bool, bool) {
		if w.env.Route == nil {
			return false, false
		}
		f := b.u8(0)
		to := w.env.Route(Packet{Dst: w.p.Src, Proto: w.p.Proto})
		ok := w.p.In == "lo" || to.Err == "" && (!to.Local || f&4 != 0) && (f&1 != 0 || to.Out == w.p.In)
		return sure(ok != (f&8 != 0))
	},
}

func ttlMatch(w *walker, b info, _ uint32) (bool, bool) {
	ttl, want := w.p.TTL, b.u8(1)
	switch b.u8(0) {
	case 0:
		return sure(ttl == want)
	case 1:
		return sure(ttl != want)
	case 2:
		return sure(ttl < want)
	}
	return sure(ttl > want)
}

func icmpMatch(proto byte, any int) matcher {
	return func(w *walker, b info, _ uint32) (bool, bool) {
		in := int(b.u8(0)) == any || w.p.ICMPType == b.u8(0) && w.p.ICMPCode >= b.u8(1) && w.p.ICMPCode <= b.u8(2)
		return sure(w.p.protoNumber() == proto && in != (b.u8(3)&1 != 0))
	}
}

func multiport(w *walker, b info, rev uint32) (bool, bool) {
	if !w.p.hasPorts() {
		return false, true
	}
	in := func(v uint16) bool {
		for i := 0; i < int(b.u8(1)) && i < 15; i++ {
			low := b.u16(2 + 2*i)
			high := low
			if rev >= 1 && b.u8(32+i) != 0 {
				i++
				high = b.u16(2 + 2*i)
			}
			if portIn(v, low, high) {
				return true
			}
		}
		return false
	}
	ok := false
	switch b.u8(0) {
	case 0:
		ok = in(w.p.SrcPort)
	case 1:
		ok = in(w.p.DstPort)
	default:
		ok = in(w.p.SrcPort) || in(w.p.DstPort)
	}
	return sure(ok != (rev >= 1 && b.u8(47) != 0))
}

func addrtype(w *walker, b info, rev uint32) (bool, bool) {
	if w.env.AddrType == nil {
		return false, false
	}
	dev, not, notDst := "", b.u32(4)&1 != 0, b.u32(4)&2 != 0
	if rev == 0 {
		not, notDst = b.u32(4) != 0, b.u32(8) != 0
	} else if b.u32(4)&4 != 0 {
		dev = w.p.In
	} else if b.u32(4)&8 != 0 {
		dev = w.p.Out
	}
	is := func(mask uint16, a netip.Addr) bool {
		for i, t := range addrTypes {
			if mask&(1<<i) != 0 && w.env.AddrType(a, dev) == t {
				return true
			}
		}
		return false
	}
	src, dst := b.u16(0), b.u16(2)
	return sure((src == 0 || is(src, w.p.Src) != not) && (dst == 0 || is(dst, w.p.Dst) != notDst))
}

// Bits of conntrack's match (xt_conntrack.h).
const (
	xtState = 1 << iota
	xtProto
	xtOrigSrc
	xtOrigDst
	xtReplSrc
	xtReplDst
	xtStatus
	xtExpires
	xtOrigSrcPort
	xtOrigDstPort
	xtReplSrcPort
	xtReplDstPort
	xtDirection
	xtStateAlias // it was written as -m state
)

func xtConntrack(w *walker, b info, rev uint32) (bool, bool) {
	flags, inv := b.u16(146), b.u16(148)
	if rev < 2 {
		return false, false
	}
	c := w.p.CT
	live := c != nil && w.tracked && !w.untracked
	if flags&xtState != 0 {
		mask, s := b.u16(150), uint16(w.state())
		if s == 64 {
			s = 256
		}
		if live && c.SNAT {
			s |= 64
		}
		if live && c.DNAT {
			s |= 128
		}
		if (mask&s != 0) == (inv&xtState != 0) {
			return false, true
		}
	}
	if !live {
		return sure(flags&^(xtState|xtStateAlias) == 0)
	}
	if flags&xtExpires != 0 {
		return false, false
	}
	if flags&xtDirection != 0 && w.p.Reply != (inv&xtDirection != 0) {
		return false, true
	}
	if flags&xtProto != 0 && (uint16(w.p.protoNumber()) == b.u16(136)) == (inv&xtProto != 0) {
		return false, true
	}
	if flags&xtStatus != 0 && (uint32(b.u16(152))&w.status() != 0) == (inv&xtStatus != 0) {
		return false, true
	}
	for i, e := range []netip.AddrPort{c.Original.Src, c.Original.Dst, c.Reply.Src, c.Reply.Dst} {
		if bit := uint16(xtOrigSrc << i); flags&bit != 0 && b.masked(e.Addr(), 32*i, 32*i+16) == (inv&bit != 0) {
			return false, true
		}
		if bit := uint16(xtOrigSrcPort << i); flags&bit != 0 {
			low, high := b.u16(138+2*i), b.u16(154+2*i)
			if rev < 3 {
				low = b.be16(138 + 2*i)
				high = low
			}
			if portIn(e.Port(), low, high) == (inv&bit != 0) {
				return false, true
			}
		}
	}
	return true, true
}

// physdev asks for a bridge's ports; without bridge-nf a packet has none.
func physdev(w *walker, b info, _ uint32) (bool, bool) {
	ops, inv := b.u8(65), b.u8(64)
	dev := func(at int, name string) bool {
		for i := range 16 {
			var c byte
			if i < len(name) {
				c = name[i]
			}
			if (c^b.u8(at+i))&b.u8(at+16+i) != 0 {
				return false
			}
		}
		return true
	}
	for _, t := range []struct {
		bit byte
		ok  bool
	}{{8, w.p.PhysIn != ""}, {16, w.p.PhysOut != ""}, {4, w.p.PhysIn != "" && w.p.PhysOut != ""},
		{1, dev(0, w.p.PhysIn)}, {2, dev(32, w.p.PhysOut)}} {
		if ops&t.bit != 0 && t.ok == (inv&t.bit != 0) {
			return false, true
		}
	}
	return true, true
}

func xtOwner(w *walker, b info, _ uint32) (bool, bool) {
	what, inv := b.u8(16), b.u8(17)
	if w.at != "output" && w.at != "postrouting" || w.p.In != "" {
		return sure(what&^inv == 0) // no socket
	}
	if what&4 != 0 && inv&4 != 0 {
		return false, true
	}
	for i, id := range []*uint32{w.p.UID, w.p.GID} {
		bit := byte(1 << i)
		if what&bit == 0 {
			continue
		}
		if id == nil {
			return false, false
		}
		if (*id >= b.u32(8*i) && *id <= b.u32(8*i+4)) == (inv&bit != 0) {
			return false, true
		}
	}
	return true, true
}
