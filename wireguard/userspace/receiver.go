package userspace

import (
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.zx2c4.com/wireguard/conn"
)

// receiver reads one socket, several messages by one system call (recvmmsg(2)). A message
// may hold many packets (UDP_GRO); they are handed out as there is room for them.
type receiver struct {
	b    *bind
	from interface {
		ReadBatch(ms []ipv6.Message, flags int) (int, error)
	}
	msgs []ipv6.Message
	// left is what has not been handed out of the message at next, segment the size of
	// the packets in it (0: it is one), at where it came from; got are read.
	left      []byte
	segment   int
	at        *endpoint
	next, got int
}

// ahead is how many messages are read when they are there, and how many bytes of
// ancillary data each may bring.
const (
	ahead   = 16
	oobSize = 128
)

func newReceiver(b *bind, c *net.UDPConn, v4 bool) *receiver {
	r := &receiver{b: b, msgs: make([]ipv6.Message, ahead)}
	for i := range r.msgs {
		r.msgs[i].Buffers = [][]byte{make([]byte, 1<<16)}
		r.msgs[i].OOB = make([]byte, oobSize)
	}
	if r.from = ipv6.NewPacketConn(c); v4 {
		r.from = ipv4.NewPacketConn(c)
	}
	return r
}

// receive implements conn.ReceiveFunc.
func (r *receiver) receive(bufs [][]byte, sizes []int, eps []conn.Endpoint) (n int, err error) {
	bufs = bufs[:min(len(bufs), batch)]
	r.b.in.wait()
	for len(r.left) == 0 {
		if err := r.advance(); err != nil {
			if closed(err) {
				return 0, net.ErrClosed
			}
			return 0, err
		}
	}
	data := 0
	for n < len(bufs) && len(r.left) > 0 {
		size := len(r.left)
		if r.segment > 0 {
			size = min(size, r.segment)
		}
		sizes[n] = copy(bufs[n], r.left[:size])
		eps[n] = r.at
		if r.b.indices.data(bufs[n][:sizes[n]]) {
			data++
		}
		n++
		if r.left = r.left[size:]; len(r.left) == 0 && r.next < r.got {
			_ = r.advance() // of what was read
		}
	}
	r.b.in.add(data)
	return n, nil
}

// advance goes on to the next message, and reads when there is none.
func (r *receiver) advance() error {
	if r.next == r.got {
		for i := range r.msgs {
			r.msgs[i].OOB = r.msgs[i].OOB[:oobSize]
		}
		n, err := r.from.ReadBatch(r.msgs, 0)
		if err != nil {
			return err
		}
		r.next, r.got = 0, n
	}
	m := &r.msgs[r.next]
	r.next++
	var src netip.Addr
	src, r.segment = readControl(m.OOB[:m.NN])
	r.left = m.Buffers[0][:m.N]
	if a, ok := m.Addr.(*net.UDPAddr); ok {
		r.at = r.endpoint(a.AddrPort(), src)
	}
	return nil
}

// endpoint makes the endpoint of a message, or finds that of the message before: packets
// come in runs, and an endpoint lives as long as its packets.
func (r *receiver) endpoint(dst netip.AddrPort, src netip.Addr) *endpoint {
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	if e := r.at; e != nil && e.dst == dst && e.src == src && !e.unsourced.Load() {
		return e
	}
	return &endpoint{dst: dst, src: src}
}
