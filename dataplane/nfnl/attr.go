package nfnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Attr appends one attribute (netlink(7): length, type, data, padding to 4 bytes).
func Attr(b []byte, typ uint16, data []byte) []byte {
	n := 4 + len(data)
	b = binary.NativeEndian.AppendUint16(b, uint16(n))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, data...)
	return append(b, make([]byte, pad4(n)-n)...)
}

// Nest appends attributes inside one.
func Nest(b []byte, typ uint16, in []byte) []byte { return Attr(b, typ|unix.NLA_F_NESTED, in) }

// Text appends a string with its end.
func Text(b []byte, typ uint16, s string) []byte { return Attr(b, typ, append([]byte(s), 0)) }

// U32 appends a number in the machine's order, as rtnetlink has them.
func U32(b []byte, typ uint16, v uint32) []byte {
	return Attr(b, typ, binary.NativeEndian.AppendUint32(nil, v))
}

// BE32 appends a number in network order, as nfnetlink has them.
func BE32(b []byte, typ uint16, v uint32) []byte {
	return Attr(b, typ, binary.BigEndian.AppendUint32(nil, v))
}

// Each walks attributes; what is torn ends the walk. typ has no flags.
func Each(b []byte, fn func(typ uint16, data []byte)) {
	ne := binary.NativeEndian
	for len(b) >= unix.SizeofRtAttr {
		n, t := int(ne.Uint16(b)), ne.Uint16(b[2:])
		if n < unix.SizeofRtAttr || n > len(b) {
			return
		}
		fn(t&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:n])
		b = b[min(pad4(n), len(b)):]
	}
}

// Str reads a string attribute, with or without its end.
func Str(data []byte) string {
	for i, c := range data {
		if c == 0 {
			return string(data[:i])
		}
	}
	return string(data)
}

// Num reads a number of 1, 2, 4 or 8 bytes in the machine's order; 0 for others.
func Num(data []byte) uint64 {
	switch len(data) {
	case 1:
		return uint64(data[0])
	case 2:
		return uint64(binary.NativeEndian.Uint16(data))
	case 4:
		return uint64(binary.NativeEndian.Uint32(data))
	case 8:
		return binary.NativeEndian.Uint64(data)
	}
	return 0
}

// BE reads a number of 1, 2, 4 or 8 bytes in network order; 0 for others.
func BE(data []byte) uint64 {
	var v uint64
	if len(data) > 8 {
		return 0
	}
	for _, c := range data {
		v = v<<8 | uint64(c)
	}
	return v
}

// Gen is the header of every nfnetlink message (nfnetlink.h: struct nfgenmsg).
func Gen(family byte, res uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, res)
}

// GenSize is its length.
const GenSize = 4
