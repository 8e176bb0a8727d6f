package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
)

// nfConn is an nf_tables netlink socket of one network namespace. It stays open
// for the kernel's life: closing one waits for the deletes of earlier transactions
// to pass their RCU grace period (nft_rcv_nl_event), 3-17 ms.
//
// What it asks takes no context: the kernel answers at once, and nobody wants to know
// half of a transaction's answers.
type nfConn struct {
	*nfnl.Conn
	pid uint32 // the socket's address, which the kernel names as who did it
}

// nfReceiveTimeout bounds a wait that the kernel's synchronous answers never need.
const nfReceiveTimeout = 30 * time.Second

// nfBuffer takes one datagram: the kernel's dumps fill at most 32 KiB (netlink_dump).
const nfBuffer = 64 << 10

// newNF opens the socket in the calling thread's namespace.
func newNF() (*nfConn, error) {
	conn, err := nfnl.Open(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("nf_tables: %w", err)
	}
	c := &nfConn{Conn: conn}
	// One transaction must fit (10,000 elements are about 1 MB), and so must one
	// acknowledgement per message.
	_ = unix.SetsockoptInt(c.FD(), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 64<<20)
	_ = unix.SetsockoptInt(c.FD(), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	tv := unix.NsecToTimeval(nfReceiveTimeout.Nanoseconds())
	sa, err := unix.Getsockname(c.FD())
	if err := errors.Join(err, unix.SetsockoptTimeval(c.FD(), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)); err != nil {
		c.Close()
		return nil, fmt.Errorf("open nf_tables netlink socket: %w", err)
	}
	if nl, ok := sa.(*unix.SockaddrNetlink); ok {
		c.pid = nl.Pid
	}
	return c, nil
}

// nfMsg is one message to nf_tables.
type nfMsg struct {
	typ   uint16 // NFT_MSG_…
	flags uint16
	fam   byte
	attrs []byte
}

func (m nfMsg) message(flags uint16) nfnl.Message {
	return nfnl.Message{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | m.typ, Flags: m.flags | flags, Body: append(nfnl.Gen(m.fam, 0), m.attrs...)}
}

// commit sends the messages as one transaction: all or nothing.
func (c *nfConn) commit(msgs []nfMsg) error {
	mark := nfnl.Gen(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	all := []nfnl.Message{{Type: unix.NFNL_MSG_BATCH_BEGIN, Body: mark}}
	for _, m := range msgs {
		all = append(all, m.message(unix.NLM_F_ACK))
	}
	return c.Batch(context.Background(), append(all, nfnl.Message{Type: unix.NFNL_MSG_BATCH_END, Body: mark}))
}

// dump sends one request and gives every answer's attributes to fn. Interrupted
// dumps are repeated after reset.
func (c *nfConn) dump(m nfMsg, reset func(), fn func(attrs []byte)) error {
	return c.Dump(context.Background(), m.message(0), reset, attrsTo(fn))
}

// query sends one request whose answer is no dump.
func (c *nfConn) query(m nfMsg, fn func(attrs []byte)) error {
	return c.Do(context.Background(), m.message(0), attrsTo(fn))
}

func attrsTo(fn func(attrs []byte)) func(uint16, []byte) {
	return func(_ uint16, body []byte) {
		if len(body) >= nfnl.GenSize {
			fn(body[nfnl.GenSize:])
		}
	}
}

func pad4(n int) int { return (n + 3) &^ 3 }

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
