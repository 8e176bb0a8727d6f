package live

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// shooter is the socket that sends a probe's packet.
type shooter struct {
	fd    int
	proto byte
	port  uint16 // its source port, or the identifier of an echo request
	p     Probe
}

// newShooter opens it in the calling thread's namespace, bound but silent.
func newShooter(p Probe) (s *shooter, err error) {
	s = &shooter{p: p, proto: protocols[p.Proto]}
	fam := int(family(p.Dst.Addr()))
	typ, proto := 0, 0
	switch p.Proto {
	case "tcp":
		typ = unix.SOCK_STREAM
	case "udp":
		typ = unix.SOCK_DGRAM
	case "icmp":
		if typ, proto = unix.SOCK_RAW, unix.IPPROTO_ICMP; fam == unix.AF_INET6 {
			proto, s.proto = unix.IPPROTO_ICMPV6, unix.IPPROTO_ICMPV6
		}
	default:
		return nil, fmt.Errorf("%q packets cannot be sent; tcp, udp and icmp can", p.Proto)
	}
	if s.fd, err = unix.Socket(fam, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto); err != nil {
		return nil, err
	}
	if fam == unix.AF_INET6 {
		err = unix.SetsockoptInt(s.fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
	} else {
		err = unix.SetsockoptInt(s.fd, unix.SOL_IP, unix.IP_RECVERR, 1)
	}
	if err == nil {
		err = unix.Bind(s.fd, sockaddr(netip.AddrPortFrom(p.Src, 0)))
	}
	if err == nil {
		s.port, err = s.name()
	}
	if err != nil {
		unix.Close(s.fd)
		return nil, err
	}
	return s, nil
}

// name is the port that the kernel chose.
func (s *shooter) name() (uint16, error) {
	if s.p.Proto == "icmp" {
		return uint16(1 + rand.IntN(0xffff)), nil
	}
	a, err := unix.Getsockname(s.fd)
	if err != nil {
		return 0, err
	}
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port), nil
	case *unix.SockaddrInet6:
		return uint16(a.Port), nil
	}
	return 0, errors.New("the socket has no port")
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// close resets a connection that was made, so that its server does not wait.
func (s *shooter) close() {
	_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(s.fd)
}

// shoot sends the packet and waits for what comes back.
func (s *shooter) shoot(ctx context.Context, out *Probed) {
	to := s.p.Dst
	if s.p.Proto == "icmp" {
		to = netip.AddrPortFrom(to.Addr(), 0)
	}
	err := unix.Connect(s.fd, sockaddr(to))
	if err == nil && s.p.Proto != "tcp" {
		_, err = unix.Write(s.fd, s.payload())
	}
	if no, ok := err.(unix.Errno); ok && no != unix.EINPROGRESS {
		s.refused(no, out)
		return
	}
	for end := time.Now().Add(s.p.Wait); time.Now().Before(end) && ctx.Err() == nil; {
		fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
		if s.p.Proto == "tcp" {
			fds[0].Events = unix.POLLOUT
		}
		n, err := unix.Poll(fds, int(max(time.Until(end).Milliseconds(), 1)))
		if n == 0 || err != nil {
			continue
		}
		no, _ := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case no != 0:
			s.refused(unix.Errno(no), out)
			return
		case fds[0].Revents&unix.POLLERR != 0:
			if s.icmp(out) {
				return
			}
			continue
		case s.p.Proto == "tcp":
			out.Heard, out.Answered = "SYN-ACK", true
			return
		case s.answered(out):
			return
		}
	}
	if ctx.Err() != nil {
		out.Heard = "nothing until the question was given up"
		return
	}
	out.Heard = fmt.Sprintf("nothing within %v", s.p.Wait)
}

// payload is UDP's, or an echo request (RFC 792, RFC 4443).
func (s *shooter) payload() []byte {
	if s.p.Proto != "icmp" {
		return s.p.Payload
	}
	b := make([]byte, 8, 32)
	b[0] = 8
	if s.proto == unix.IPPROTO_ICMPV6 {
		b[0] = 128
	}
	binary.BigEndian.PutUint16(b[4:], s.port)
	binary.BigEndian.PutUint16(b[6:], 1)
	b = append(b, "linkspan probe"...)
	if s.proto == unix.IPPROTO_ICMP { // the kernel fills ICMPv6's
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return b
}

// checksum is the Internet's (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 != 0 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// answered reads one datagram and says whether it is the answer.
func (s *shooter) answered(out *Probed) bool {
	buf := make([]byte, 2048)
	n, _, err := unix.Recvfrom(s.fd, buf, unix.MSG_DONTWAIT)
	if err != nil {
		return false
	}
	b := buf[:n]
	if s.p.Proto == "udp" {
		out.Heard, out.Answered = "an answer", true
		return true
	}
	reply := byte(129)
	if s.proto == unix.IPPROTO_ICMP { // a raw socket of IPv4 gets the IP header as well
		if len(b) < 20 || len(b) < int(b[0]&15)*4 {
			return false
		}
		b, reply = b[int(b[0]&15)*4:], 0
	}
	if len(b) >= 8 && b[0] == reply && binary.BigEndian.Uint16(b[4:]) == s.port {
		out.Heard, out.Answered = "echo reply", true
		return true
	}
	return false
}

// refused is an error of the socket; what is behind it, its error queue tells.
func (s *shooter) refused(no unix.Errno, out *Probed) {
	switch {
	case s.icmp(out):
	case no == unix.ECONNREFUSED && s.p.Proto == "tcp":
		out.Heard, out.Refused = "RST", true
	case no == unix.ECONNREFUSED:
		out.Heard, out.Refused = "ICMP port-unreachable", true
	case no == unix.EPERM:
		out.Heard = "it could not be sent: " + words(no)
	default:
		out.Heard = words(no)
	}
}

// icmp reads the socket's error queue (ip(7), IP_RECVERR).
func (s *shooter) icmp(out *Probed) bool {
	buf, oob := make([]byte, 512), make([]byte, 512)
	_, n, _, _, err := unix.Recvmsg(s.fd, buf, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err != nil {
		return false
	}
	all, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return false
	}
	for _, m := range all {
		// struct sock_extended_err: errno, origin, type, code, pad, info, data; then the
		// sender's address.
		if len(m.Data) < 16 || m.Data[4] != 2 && m.Data[4] != 3 {
			continue
		}
		typ, code := m.Data[5], m.Data[6]
		v6 := m.Data[4] == 3
		if a := m.Data[16:]; !v6 && len(a) >= 8 {
			out.From = netip.AddrFrom4([4]byte(a[4:8]))
		} else if v6 && len(a) >= 24 {
			out.From = netip.AddrFrom16([16]byte(a[8:24]))
		}
		out.Heard = fmt.Sprintf("ICMP %s from %s", icmpText(v6, typ, code), out.From)
		out.Refused = s.p.Proto == "udp" && (!v6 && typ == 3 && code == 3 || v6 && typ == 1 && code == 4)
		return true
	}
	return false
}

func icmpText(v6 bool, typ, code byte) string {
	name := map[[2]byte]string{{3, 0}: "net-unreachable", {3, 1}: "host-unreachable", {3, 2}: "protocol-unreachable", {3, 3}: "port-unreachable",
		{3, 4}: "fragmentation-needed", {3, 9}: "net-prohibited", {3, 10}: "host-prohibited", {3, 13}: "admin-prohibited", {11, 0}: "time-exceeded"}
	if v6 {
		name = map[[2]byte]string{{1, 0}: "no-route", {1, 1}: "admin-prohibited", {1, 3}: "address-unreachable", {1, 4}: "port-unreachable", {2, 0}: "packet-too-big", {3, 0}: "time-exceeded"}
	}
	if n := name[[2]byte{typ, code}]; n != "" {
		return n
	}
	return fmt.Sprintf("type %d code %d", typ, code)
}
