package ruleset

import (
	"encoding/binary"
	"net/netip"
	"strings"
)

// info reads a structure; what lies beyond its end is zero.
type info []byte

func (b info) u8(at int) byte {
	if at < len(b) {
		return b[at]
	}
	return 0
}

func (b info) u16(at int) uint16 {
	if at+2 <= len(b) {
		return binary.NativeEndian.Uint16(b[at:])
	}
	return 0
}

func (b info) be16(at int) uint16 {
	if at+2 <= len(b) {
		return binary.BigEndian.Uint16(b[at:])
	}
	return 0
}

func (b info) u32(at int) uint32 {
	if at+4 <= len(b) {
		return binary.NativeEndian.Uint32(b[at:])
	}
	return 0
}

func (b info) text(at, n int) string {
	if at >= len(b) {
		return ""
	}
	s, _, _ := strings.Cut(string(b[at:min(at+n, len(b))]), "\x00")
	return s
}

// addr reads a union nf_inet_addr.
func (b info) addr(at int, v6 bool) netip.Addr {
	n := 4
	if v6 {
		n = 16
	}
	if at+n > len(b) {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(b[at : at+n])
	return a
}

// masked compares an address under a mask.
func (b info) masked(a netip.Addr, addr, mask int) bool {
	v6 := a.Is6()
	want, m := b.addr(addr, v6), b.addr(mask, v6)
	if !want.IsValid() || !m.IsValid() {
		return false
	}
	x, y, z := a.AsSlice(), want.AsSlice(), m.AsSlice()
	for i := range x {
		if x[i]&z[i] != y[i] {
			return false
		}
	}
	return true
}
