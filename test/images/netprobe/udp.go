package main

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"unsafe"
)

// listenUDP asks the kernel for the address each datagram came to: a socket on
// a wildcard address would answer from whatever address the route prefers, and
// a client behind a NAT would not know the answer for its own (ip(7), IP_PKTINFO;
// ipv6(7), IPV6_RECVPKTINFO).
func listenUDP(ctx context.Context, addr string) (*net.UDPConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			domain, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_DOMAIN)
			if err != nil {
				failed = err
				return
			}
			if domain == syscall.AF_INET6 {
				if failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO, 1); failed != nil {
					return
				}
			}
			// On a dual-stack socket IPv4 datagrams come as mapped ones, with
			// IPV6_PKTINFO; the IPv4 option is harmless there.
			if domain == syscall.AF_INET {
				failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1)
			}
		})
		return errors.Join(err, failed)
	}}
	conn, err := config.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

func serveUDP(conn *net.UDPConn) {
	buf, oob := make([]byte, 64<<10), make([]byte, 256)
	port := addrPort(conn.LocalAddr()).Port()
	for {
		n, oobn, _, peer, err := conn.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		local, reply := arrival(oob[:oobn])
		text := append([]byte(answer(peer, netip.AddrPortFrom(local, port))), buf[:n]...)
		conn.WriteMsgUDPAddrPort(text, reply, peer)
	}
}

// arrival reads the packet info: the local address of a datagram, and the
// control message that sends the answer from it.
func arrival(oob []byte) (netip.Addr, []byte) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, nil
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == syscall.IPPROTO_IP && m.Header.Type == syscall.IP_PKTINFO && len(m.Data) >= syscall.SizeofInet4Pktinfo:
			// struct in_pktinfo: ifindex, local address of the packet, header destination.
			local := netip.AddrFrom4([4]byte(m.Data[4:8]))
			data := make([]byte, syscall.SizeofInet4Pktinfo)
			copy(data[4:8], m.Data[4:8]) // ifindex 0: the route decides
			return local, control(syscall.IPPROTO_IP, syscall.IP_PKTINFO, data)
		case m.Header.Level == syscall.IPPROTO_IPV6 && m.Header.Type == syscall.IPV6_PKTINFO && len(m.Data) >= syscall.SizeofInet6Pktinfo:
			// struct in6_pktinfo: address, ifindex.
			local := netip.AddrFrom16([16]byte(m.Data[:16]))
			data := make([]byte, syscall.SizeofInet6Pktinfo)
			copy(data[:16], m.Data[:16])
			if local.IsLinkLocalUnicast() {
				copy(data[16:20], m.Data[16:20])
			}
			return local.Unmap(), control(syscall.IPPROTO_IPV6, syscall.IPV6_PKTINFO, data)
		}
	}
	return netip.Addr{}, nil
}

// control lays out one control message (cmsg(3)).
func control(level, kind int32, data []byte) []byte {
	b := make([]byte, syscall.CmsgSpace(len(data)))
	if unsafe.Sizeof(uintptr(0)) == 8 {
		binary.NativeEndian.PutUint64(b, uint64(syscall.CmsgLen(len(data))))
	} else {
		binary.NativeEndian.PutUint32(b, uint32(syscall.CmsgLen(len(data))))
	}
	binary.NativeEndian.PutUint32(b[syscall.SizeofCmsghdr-8:], uint32(level))
	binary.NativeEndian.PutUint32(b[syscall.SizeofCmsghdr-4:], uint32(kind))
	copy(b[syscall.CmsgLen(0):], data)
	return b
}
