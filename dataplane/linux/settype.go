package linux

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// setInfo is a named set or map of a table, as the kernel tells it.
type setInfo struct {
	name               string
	flags              uint32
	keyType, dataType  uint32
	keyLen, dataLength uint32
}

// nftSetConcat is NFT_SET_CONCAT (nf_tables.h, since 5.6).
const nftSetConcat = 0x80

// interval says that the set's elements are starts and ends; each, that they are
// intervals of every field of a concatenation.
func (s setInfo) interval() bool {
	return s.flags&unix.NFT_SET_INTERVAL != 0 && s.flags&nftSetConcat == 0
}
func (s setInfo) each() bool {
	return s.flags&unix.NFT_SET_INTERVAL != 0 && s.flags&nftSetConcat != 0
}

// ours says that the set holds elements which the engine declares: not an
// anonymous one of a rule, and not the page's own marks.
func (s setInfo) holdsElements() bool {
	return s.flags&(unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT) == 0 && s.name != checksums && !strings.HasPrefix(s.name, marker)
}

func (s setInfo) describe() string {
	return fmt.Sprintf("%s %x %d %d %d %d", s.name, s.flags, s.keyType, s.keyLen, s.dataType, s.dataLength)
}

// dtype is how nft prints one field. The numbers are nft's own, kept by the
// kernel for user space (nftables, include/datatype.h, enum datatypes); six bits
// each in a concatenation.
type dtype struct {
	size int // bytes, before padding
	text func([]byte) string
}

var dtypes = map[uint32]dtype{
	2: {1, func(b []byte) string { return map[byte]string{2: "ipv4", 10: "ipv6"}[b[0]] }},
	// Of integers the set says no size; ours are the VNIs of 24 bits in page.nft.
	4:  {3, func(b []byte) string { return fmt.Sprintf("0x%x", uint32(b[0])<<16|uint32(b[1])<<8|uint32(b[2])) }},
	7:  {4, ipText},
	8:  {16, ipText},
	9:  {6, func(b []byte) string { return net.HardwareAddr(b).String() }},
	12: {1, protoText},
	13: {2, func(b []byte) string { return fmt.Sprint(binary.BigEndian.Uint16(b)) }},
	19: {4, func(b []byte) string { return fmt.Sprintf("0x%08x", binary.NativeEndian.Uint32(b)) }},
	41: {16, func(b []byte) string { return fmt.Sprintf("%q", unix.ByteSliceToString(b)) }},
}

const typeBits = 6

// fieldsOf splits a concatenated type into its fields.
func fieldsOf(typ uint32) (out []uint32) {
	for ; typ != 0; typ >>= typeBits {
		out = append([]uint32{typ & (1<<typeBits - 1)}, out...)
	}
	return out
}

// textOf renders raw set data in nft's syntax; what it does not know is hex.
func textOf(typ uint32, raw []byte) string {
	var parts []string
	b := raw
	for _, f := range fieldsOf(typ) {
		d, ok := dtypes[f]
		if !ok || len(b) < d.size {
			return fmt.Sprintf("0x%x", raw)
		}
		parts = append(parts, d.text(b[:d.size]))
		b = b[min(pad4(d.size), len(b)):]
	}
	return strings.Join(parts, " . ")
}

// prefixesText renders a key whose fields are intervals: prefixes, where they are.
func prefixesText(typ uint32, first, last []byte) string {
	var parts []string
	for _, f := range fieldsOf(typ) {
		d, ok := dtypes[f]
		if !ok || len(first) < d.size || len(last) < d.size {
			return fmt.Sprintf("0x%x-0x%x", first, last)
		}
		if p, ok := prefixOf(first[:d.size], last[:d.size]); ok && (f == typeIPv4 || f == typeIPv6) {
			parts = append(parts, p.String())
		} else {
			parts = append(parts, d.text(first[:d.size])+"-"+d.text(last[:d.size]))
		}
		n := min(pad4(d.size), len(first), len(last))
		first, last = first[n:], last[n:]
	}
	return strings.Join(parts, " . ")
}

func ipText(b []byte) string {
	a, _ := netip.AddrFromSlice(b)
	return a.String()
}

func protoText(b []byte) string {
	for name, n := range protocols {
		if n == b[0] {
			return name
		}
	}
	return fmt.Sprint(b[0])
}

// isAddr and friends pick fields of published ports.
const (
	typeIPv4, typeIPv6      = 7, 8
	typeProto, typePort     = 12, 13
	typeVerdict             = 0xffffff00 // NFT_DATA_VERDICT
	protoAndPort        int = 8          // bytes: two padded fields
)
