package check

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ipHeader is what IP and UDP add to a datagram, in bytes.
func ipHeader(a netip.Addr) int {
	if a.Is6() {
		return 40 + 8
	}
	return 20 + 8
}

// dialProbe opens a socket to a target whose packets are never taken apart: they carry DF
// and are sent whatever is believed of the path (IP_PMTUDISC_PROBE, ip(7)). What routers
// say of them is kept for told.
func dialProbe(ctx context.Context, in func(func() error) error, to netip.AddrPort) (*net.UDPConn, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			if to.Addr().Is4() {
				err = setAll(int(fd), unix.IPPROTO_IP, [][2]int{{unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE}, {unix.IP_RECVERR, 1}})
			} else {
				err = setAll(int(fd), unix.IPPROTO_IPV6, [][2]int{{unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE}, {unix.IPV6_RECVERR, 1}})
			}
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	var conn net.Conn
	err := in(func() (err error) {
		conn, err = d.DialContext(ctx, "udp", to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

func setAll(fd, level int, options [][2]int) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, level, o[0], o[1]); err != nil {
			return err
		}
	}
	return nil
}

// segments bounds those of a TCP connection, both ways, in bytes.
func segments(size int) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = setAll(int(fd), unix.IPPROTO_TCP, [][2]int{{unix.TCP_MAXSEG, size}}) }); cerr != nil {
			return cerr
		}
		return err
	}
}

// told is what a router said of a packet that did not fit: its address, and what does; ok
// is false when none did. It empties the socket's queue of errors.
func told(conn *net.UDPConn) (by netip.Addr, mtu int, ok bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return by, 0, false
	}
	raw.Control(func(fd uintptr) {
		b, oob := make([]byte, 64), make([]byte, 512)
		for range 64 {
			_, n, _, _, err := unix.Recvmsg(int(fd), b, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			msgs, err := unix.ParseSocketControlMessage(oob[:n])
			if err != nil {
				return
			}
			for _, m := range msgs {
				if a, size, tells := tooBig(m); tells {
					by, mtu, ok = a, size, true
				}
			}
		}
	})
	return by, mtu, ok
}

// tooBig reads a struct sock_extended_err and the sockaddr that follows it (ip(7),
// linux/errqueue.h).
func tooBig(m unix.SocketControlMessage) (by netip.Addr, mtu int, ok bool) {
	v4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
	v6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
	const size = 16
	if !v4 && !v6 || len(m.Data) < size {
		return by, 0, false
	}
	ne := binary.NativeEndian
	origin := m.Data[4]
	if unix.Errno(ne.Uint32(m.Data)) != unix.EMSGSIZE || origin == unix.SO_EE_ORIGIN_LOCAL {
		return by, 0, false
	}
	if rest := m.Data[size:]; v4 && len(rest) >= 8 {
		by, _ = netip.AddrFromSlice(rest[4:8])
	} else if v6 && len(rest) >= 24 {
		by, _ = netip.AddrFromSlice(rest[8:24])
	}
	return by, int(ne.Uint32(m.Data[8:])), true
}

// receiver is where probes of others arrive: one socket for each family, which says of each
// datagram where it was sent to, so that the answer comes from there.
func receiver(ctx context.Context, in func(func() error) error, network string, port uint16) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			if network == "udp4" {
				// Answers are small, and may be taken apart all the same.
				err = setAll(int(fd), unix.IPPROTO_IP, [][2]int{{unix.IP_PKTINFO, 1}, {unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT}})
			} else {
				err = setAll(int(fd), unix.IPPROTO_IPV6, [][2]int{{unix.IPV6_RECVPKTINFO, 1}})
			}
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	var conn net.PacketConn
	err := in(func() (err error) {
		conn, err = lc.ListenPacket(ctx, network, net.JoinHostPort("", portText(port)))
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// from turns what a datagram says of where it was sent to into what an answer has to say
// to come from there.
func from(oob []byte) []byte {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range msgs {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= 12:
			return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[4:8])})
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 20:
			return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: [16]byte(m.Data[:16])})
		}
	}
	return nil
}

// pathOf is what TCP has learned of a connection: the path's MTU, and how many segments it
// had to send again.
func pathOf(conn net.Conn) (mtu, again int) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return 0, 0
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, 0
	}
	raw.Control(func(fd uintptr) {
		if i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			mtu, again = int(i.Pmtu), int(i.Total_retrans)
		}
	})
	return mtu, again
}

// soon is the later of now and a deadline's rest.
func soon(ctx context.Context, d time.Duration) time.Time {
	at := time.Now().Add(d)
	if end, ok := ctx.Deadline(); ok && end.Before(at) {
		return end
	}
	return at
}
