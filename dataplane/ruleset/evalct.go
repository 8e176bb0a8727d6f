package ruleset

import (
	"encoding/binary"
	"net/netip"
)

// Keys of ct (enum nft_ct_keys).
const (
	ctState    = 0
	ctDir      = 1
	ctStatus   = 2
	ctMark     = 3
	ctL3Proto  = 7
	ctSrc      = 8
	ctDst      = 9
	ctProto    = 10
	ctProtoSrc = 11
	ctProtoDst = 12
	ctZone     = 17
	ctSrcIP    = 19
	ctDstIP    = 20
	ctSrcIP6   = 21
	ctDstIP6   = 22
)

// states are bits of ct state (NF_CT_STATE_BIT).
var states = map[string]uint32{"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}

// Bits of ct status (nf_conntrack_common.h).
const (
	statusSeenReply = 1 << 1
	statusAssured   = 1 << 2
	statusConfirmed = 1 << 3
	statusSNAT      = 1 << 4
	statusDNAT      = 1 << 5
	statusSNATDone  = 1 << 7
	statusDNATDone  = 1 << 8
)

func (w *walker) state() uint32 {
	switch {
	case w.untracked:
		return states["untracked"]
	case !w.tracked && w.p.State != "untracked":
		return states["invalid"] // conntrack has not seen it yet
	}
	return states[w.p.State]
}

func (w *walker) status() (s uint32) {
	c := w.p.CT
	if c.SNAT {
		s |= statusSNAT
	}
	if c.DNAT {
		s |= statusDNAT
	}
	if w.sourceDone || !w.fresh {
		s |= statusSNATDone
	}
	if w.destDone || !w.fresh {
		s |= statusDNATDone
	}
	if !w.fresh {
		s |= statusConfirmed | statusSeenReply
	}
	return s
}

func (w *walker) conntrack(x CT) result {
	if x.From != 0 {
		if x.Key == ctMark && w.p.CT != nil && w.tracked {
			b, known := w.load(x.From, 4)
			if !known {
				return w.unsure("it sets a mark that cannot be known beforehand")
			}
			w.own().Mark = ne.Uint32(b)
		}
		return match
	}
	if x.Key == ctState {
		w.store(x.To, u32(w.state()))
		return match
	}
	c := w.p.CT
	if c == nil || !w.tracked || w.untracked {
		return mismatch
	}
	t := c.Original
	if x.Dir == 1 {
		t = c.Reply
	}
	port := func(v uint16) result {
		w.store(x.To, binary.BigEndian.AppendUint16(nil, v))
		return match
	}
	addr := func(a netip.Addr) result {
		w.store(x.To, a.AsSlice())
		return match
	}
	switch x.Key {
	case ctDir:
		w.store(x.To, []byte{byte(b2i(w.p.Reply))})
	case ctStatus:
		w.store(x.To, u32(w.status()))
	case ctMark:
		w.store(x.To, u32(c.Mark))
	case ctL3Proto:
		n := byte(2)
		if w.p.Family() == "ip6" {
			n = 10
		}
		w.store(x.To, []byte{n})
	case ctProto:
		w.store(x.To, []byte{w.p.protoNumber()})
	case ctSrc, ctSrcIP, ctSrcIP6:
		return addr(t.Src.Addr())
	case ctDst, ctDstIP, ctDstIP6:
		return addr(t.Dst.Addr())
	case ctProtoSrc:
		return port(t.Src.Port())
	case ctProtoDst:
		return port(t.Dst.Port())
	case ctZone:
		w.store(x.To, ne.AppendUint16(nil, c.Zone))
	default:
		w.unknown(x.To, 16)
	}
	return match
}

// nat evaluates snat, dnat, masquerade and redirect.
func (w *walker) nat(e Expr) result {
	if w.p.State == "untracked" || w.untracked {
		return give("accept")
	}
	var t translation
	var note, cannot string
	ports := func(low, high Register) (doubt bool) {
		if low == 0 {
			return false
		}
		l, known := w.load(low, 2)
		h, also := l, known
		if high != 0 && high != low {
			h, also = w.load(high, 2)
		}
		t.hasPort, t.port, t.end = true, binary.BigEndian.Uint16(l), binary.BigEndian.Uint16(h)
		return !known || !also
	}
	doubt := false
	switch x := e.(type) {
	case NAT:
		// A rule of the other family does nothing (nft_nat_inet_eval).
		if f := families[byte(x.Family)]; f != "inet" && f != w.p.Family() {
			return match
		}
		t.dest = x.Dest
		t.netmap = x.Flags&(1<<6) != 0
		if x.Addr != 0 {
			n := w.p.Dst.BitLen() / 8
			l, known := w.load(x.Addr, n)
			h, also := l, known
			if x.AddrMax != 0 {
				h, also = w.load(x.AddrMax, n)
			}
			doubt = !known || !also
			t.low, _ = netip.AddrFromSlice(l)
			t.high, _ = netip.AddrFromSlice(h)
		}
		doubt = ports(x.Port, x.PortMax) || doubt
		if !doubt {
			note = w.setup(t)
		}
	case Masq:
		if doubt = ports(x.Port, x.PortMax); !doubt {
			note, cannot = w.masquerade(t)
		}
	case Redir:
		t.dest = true
		if doubt = ports(x.Port, x.PortMax); !doubt {
			note, cannot = w.redirect(t)
		}
	}
	switch {
	case doubt:
		return result{fatal: "the address it translates to cannot be known beforehand"}
	case cannot != "":
		return result{verdict: &Verdict{Code: "drop"}, note: cannot}
	}
	return result{verdict: &Verdict{Code: "accept"}, note: note}
}
