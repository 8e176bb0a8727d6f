package userspace

import (
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// receiver reads one socket. A message may hold many packets (UDP_GRO); they are handed
// out as there is room for them.
type receiver struct {
	b    *bind
	raw  syscall.RawConn
	msgs []message
	next int // of msgs
	oob  []byte
}

// message is what one system call brought.
type message struct {
	buf     []byte
	left    []byte
	segment int
	from    *endpoint
}

// ahead is how many messages are read when they are there.
const ahead = 8

func newReceiver(b *bind, c *net.UDPConn) (*receiver, error) {
	raw, err := c.SyscallConn()
	return &receiver{b: b, raw: raw, oob: make([]byte, 128)}, err
}

// receive implements conn.ReceiveFunc.
func (r *receiver) receive(bufs [][]byte, sizes []int, eps []conn.Endpoint) (n int, err error) {
	r.b.in.wait()
	if r.next == len(r.msgs) {
		if err := r.read(); err != nil {
			if closed(err) {
				return 0, net.ErrClosed
			}
			return 0, err
		}
	}
	data := 0
	for n < len(bufs) && r.next < len(r.msgs) {
		m := &r.msgs[r.next]
		size := len(m.left)
		if m.segment > 0 {
			size = min(size, m.segment)
		}
		sizes[n] = copy(bufs[n], m.left[:size])
		eps[n] = m.from
		if r.b.indices.data(bufs[n][:sizes[n]]) {
			data++
		}
		n++
		if m.left = m.left[size:]; len(m.left) == 0 {
			r.next++
		}
	}
	r.b.in.add(data)
	return n, nil
}

// read waits for one message and takes those that are there besides.
func (r *receiver) read() error {
	all := r.msgs[:cap(r.msgs)]
	r.msgs, r.next = all[:0], 0
	var err error
	rerr := r.raw.Read(func(fd uintptr) bool {
		for len(r.msgs) < ahead {
			n := len(r.msgs)
			if n == len(all) {
				all = append(all, message{})
			}
			m := &all[n]
			if m.buf == nil { // also of what append made in stock
				m.buf = make([]byte, 1<<16)
			}
			var from unix.Sockaddr
			var size, oobn int
			size, oobn, _, from, err = unix.Recvmsg(int(fd), m.buf, r.oob, unix.MSG_DONTWAIT)
			if err != nil {
				break
			}
			if size == 0 {
				continue
			}
			dst, segment := readControl(r.oob[:oobn])
			m.left, m.segment = m.buf[:size], segment
			m.from = r.endpoint(from, dst, m.from, all, n)
			r.msgs = all[:n+1]
		}
		return err != unix.EAGAIN || len(r.msgs) > 0
	})
	switch {
	case len(r.msgs) > 0:
		return nil // an error comes again
	case rerr != nil:
		return rerr
	}
	return err
}

// endpoint makes the endpoint of a message, or finds that of the message before: packets
// come in runs, and an endpoint lives as long as its packets.
func (r *receiver) endpoint(from unix.Sockaddr, src netip.Addr, last *endpoint, all []message, n int) *endpoint {
	var dst netip.AddrPort
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		dst = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(a.Addr)
		if a.ZoneId != 0 {
			if i, err := net.InterfaceByIndex(int(a.ZoneId)); err == nil {
				addr = addr.WithZone(i.Name)
			}
		}
		dst = netip.AddrPortFrom(addr, uint16(a.Port))
	}
	same := func(e *endpoint) bool { return e != nil && e.dst == dst && e.src == src && !e.unsourced.Load() }
	switch {
	case same(last):
		return last
	case n > 0 && same(all[n-1].from):
		return all[n-1].from
	}
	return &endpoint{dst: dst, src: src}
}
