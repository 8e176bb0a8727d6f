package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listener is a netlink socket that hears what the kernel tells everyone
// (netlink(7), multicast groups).
type listener struct {
	f    *os.File
	conn syscall.RawConn
	buf  []byte
	over atomic.Bool
}

// listenBuffer is room for what the kernel tells while nobody reads: a transaction of
// 10,000 elements is 2 MB.
const listenBuffer = 16 << 20

// newListener opens one in the calling thread's namespace.
func newListener(protocol int, groups ...int) (*listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, listenBuffer)
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen to the kernel: %w", err)
	}
	l := &listener{f: os.NewFile(uintptr(fd), "netlink"), buf: make([]byte, nfBuffer)}
	if l.conn, err = l.f.SyscallConn(); err != nil {
		l.f.Close()
		return nil, err
	}
	return l, nil
}

// close ends a receive that waits, with os.ErrClosed.
func (l *listener) close() {
	l.over.Store(true)
	l.f.Close()
}

// receive waits for one datagram, until the deadline (zero: without end), and gives its
// messages to fn. unix.ENOBUFS: something was lost.
func (l *listener) receive(deadline time.Time, fn func(h unix.NlMsghdr, data []byte)) (err error) {
	defer func() {
		if l.over.Load() {
			err = os.ErrClosed
		}
	}()
	if err := l.f.SetReadDeadline(deadline); err != nil {
		return err
	}
	var n int
	var bad error
	err = l.conn.Read(func(fd uintptr) bool {
		n, bad = l.read(int(fd))
		return !errors.Is(bad, unix.EAGAIN) && !errors.Is(bad, unix.EINTR)
	})
	if err == nil {
		err = bad
	}
	if err == nil {
		l.each(n, fn)
	}
	return err
}

// drain gives fn what has come already.
func (l *listener) drain(fn func(h unix.NlMsghdr, data []byte)) (err error) {
	for err == nil {
		var n int
		var bad error
		if err = l.conn.Control(func(fd uintptr) { n, bad = l.read(int(fd)) }); err == nil {
			err = bad
		}
		if err == nil {
			l.each(n, fn)
		}
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

// read reads one datagram without waiting; what is not the kernel's has no length.
func (l *listener) read(fd int) (int, error) {
	n, from, err := unix.Recvfrom(fd, l.buf, unix.MSG_DONTWAIT)
	if sa, ok := from.(*unix.SockaddrNetlink); err == nil && (!ok || sa.Pid != 0) {
		n = 0
	}
	return n, err
}

// each gives fn the messages of a datagram.
func (l *listener) each(n int, fn func(h unix.NlMsghdr, data []byte)) {
	ne := binary.NativeEndian
	for b := l.buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
		h := unix.NlMsghdr{Len: ne.Uint32(b), Type: ne.Uint16(b[4:]), Flags: ne.Uint16(b[6:]), Seq: ne.Uint32(b[8:]), Pid: ne.Uint32(b[12:])}
		if h.Len < unix.SizeofNlMsghdr || int(h.Len) > len(b) {
			break
		}
		fn(h, b[unix.SizeofNlMsghdr:h.Len])
		b = b[min(pad4(int(h.Len)), len(b)):]
	}
}
