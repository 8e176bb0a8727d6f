package userspace

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// endpoint is where a peer is, and from which of our addresses it is spoken to.
type endpoint struct {
	dst netip.AddrPort
	src netip.Addr // not valid: the kernel chooses
	// unsourced: the source was given up; the kernel chooses.
	unsourced atomic.Bool
}

var _ conn.Endpoint = (*endpoint)(nil)

func (e *endpoint) ClearSrc()           { e.unsourced.Store(true) }
func (e *endpoint) DstToString() string { return e.dst.String() }
func (e *endpoint) DstIP() netip.Addr   { return e.dst.Addr() }

// DstToBytes implements conn.Endpoint: what a cookie is bound to.
func (e *endpoint) DstToBytes() []byte {
	b, _ := e.dst.MarshalBinary()
	return b
}

// SrcIP implements conn.Endpoint.
func (e *endpoint) SrcIP() netip.Addr {
	if e.unsourced.Load() {
		return netip.Addr{}
	}
	return e.src
}

// SrcToString implements conn.Endpoint.
func (e *endpoint) SrcToString() string {
	if src := e.SrcIP(); src.IsValid() {
		return src.String()
	}
	return ""
}

// The ancillary data (cmsg(3)), which is written and read here byte by byte: ip(7),
// ipv6(7), udp(7).

var native = binary.NativeEndian

// control renders the ancillary data of one message: the source, and the size of the
// segments that it is to be cut into (0: none).
func control(b []byte, src netip.Addr, segment int) []byte {
	switch {
	case !src.IsValid():
	case src.Is4():
		a := src.As4()
		b = cmsg(b, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo, func(d []byte) {
			copy(d[4:8], a[:]) // in_pktinfo: ifindex, spec_dst, addr
		})
	default:
		a := src.As16()
		b = cmsg(b, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo, func(d []byte) {
			copy(d[:16], a[:]) // in6_pktinfo: addr, ifindex
		})
	}
	if segment > 0 {
		b = cmsg(b, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2, func(d []byte) { native.PutUint16(d, uint16(segment)) })
	}
	return b
}

func cmsg(b []byte, level, typ, size int, fill func([]byte)) []byte {
	at := len(b)
	b = append(b, make([]byte, unix.CmsgSpace(size))...)
	h := b[at:]
	if unix.SizeofCmsghdr == 16 { // 64 bits: the length is a size_t
		native.PutUint64(h, uint64(unix.CmsgLen(size)))
		h = h[8:]
	} else {
		native.PutUint32(h, uint32(unix.CmsgLen(size)))
		h = h[4:]
	}
	native.PutUint32(h, uint32(level))
	native.PutUint32(h[4:], uint32(typ))
	fill(b[at+unix.CmsgLen(0):])
	return b
}

// readControl finds the address that a message came to, and the size of the packets that
// came as one (0: it is one).
func readControl(b []byte) (dst netip.Addr, segment int) {
	for len(b) >= unix.SizeofCmsghdr {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return dst, segment
		}
		b = rest
		switch {
		case hdr.Level == unix.IPPROTO_IP && hdr.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			dst = netip.AddrFrom4([4]byte(data[4:8]))
		case hdr.Level == unix.IPPROTO_IPV6 && hdr.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			dst = netip.AddrFrom16([16]byte(data[:16]))
		case hdr.Level == unix.IPPROTO_UDP && hdr.Type == unix.UDP_GRO && len(data) >= 4:
			segment = int(native.Uint32(data)) // an int (udp(7)), not a uint16 as UDP_SEGMENT
		case hdr.Level == unix.IPPROTO_UDP && hdr.Type == unix.UDP_GRO && len(data) >= 2:
			segment = int(native.Uint16(data))
		}
	}
	return dst, segment
}
