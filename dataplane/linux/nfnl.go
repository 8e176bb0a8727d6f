package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// nfConn is an nf_tables netlink socket of one network namespace. It stays open
// for the kernel's life: closing one waits for the deletes of earlier transactions
// to pass their RCU grace period (nft_rcv_nl_event), 3-17 ms.
//
// This is our own small client because a transaction needs what the libraries do
// not give: every message's own result, and elements read back by key.
type nfConn struct {
	mu  sync.Mutex
	fd  int
	pid uint32 // the socket's address, which the kernel names as who did it
	seq uint32
	buf []byte // for receiving; what is kept of it is copied
}

// nfReceiveTimeout bounds a wait that the kernel's synchronous answers never need.
const nfReceiveTimeout = 30 * time.Second

// nfBuffer takes one datagram: the kernel's dumps fill at most 32 KiB (netlink_dump).
const nfBuffer = 64 << 10

// newNF opens the socket in the calling thread's namespace.
func newNF() (*nfConn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open nf_tables netlink socket: %w", err)
	}
	c := &nfConn{fd: fd, seq: 1, buf: make([]byte, nfBuffer)}
	// One transaction must fit (10,000 elements are about 1 MB), and so must one
	// acknowledgement per message.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 64<<20)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	tv := unix.NsecToTimeval(nfReceiveTimeout.Nanoseconds())
	if err := errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open nf_tables netlink socket: %w", err)
	}
	if sa, err := unix.Getsockname(fd); err == nil {
		if nl, ok := sa.(*unix.SockaddrNetlink); ok {
			c.pid = nl.Pid
		}
	}
	return c, nil
}

func (c *nfConn) close() { unix.Close(c.fd) }

// nfMsg is one message of a transaction.
type nfMsg struct {
	typ   uint16 // NFT_MSG_…
	flags uint16
	fam   byte
	attrs []byte
}

// put appends the message with its headers (nfnetlink.h: struct nfgenmsg).
func (m nfMsg) put(b []byte, typ, flags uint16, seq uint32, res uint16) []byte {
	ne := binary.NativeEndian
	n := unix.SizeofNlMsghdr + 4 + len(m.attrs)
	b = ne.AppendUint32(b, uint32(n))
	b = ne.AppendUint16(b, typ)
	b = ne.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = ne.AppendUint32(b, seq)
	b = ne.AppendUint32(b, 0)
	b = append(b, m.fam, unix.NFNETLINK_V0)
	b = binary.BigEndian.AppendUint16(b, res)
	b = append(b, m.attrs...)
	return append(b, make([]byte, pad4(n)-n)...)
}

func nftType(t uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | t }

// commit sends the messages as one transaction: all or nothing.
func (c *nfConn) commit(msgs []nfMsg) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.seq
	c.seq += uint32(len(msgs)) + 2
	mark := nfMsg{}
	b := mark.put(nil, unix.NFNL_MSG_BATCH_BEGIN, 0, first, unix.NFNL_SUBSYS_NFTABLES)
	for i, m := range msgs {
		b = m.put(b, nftType(m.typ), m.flags|unix.NLM_F_ACK, first+1+uint32(i), 0)
	}
	b = mark.put(b, unix.NFNL_MSG_BATCH_END, 0, first+1+uint32(len(msgs)), unix.NFNL_SUBSYS_NFTABLES)
	if err := c.send(b); err != nil {
		return err
	}
	// The kernel has worked by now, and answers every message once; a transaction
	// that fails as a whole is answered with the first one's number instead.
	var bad error
	for answered := 0; answered < len(msgs); {
		_, err := c.receive(func(typ, _ uint16, seq uint32, data []byte) bool {
			if typ != unix.NLMSG_ERROR || seq < first || seq > first+uint32(len(msgs)) {
				return true // a leftover of an earlier, broken conversation
			}
			if e := errno(data); e != 0 && bad == nil {
				bad = e
			}
			if seq == first {
				answered = len(msgs)
			} else {
				answered++
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	return bad
}

// dump sends one request and gives every answer's attributes to fn. Interrupted
// dumps are repeated after reset.
func (c *nfConn) dump(m nfMsg, reset func(), fn func(attrs []byte)) error {
	for range dumpTries {
		reset()
		again, err := c.query(m, unix.NLM_F_DUMP, fn)
		if err != nil || !again {
			return err
		}
	}
	return fmt.Errorf("the ruleset kept changing while it was read: %w", unix.EINTR)
}

// query sends one request; interrupted says that a dump has to be repeated.
func (c *nfConn) query(m nfMsg, flags uint16, fn func(attrs []byte)) (interrupted bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seq := c.seq
	c.seq++
	if flags&unix.NLM_F_DUMP == 0 {
		flags |= unix.NLM_F_ACK
	}
	if err := c.send(m.put(nil, nftType(m.typ), m.flags|flags, seq, 0)); err != nil {
		return false, err
	}
	var fail error
	for done := false; !done; {
		_, err := c.receive(func(typ, fl uint16, got uint32, data []byte) bool {
			if got != seq {
				return true
			}
			interrupted = interrupted || fl&unix.NLM_F_DUMP_INTR != 0
			switch {
			case typ == unix.NLMSG_DONE, typ == unix.NLMSG_ERROR:
				done = true
				if e := errno(data); e == unix.EINTR {
					interrupted = true
				} else if e != 0 {
					fail = e
				}
			case len(data) >= 4:
				fn(data[4:])
			}
			return true
		})
		if err != nil {
			return false, err
		}
	}
	return interrupted, fail
}

func (c *nfConn) send(b []byte) error {
	for {
		err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err != unix.EINTR {
			return err
		}
	}
}

// receive reads one datagram and gives its messages to fn until it says stop.
func (c *nfConn) receive(fn func(typ, flags uint16, seq uint32, data []byte) bool) (int, error) {
	n, _, err := unix.Recvfrom(c.fd, c.buf, 0)
	if err == unix.EINTR {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("nf_tables netlink: %w", err)
	}
	ne := binary.NativeEndian
	for b := c.buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
		l := int(ne.Uint32(b))
		if l < unix.SizeofNlMsghdr || l > len(b) {
			break
		}
		if !fn(ne.Uint16(b[4:]), ne.Uint16(b[6:]), ne.Uint32(b[8:]), b[unix.SizeofNlMsghdr:l]) {
			break
		}
		b = b[min(pad4(l), len(b)):]
	}
	return n, nil
}

// errno reads the code of NLMSG_ERROR or NLMSG_DONE.
func errno(data []byte) unix.Errno {
	if len(data) < 4 {
		return 0
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(data)))
}

func pad4(n int) int { return (n + 3) &^ 3 }

// attr appends one attribute.
func attr(b []byte, typ uint16, data []byte) []byte {
	n := 4 + len(data)
	b = binary.NativeEndian.AppendUint16(b, uint16(n))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, data...)
	return append(b, make([]byte, pad4(n)-n)...)
}

func nested(b []byte, typ uint16, data []byte) []byte { return attr(b, typ|unix.NLA_F_NESTED, data) }

func text(b []byte, typ uint16, s string) []byte { return attr(b, typ, append([]byte(s), 0)) }

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
