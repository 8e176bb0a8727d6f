package userspace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// sockets are a tunnel's two UDP sockets, one per family. They stay open while the network
// device goes down and up, and over into another process: what comes meanwhile waits.
type sockets struct {
	v4, v6 *net.UDPConn // nil: the host has none of the family
}

// listen opens them.
func listen(port uint16) (*sockets, error) {
	s := &sockets{}
	lc := net.ListenConfig{Control: prepare}
	for _, f := range []struct {
		network string
		conn    **net.UDPConn
	}{{"udp4", &s.v4}, {"udp6", &s.v6}} {
		pc, err := lc.ListenPacket(context.Background(), f.network, ":"+strconv.Itoa(int(port)))
		switch {
		case err == nil:
			*f.conn = pc.(*net.UDPConn)
		case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EADDRNOTAVAIL):
			// Without that family there is none of its peers either.
		case errors.Is(err, unix.EADDRINUSE):
			s.close()
			return nil, cnm.Conflict("UDP port %d, for encrypted tunnels, is taken by another program (ss -lunp 'sport = :%d' tells which): end that, or choose another port", port, port)
		default:
			s.close()
			return nil, cnm.Errorf(cnm.ErrUnavailable, "UDP port %d, for encrypted tunnels: %w", port, err)
		}
	}
	if s.v4 == nil && s.v6 == nil {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "UDP port %d, for encrypted tunnels: this host has neither IPv4 nor IPv6", port)
	}
	return s, nil
}

// inherit makes sockets of a former process's files, which it closes.
func inherit(v4, v6 *os.File) (*sockets, error) {
	s := &sockets{}
	var errs []error
	for _, f := range []struct {
		file *os.File
		conn **net.UDPConn
	}{{v4, &s.v4}, {v6, &s.v6}} {
		if f.file == nil {
			continue
		}
		c, err := net.FilePacketConn(f.file)
		f.file.Close()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var ok bool
		if *f.conn, ok = c.(*net.UDPConn); !ok {
			c.Close()
			errs = append(errs, fmt.Errorf("a %T is no UDP socket", c))
		}
	}
	if err := errors.Join(errs...); err != nil || s.v4 == nil && s.v6 == nil {
		s.close()
		return nil, cnm.Errorf(cnm.ErrUnavailable, "the former process's sockets cannot be used: %w", err)
	}
	return s, nil
}

func (s *sockets) close() {
	for _, c := range []*net.UDPConn{s.v4, s.v6} {
		if c != nil {
			c.Close()
		}
	}
}

// socketBuffer is how many bytes a socket holds while this process does something else:
// some milliseconds at ten gigabits.
const socketBuffer = 4 << 20

// prepare sets a socket's options before it is bound.
func prepare(network, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		s := int(fd)
		// Beyond net.core.{r,w}mem_max, for who has CAP_NET_ADMIN. A smaller buffer works.
		for _, o := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE, unix.SO_RCVBUF, unix.SO_SNDBUF} {
			if v, err := unix.GetsockoptInt(s, unix.SOL_SOCKET, plainOption(o)); err != nil || v < socketBuffer {
				_ = unix.SetsockoptInt(s, unix.SOL_SOCKET, o, socketBuffer)
			}
		}
		// Packets of one stream come as one, with their size beside (udp(7)); where the
		// kernel cannot, they come one by one.
		_ = unix.SetsockoptInt(s, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		// To which of our addresses a packet came: what answers it leaves from there.
		if network == "udp6" {
			_ = unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		} else {
			_ = unix.SetsockoptInt(s, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	})
}

// plainOption is the option that tells what was forced.
func plainOption(o int) int {
	switch o {
	case unix.SO_RCVBUFFORCE:
		return unix.SO_RCVBUF
	case unix.SO_SNDBUFFORCE:
		return unix.SO_SNDBUF
	}
	return o
}
