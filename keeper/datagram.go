package keeper

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// peer is a client of a UDP forwarder, and the address that it sent to: on a
// wildcard socket the answer must come from there, or the client's kernel (or
// its NAT) will not know it. It is comparable.
type peer struct {
	client netip.AddrPort // IPv6 zones as numbers
	local  netip.Addr     // invalid: the socket has only one
}

func (p peer) String() string { return p.client.String() }

// wantDestination makes a wildcard socket report where datagrams were sent to
// (ip(7) IP_PKTINFO, RFC 3542).
func wantDestination(fd int, at netip.Addr) error {
	switch {
	case !at.IsUnspecified():
		return nil
	case at.Is4():
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
}

// receive waits for one datagram and reads it into a borrowed buffer. A datagram
// of zero bytes is one too.
func (p *chunks) receive(c syscall.RawConn) (buf *[]byte, n int, from peer, err error) {
	var rerr error
	err = c.Read(func(fd uintptr) bool {
		var oob [64]byte
		var oobn int
		var sa unix.Sockaddr
		buf = p.pool.Get().(*[]byte)
		for {
			n, oobn, _, sa, rerr = unix.Recvmsg(int(fd), *buf, oob[:], 0)
			if rerr != unix.EINTR {
				break
			}
		}
		if rerr == unix.EAGAIN {
			p.give(buf)
			buf = nil
			return false
		}
		from = peer{client: fromSockaddr(sa), local: destination(oob[:max(oobn, 0)])}
		return true
	})
	if err == nil {
		err = rerr
	}
	if err != nil {
		p.give(buf)
		return nil, 0, peer{}, err
	}
	return buf, n, from, nil
}

// answer sends a datagram to the client, from the address it had sent to.
// UDP: what cannot be sent is lost.
func (p peer) answer(c syscall.RawConn, b []byte) {
	_ = c.Write(func(fd uintptr) bool {
		err := unix.Sendmsg(int(fd), b, source(p.local), toSockaddr(p.client), 0)
		return err != unix.EAGAIN
	})
}

func fromSockaddr(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		a := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 {
			a = a.WithZone(strconv.FormatUint(uint64(sa.ZoneId), 10))
		}
		return netip.AddrPortFrom(a, uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func toSockaddr(a netip.AddrPort) unix.Sockaddr {
	sa := sockaddr(a)
	if sa6, ok := sa.(*unix.SockaddrInet6); ok {
		zone, _ := strconv.ParseUint(a.Addr().Zone(), 10, 32)
		sa6.ZoneId = uint32(zone)
	}
	return sa
}

// destination reads the address a datagram was sent to.
func destination(oob []byte) netip.Addr {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range msgs {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(m.Data[4:8])) // in_pktinfo: ifindex, spec_dst (ours), addr (the header's)
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			a := netip.AddrFrom16([16]byte(m.Data[:16]))
			if a.IsLinkLocalUnicast() {
				a = a.WithZone(strconv.FormatUint(uint64(binary.NativeEndian.Uint32(m.Data[16:20])), 10))
			}
			return a
		}
	}
	return netip.Addr{}
}

// source asks for an address to send from.
func source(local netip.Addr) []byte {
	switch {
	case !local.IsValid():
		return nil
	case local.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: local.As4()})
	}
	zone, _ := strconv.ParseUint(local.Zone(), 10, 32)
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: local.As16(), Ifindex: uint32(zone)})
}
