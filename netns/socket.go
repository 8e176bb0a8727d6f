package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// backlog of a resolver's listening socket; the kernel caps it (somaxconn).
const backlog = 128

// dialTimeout bounds DialIn's TCP handshake: a name server that is away.
const dialTimeout = 4 * time.Second

// ResolverSockets opens what a sandbox's resolver serves: a UDP socket and a
// listening TCP socket on addr and port inside the namespace pinned at path, and
// the namespace itself, for DialIn. All are close-on-exec; the sockets do not
// block. They belong to that namespace wherever they are used from, and keep it
// alive: whoever holds them lets go of them when the sandbox ends.
func ResolverSockets(path string, addr netip.Addr, port uint16) (udp, tcp, ns *os.File, err error) {
	ns, err = Open(path)
	if err != nil {
		return nil, nil, nil, err
	}
	at := netip.AddrPortFrom(addr.Unmap(), port)
	err = doFile(ns, func() (err error) {
		if udp, err = bound(at, unix.SOCK_DGRAM); err == nil {
			tcp, err = bound(at, unix.SOCK_STREAM)
		}
		return err
	})
	if err != nil {
		for _, f := range []*os.File{udp, tcp, ns} {
			if f != nil {
				f.Close()
			}
		}
		return nil, nil, nil, fmt.Errorf("resolver sockets on %s in network namespace %s: %w", at, path, err)
	}
	return udp, tcp, ns, nil
}

// questionBuffer is what may wait in a resolver's socket while its keeper replaces
// itself, on a busy machine some tenths of a second: 1 MiB holds 1,300 questions and
// more, and is only taken when they are there. The default holds 270.
const questionBuffer = 1 << 20

// bound makes a socket in the calling thread's namespace and binds it; a stream
// socket listens. SO_REUSEADDR: connections of a former resolver in TIME_WAIT do
// not stand in the way.
func bound(at netip.AddrPort, typ int) (*os.File, error) {
	fd, err := newSocket(at.Addr(), typ)
	if err != nil {
		return nil, err
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		err = unix.Bind(fd, sockaddr(at))
	}
	if typ == unix.SOCK_DGRAM && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, questionBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, questionBuffer) // up to net.core.rmem_max
	}
	if err == nil && typ == unix.SOCK_STREAM {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), at.String()), nil
}

// DialIn opens a connected socket inside a namespace: network is "udp" or "tcp".
// Only the making of the socket visits the namespace, on a thread that comes back
// or dies; a TCP handshake is waited for outside, for at most four seconds.
func DialIn(ns *os.File, network string, server netip.AddrPort) (net.Conn, error) {
	typ := unix.SOCK_DGRAM
	switch network {
	case "udp":
	case "tcp":
		typ = unix.SOCK_STREAM
	default:
		return nil, net.UnknownNetworkError(network)
	}
	server = netip.AddrPortFrom(server.Addr().Unmap(), server.Port())
	failed := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: addrOf(network, server), Err: err}
	}
	if !server.IsValid() {
		return failed(unix.EDESTADDRREQ)
	}
	fd := -1
	// An IPv6 zone is an interface's name, which only the namespace can tell the
	// number of.
	var to unix.Sockaddr
	err := doFile(ns, func() (err error) {
		if to, err = sockaddrIn(server); err == nil {
			fd, err = newSocket(server.Addr(), typ)
		}
		return err
	})
	if err != nil {
		return failed(err)
	}
	f := os.NewFile(uintptr(fd), server.String())
	defer f.Close() // net.FileConn has its own copy
	if err := connect(f, fd, to); err != nil {
		return failed(err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		return failed(err)
	}
	return c, nil
}

// connect connects a socket that does not block, and waits in Go's poller
// (connect(2), EINPROGRESS).
func connect(f *os.File, fd int, to unix.Sockaddr) error {
	err := unix.Connect(fd, to)
	if err != unix.EINPROGRESS && err != unix.EINTR {
		return err
	}
	if err := f.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var cerr error
	err = raw.Write(func(fd uintptr) bool {
		var errno int
		if errno, cerr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); cerr != nil {
			return true
		}
		switch e := unix.Errno(errno); e {
		case 0:
			// Written to before the handshake ended: it has no peer yet.
			_, perr := unix.Getpeername(int(fd))
			return perr == nil
		case unix.EINPROGRESS, unix.EALREADY:
			return false
		default:
			cerr = e
			return true
		}
	})
	if err != nil {
		return err
	}
	return cerr
}

func newSocket(addr netip.Addr, typ int) (int, error) {
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	return unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	return &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}
}

// sockaddrIn is sockaddr with the zone looked up in the calling thread's
// namespace.
func sockaddrIn(at netip.AddrPort) (unix.Sockaddr, error) {
	sa := sockaddr(at)
	six, ok := sa.(*unix.SockaddrInet6)
	if !ok || at.Addr().Zone() == "" {
		return sa, nil
	}
	index, err := linkIndex(at.Addr().Zone())
	six.ZoneId = index
	return sa, err
}

// linkIndex is an interface's number (netdevice(7), SIOCGIFINDEX).
func linkIndex(name string) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req)
	}
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	return req.Uint32(), nil
}

func addrOf(network string, at netip.AddrPort) net.Addr {
	if network == "tcp" {
		return net.TCPAddrFromAddrPort(at)
	}
	return net.UDPAddrFromAddrPort(at)
}
