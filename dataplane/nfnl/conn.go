// Package nfnl is a small netlink client: one socket of one network namespace, requests
// and dumps, attributes. It knows no subsystem's messages; dataplane/live and
// dataplane/tap do. It is our own because the libraries keep package state, or hide
// interrupted dumps.
package nfnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a netlink socket. It stays in the namespace of the thread that opened it
// (network_namespaces(7)). One conversation at a time; safe for concurrent use.
type Conn struct {
	mu  sync.Mutex
	fd  int
	seq uint32
	buf []byte
}

// patience bounds one wait for an answer. The kernel answers requests at once; only a
// lost answer would have us wait for ever.
const patience = 5 * time.Second

// size takes one datagram: the kernel fills at most 32 KiB of a dump (netlink_dump).
const size = 64 << 10

// Open opens a socket in the calling thread's namespace: proto is unix.NETLINK_….
func Open(proto int) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	tv := unix.NsecToTimeval(patience.Nanoseconds())
	if err := errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	return &Conn{fd: fd, seq: 1, buf: make([]byte, size)}, nil
}

// Close closes the socket.
func (c *Conn) Close() { unix.Close(c.fd) }

// FD is the descriptor, for socket options.
func (c *Conn) FD() int { return c.fd }

// Message is one netlink message.
type Message struct {
	Type  uint16
	Flags uint16
	Body  []byte // after the netlink header
}

// tries bounds the repeats of a dump that a change interrupts (NLM_F_DUMP_INTR): its
// answer may lack objects that were there all the time.
const tries = 20

// Dump sends one request and gives all answers' bodies to fn, which must copy what it
// keeps. A dump that a change interrupts is repeated, after reset.
func (c *Conn) Dump(ctx context.Context, m Message, reset func(), fn func(typ uint16, body []byte)) error {
	m.Flags |= unix.NLM_F_DUMP
	for range tries {
		reset()
		again, err := c.converse(ctx, m, fn)
		if err != nil || !again {
			return err
		}
	}
	return fmt.Errorf("the kernel's tables kept changing while they were read: %w", unix.EINTR)
}

// Do sends one request and gives the answers before its acknowledgement to fn, which
// may be nil. A refusal is the kernel's unix.Errno.
func (c *Conn) Do(ctx context.Context, m Message, fn func(typ uint16, body []byte)) error {
	m.Flags |= unix.NLM_F_ACK
	_, err := c.converse(ctx, m, fn)
	return err
}

func (c *Conn) converse(ctx context.Context, m Message, fn func(typ uint16, body []byte)) (interrupted bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seq := c.seq
	c.seq++
	if err := c.send(put(nil, m, seq)); err != nil {
		return false, err
	}
	var fail error
	for done := false; !done; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		err := c.receive(func(typ, flags uint16, got uint32, body []byte) {
			if got != seq || done {
				return
			}
			interrupted = interrupted || flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case typ == unix.NLMSG_DONE, typ == unix.NLMSG_ERROR:
				done = true
				if e := errno(body); e == unix.EINTR {
					interrupted = true
				} else if e != 0 {
					fail = e
				}
			case typ != unix.NLMSG_NOOP && fn != nil:
				fn(typ, body)
			}
		})
		if err != nil {
			return false, err
		}
	}
	return interrupted, fail
}

// Batch sends messages that the kernel takes or refuses as a whole (nfnetlink batches
// bring their own begin and end), and waits for the acknowledgement of the last that
// asks for one. The first refusal is returned.
func (c *Conn) Batch(ctx context.Context, all []Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.seq
	var b []byte
	waits := map[uint32]bool{}
	for _, m := range all {
		b = put(b, m, c.seq)
		if m.Flags&unix.NLM_F_ACK != 0 {
			waits[c.seq] = true
		}
		c.seq++
	}
	if err := c.send(b); err != nil {
		return err
	}
	var bad error
	for len(waits) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := c.receive(func(typ, _ uint16, got uint32, body []byte) {
			if typ != unix.NLMSG_ERROR || got < first {
				return
			}
			if e := errno(body); e != 0 && bad == nil {
				bad = e
			}
			// A batch that fails as a whole is answered with its first message's number.
			if !waits[got] && bad != nil {
				clear(waits)
			}
			delete(waits, got)
		})
		if err != nil {
			return err
		}
	}
	return bad
}

func put(b []byte, m Message, seq uint32) []byte {
	ne := binary.NativeEndian
	n := unix.SizeofNlMsghdr + len(m.Body)
	b = ne.AppendUint32(b, uint32(n))
	b = ne.AppendUint16(b, m.Type)
	b = ne.AppendUint16(b, m.Flags|unix.NLM_F_REQUEST)
	b = ne.AppendUint32(b, seq)
	b = ne.AppendUint32(b, 0)
	b = append(b, m.Body...)
	return append(b, make([]byte, pad4(n)-n)...)
}

func (c *Conn) send(b []byte) error {
	for {
		err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err != unix.EINTR {
			return err
		}
	}
}

func (c *Conn) receive(fn func(typ, flags uint16, seq uint32, body []byte)) error {
	n, _, err := unix.Recvfrom(c.fd, c.buf, 0)
	if err == unix.EINTR {
		return nil
	}
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	each(c.buf[:n], fn)
	return nil
}

// Messages gives a datagram's messages to fn: for sockets that only listen.
func Messages(b []byte, fn func(typ uint16, body []byte)) {
	each(b, func(typ, _ uint16, _ uint32, body []byte) { fn(typ, body) })
}

// each gives the messages of a datagram to fn.
func each(b []byte, fn func(typ, flags uint16, seq uint32, body []byte)) {
	ne := binary.NativeEndian
	for len(b) >= unix.SizeofNlMsghdr {
		l := int(ne.Uint32(b))
		if l < unix.SizeofNlMsghdr || l > len(b) {
			return
		}
		fn(ne.Uint16(b[4:]), ne.Uint16(b[6:]), ne.Uint32(b[8:]), b[unix.SizeofNlMsghdr:l])
		b = b[min(pad4(l), len(b)):]
	}
}

// errno reads the code of NLMSG_ERROR or NLMSG_DONE.
func errno(body []byte) unix.Errno {
	if len(body) < 4 {
		return 0
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
}

func pad4(n int) int { return (n + 3) &^ 3 }
