package ipam

import (
	"encoding/binary"
	"math"
	"net/netip"
)

// window is a run of addresses, addressed by their offset.
type window struct {
	base netip.Addr
	size uint64
}

// windowOf covers a prefix; of one with more than 2^63 addresses the first 2^63.
func windowOf(p netip.Prefix) window {
	host := p.Addr().BitLen() - p.Bits()
	return window{base: p.Masked().Addr(), size: 1 << min(host, 63)}
}

// offset is an address's place in the window.
func (w window) offset(a netip.Addr) (off uint64, ok bool) {
	if a.BitLen() != w.base.BitLen() {
		return 0, false
	}
	ah, al := halves(a)
	bh, bl := halves(w.base)
	if al < bl {
		ah-- // borrow
	}
	if ah != bh {
		return 0, false
	}
	off = al - bl
	return off, off < w.size
}

// at is the inverse of offset. A window never leaves its prefix, so the sum
// carries at most into the upper half.
func (w window) at(off uint64) netip.Addr {
	if w.base.Is4() {
		b := w.base.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(off))
		return netip.AddrFrom4(b)
	}
	b := w.base.As16()
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	if lo > math.MaxUint64-off {
		hi++
	}
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo+off)
	return netip.AddrFrom16(b)
}

// halves are an address as two numbers; of IPv4 the lower holds all of it.
func halves(a netip.Addr) (hi, lo uint64) {
	if a.Is4() {
		b := a.As4()
		return 0, uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// FirstHost is the first address that a host of the subnet can have, Docker's
// choice of gateway. In the smallest subnets (/31, /32, /127, /128; RFC 3021,
// RFC 6164) that is the very first.
func FirstHost(subnet netip.Prefix) netip.Addr {
	a := subnet.Masked().Addr()
	if subnet.Bits() >= a.BitLen()-1 {
		return a
	}
	return a.Next()
}
