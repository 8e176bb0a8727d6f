package keeper

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A reservation is a socket that is bound and silent: the kernel DNATs the
// traffic before it would get here, and the socket keeps every other program
// from the port, and the port out of the ephemeral choice. TCP sockets do not
// listen, so that what is not DNATed gets a reset and not a connection to no one.

// bindPort binds one port. It returns -1 for a protocol that this kernel has not.
func bindPort(proto string, at netip.AddrPort) (int, error) {
	switch proto {
	case "tcp":
		return bindTCP(at)
	case "udp":
		return bindUDP(at)
	case "sctp":
		return bindSCTP(at)
	}
	return -1, unix.EPROTONOSUPPORT
}

// bindTCP binds without SO_REUSEADDR, which is exclusive against everything:
// whoever binds the port afterwards, with or without it, gets EADDRINUSE.
//
// But it is refused while connections of a former server are in TIME_WAIT. A
// server would start nevertheless, and so must a container: SO_REUSEADDR gets
// past them. That alone would not be exclusive, since another socket with
// SO_REUSEADDR could bind the same port and listen first (socket(7): addresses
// may be reused "except when there is an active listening socket"). listen()
// makes the kernel check again and close the port for reuse, and fails if
// someone else listens. Then the option is taken back and the socket stopped
// from listening; it stays bound, since the port was chosen by us
// (SOCK_BINDPORT_LOCK), and is now as exclusive and as silent as the others.
func bindTCP(at netip.AddrPort) (int, error) {
	fd, err := open(at, unix.SOCK_STREAM, unix.IPPROTO_TCP)
	if err != nil {
		return -1, err
	}
	err = unix.Bind(fd, sockaddr(at))
	if err == unix.EADDRINUSE {
		err = bindPastTimeWait(fd, at)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func bindPastTimeWait(fd int, at netip.AddrPort) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, sockaddr(at)); err != nil {
		return err
	}
	if err := unix.Listen(fd, 0); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0); err != nil {
		return err
	}
	return unix.Shutdown(fd, unix.SHUT_RDWR)
}

// bindUDP: nothing reads this socket, so its buffer is the smallest that there is:
// what reaches it (a packet that no rule took away) fills it with two or three
// datagrams, and is dropped from then on. A filter that drops all would keep these
// out too, but costs 6 KB of the kernel's memory a socket, 60 MB for a big range.
func bindUDP(at netip.AddrPort) (int, error) {
	fd, err := open(at, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
	if err != nil {
		return -1, err
	}
	if err = smallBuffer(fd); err == nil {
		err = unix.Bind(fd, sockaddr(at))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func smallBuffer(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0) // the kernel takes its minimum
}

// listenTCP binds and listens; both: the IPv6 socket takes IPv4 too. It binds as
// exclusively as bindTCP, and past TIME_WAIT as a server does. SO_REUSEADDR comes
// after listening, when it lets no one else in: connections inherit it, and only
// when they have it, theirs and a later keeper's TIME_WAIT do not stand in the way.
func listenTCP(at netip.AddrPort, both bool) (int, error) {
	fd, err := open(at, unix.SOCK_STREAM, unix.IPPROTO_TCP)
	if err != nil {
		return -1, err
	}
	if both {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(at))
	}
	if err == unix.EADDRINUSE {
		if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
			err = unix.Bind(fd, sockaddr(at))
		}
	}
	if err == nil {
		err = unix.Listen(fd, listenBacklog)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// listenUDP binds a socket that says where datagrams were sent to.
func listenUDP(at netip.AddrPort) (int, error) {
	fd, err := open(at, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
	if err != nil {
		return -1, err
	}
	if err = wantDestination(fd, at.Addr()); err == nil {
		err = unix.Bind(fd, sockaddr(at))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// bindSCTP: without SCTP in the kernel no program of this host can take the
// port either, and DNAT works all the same: there is nothing to bind, and the
// table keeps two containers apart.
func bindSCTP(at netip.AddrPort) (int, error) {
	fd, err := open(at, unix.SOCK_STREAM, unix.IPPROTO_SCTP)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, sockaddr(at)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// open makes a socket of at's family; IPv6 sockets take no IPv4.
func open(at netip.AddrPort, typ, proto int) (int, error) {
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return -1, err
	}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	return &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}
}

// at is the address of one port of a request.
func (q PortRequest) at(place int) netip.AddrPort {
	return netip.AddrPortFrom(q.Addr, q.Port+uint16(place))
}

// portError wraps the kernel's reason for one port of a request.
func portError(index int, q PortRequest, port uint16, err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return fmt.Errorf("host port %d/%s: %w", port, q.Proto, err)
	}
	return &PortError{Index: index, Proto: q.Proto, Addr: q.Addr, Port: port, Errno: int(errno)}
}
