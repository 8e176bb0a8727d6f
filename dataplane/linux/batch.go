package linux

import (
	"fmt"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// batchSize is how many requests go in one datagram. The kernel works on them one after
// the other while it is sent, and answers those that fail: the answers of so many fit
// into a socket's receive buffer of the usual size (netlink(7)).
const batchSize = 100

// batch sends requests of one type many at a time, since 10,000 of them are 10,000 system
// calls and their answers otherwise. It returns those that failed, by index. Others' requests
// get in between.
func (c *rtnl) batch(typ int, all []batched) (map[int]error, error) {
	bad := map[int]error{}
	for from := 0; from < len(all); from += batchSize {
		err := c.chunk(typ, all[from:min(from+batchSize, len(all))], func(i int, err error) { bad[from+i] = err })
		if err != nil {
			return bad, err
		}
	}
	return bad, nil
}

func (c *rtnl) chunk(typ int, part []batched, failed func(int, error)) error {
	sh := c.sockets[unix.NETLINK_ROUTE]
	// As the library counts them: before the lock.
	first := atomic.AddUint32(&sh.Seq, uint32(len(part))) - uint32(len(part)) + 1
	sh.Socket.Lock()
	defer sh.Socket.Unlock()
	var b []byte
	for i, m := range part {
		flags := unix.NLM_F_REQUEST | uint16(m.flags)
		if i == len(part)-1 {
			flags |= unix.NLM_F_ACK // the others answer only when they fail
		}
		b = appendMessage(b, uint16(typ), flags, first+uint32(i), m.body)
	}
	if err := unix.Sendto(sh.Socket.GetFd(), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send to the kernel: %w", err)
	}
	for {
		msgs, _, err := sh.Socket.Receive()
		if err != nil {
			return fmt.Errorf("the kernel's answer: %w", err)
		}
		answered := false
		for _, m := range msgs {
			i := int(m.Header.Seq - first)
			if m.Header.Type != unix.NLMSG_ERROR || i < 0 || i >= len(part) {
				continue
			}
			if err := answer(m); err != nil {
				failed(i, err)
			}
			answered = answered || i == len(part)-1
		}
		if answered {
			return nil
		}
	}
}

// batched is one request without its header.
type batched struct {
	flags int
	body  []byte
}

func appendMessage(b []byte, typ, flags uint16, seq uint32, body []byte) []byte {
	ne := nl.NativeEndian()
	var h [unix.SizeofNlMsghdr]byte
	ne.PutUint32(h[0:], uint32(unix.SizeofNlMsghdr+len(body)))
	ne.PutUint16(h[4:], typ)
	ne.PutUint16(h[6:], flags)
	ne.PutUint32(h[8:], seq)
	b = append(append(b, h[:]...), body...)
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

// answer is the error that an NLMSG_ERROR tells, with the kernel's words if it has any.
func answer(m syscall.NetlinkMessage) error {
	if len(m.Data) < 4 {
		return unix.EBADMSG
	}
	code := int32(nl.NativeEndian().Uint32(m.Data))
	if code == 0 {
		return nil
	}
	var err error = unix.Errno(-code)
	rest := m.Data[4:]
	if m.Header.Flags&unix.NLM_F_ACK_TLVS == 0 || len(rest) < unix.SizeofNlMsghdr {
		return err
	}
	// The request is echoed before the attributes.
	if n := pad4(int(nl.NativeEndian().Uint32(rest))); n <= len(rest) {
		eachAttr(rest[n:], func(t int, b []byte) {
			if t == nl.NLMSGERR_ATTR_MSG {
				err = fmt.Errorf("%w: %s", err, unix.ByteSliceToString(b))
			}
		})
	}
	return err
}
