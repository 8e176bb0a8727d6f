// Package tap listens to what passes through a kernel: what rules log (NFLOG),
// conntrack's changes, and frames at an interface. It is reading.Tap for Linux; it
// leaves nothing behind, since all that it makes in the kernel ends with its sockets.
package tap

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/reading"
	"linkspan/netns"
)

// Config of a Tap.
type Config struct {
	// FlowOf decodes a conntrack message with its nfnetlink header (live.FlowOf).
	FlowOf func(body []byte) (reading.Flow, bool)
}

// Tap listens in this kernel. Its zero value cannot follow conntrack.
type Tap struct{ cfg Config }

// New makes one.
func New(c Config) *Tap { return &Tap{c} }

var _ reading.Tap = (*Tap)(nil)

// within runs fn in the namespace; "" is the caller's own.
func within(ns string, fn func() error) error {
	if ns == "" {
		return fn()
	}
	return netns.Do(ns, fn)
}

// listener is a socket that a context ends.
type listener struct {
	file *os.File
	raw  interface {
		Read(func(fd uintptr) bool) error
	}
}

// listen opens a socket in the namespace and sets it up. The descriptor does not block,
// so that Go's poller waits for it and a context can end the wait.
func listen(ns, what string, family, typ, proto int, setup func(fd int) error) (*listener, error) {
	var fd int
	err := within(ns, func() (err error) {
		fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: open socket: %w", what, err)
	}
	if err := setup(fd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	f := os.NewFile(uintptr(fd), what)
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return &listener{f, raw}, nil
}

// bufferSize takes one datagram: the kernel batches up to a page or, of dumps, 32 KiB.
const bufferSize = 64 << 10

// messages gives fn each datagram's messages until ctx ends. overrun is called when the
// kernel had more than the socket's buffer holds (netlink(7), ENOBUFS).
func (l *listener) messages(ctx context.Context, fn func(typ, flags uint16, body []byte), after, overrun func()) error {
	defer l.file.Close()
	defer context.AfterFunc(ctx, func() { l.file.Close() })()
	buf := make([]byte, bufferSize)
	for {
		var n int
		var fail error
		err := l.raw.Read(func(fd uintptr) bool {
			n, _, fail = unix.Recvfrom(int(fd), buf, 0)
			return fail != unix.EAGAIN
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case fail == unix.ENOBUFS:
			overrun()
		case fail == unix.EINTR:
		case fail != nil:
			return fail
		default:
			split(buf[:n], fn)
			after()
		}
	}
}

// split gives the messages of a datagram to fn; what is torn ends it.
func split(b []byte, fn func(typ, flags uint16, body []byte)) {
	for len(b) >= unix.SizeofNlMsghdr {
		n := int(nfnl.Num(b[:4]))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return
		}
		fn(uint16(nfnl.Num(b[4:6])), uint16(nfnl.Num(b[6:8])), b[unix.SizeofNlMsghdr:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

// ask sends one request and waits for its acknowledgement; the socket is one of ours
// that does not listen yet.
func ask(fd int, typ uint16, body []byte) error {
	b := make([]byte, 0, 256)
	b = native32(b, uint32(unix.SizeofNlMsghdr+len(body)))
	b = native16(b, typ)
	b = native16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = native32(b, 1)
	b = native32(b, 0)
	b = append(b, body...)
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, bufferSize)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		// The kernel answers while it takes the request: there is nothing to wait for.
		if err != nil {
			return err
		}
		answered, refused := false, unix.Errno(0)
		split(buf[:n], func(typ, _ uint16, body []byte) {
			if typ == unix.NLMSG_ERROR && len(body) >= 4 {
				answered, refused = true, unix.Errno(-int32(nfnl.Num(body[:4])))
			}
		})
		if answered && refused != 0 {
			return refused
		}
		if answered {
			return nil
		}
	}
}

// receiveBuffer is how much the kernel keeps for us while we are busy; it is used only
// as far as needed.
const receiveBuffer = 4 << 20

func bind(fd int, groups ...int) error {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range groups {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g))
	}
	return err
}

// linkName asks for an interface's name in the socket's namespace (netdevice(7)); ""
// when it is gone.
func linkName(fd int, index uint32) string {
	if index == 0 {
		return ""
	}
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return ""
	}
	ifr.SetUint32(index)
	if unix.IoctlIfreq(fd, unix.SIOCGIFNAME, ifr) != nil {
		return ""
	}
	return ifr.Name()
}
