package userspace

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// bind is the sockets as the WireGuard device sees them. Closing it ends the reading and
// leaves the sockets: the device closes its bind whenever the network device goes down.
type bind struct {
	logger  *slog.Logger
	in, out *window
	indices indices

	mu      sync.Mutex
	sockets *sockets
	noGSO   [2]atomic.Bool // IPv4, IPv6: segments must be made here
}

var _ conn.Bind = (*bind)(nil)

func newBind(logger *slog.Logger, s *sockets, in, out *window) *bind {
	return &bind{logger: logger, sockets: s, in: in, out: out, indices: indices{known: map[uint32]time.Time{}}}
}

func (b *bind) current() *sockets {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sockets
}

// replace has it use other sockets from the next Open on, and returns the former, which
// are the caller's to close.
func (b *bind) replace(s *sockets) *sockets {
	b.mu.Lock()
	defer b.mu.Unlock()
	former := b.sockets
	b.sockets = s
	return former
}

// batch is how many packets are handed over at once, at most: the library's tables for
// putting packets together again hold so many streams and no more.
const batch = conn.IdealBatchSize

// BatchSize implements conn.Bind.
func (b *bind) BatchSize() int { return batch }

// SetMark implements conn.Bind; the tunnels use none.
func (b *bind) SetMark(uint32) error { return nil }

// ParseEndpoint implements conn.Bind.
func (b *bind) ParseEndpoint(s string) (conn.Endpoint, error) {
	dst, err := netip.ParseAddrPort(s)
	return &endpoint{dst: dst}, err
}

// Open implements conn.Bind. The port is the sockets'.
func (b *bind) Open(uint16) (fns []conn.ReceiveFunc, port uint16, err error) {
	s := b.current()
	for _, c := range []*net.UDPConn{s.v4, s.v6} {
		if c == nil {
			continue
		}
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			return nil, 0, err
		}
		fns = append(fns, newReceiver(b, c, c == s.v4).receive)
		port = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	}
	return fns, port, nil
}

// Close implements conn.Bind.
func (b *bind) Close() error {
	s := b.current()
	for _, c := range []*net.UDPConn{s.v4, s.v6} {
		if c != nil {
			_ = c.SetReadDeadline(time.Unix(1, 0))
		}
	}
	return nil
}

// maxSegments is how many packets the kernel cuts one message into (UDP_MAX_SEGMENTS,
// linux/udp.h, of kernels before 6.9); maxMessage is a datagram's most.
const (
	maxSegments = 64
	maxMessage  = 1<<16 - 1 - 40 - 8
)

// Send implements conn.Bind.
func (b *bind) Send(bufs [][]byte, ep conn.Endpoint) error {
	defer b.out.done(len(bufs))
	if len(bufs) == 0 {
		return nil
	}
	e, ok := ep.(*endpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	b.indices.sent(bufs[0])
	s, family := b.current(), 0
	c := s.v4
	if e.dst.Addr().Is6() {
		c, family = s.v6, 1
	}
	if c == nil {
		return unix.EAFNOSUPPORT
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var to unix.Sockaddr
	if family == 0 {
		to = &unix.SockaddrInet4{Addr: e.dst.Addr().As4(), Port: int(e.dst.Port())}
	} else {
		to = &unix.SockaddrInet6{Addr: e.dst.Addr().As16(), Port: int(e.dst.Port()), ZoneId: zone(e.dst.Addr())}
	}
	var oob [128]byte
	for len(bufs) > 0 {
		n := 1
		if !b.noGSO[family].Load() {
			n = equal(bufs)
		}
		segment := 0
		if n > 1 {
			segment = len(bufs[0])
		}
		src := e.SrcIP()
		err := sendmsg(raw, bufs[:n], control(oob[:0], src, segment), to)
		switch {
		case err == nil:
		case segment > 0 && errors.Is(err, unix.EIO):
			// The device of the way there computes no checksums, which cutting needs
			// (udp(7), UDP_SEGMENT).
			b.noGSO[family].Store(true)
			continue
		case src.IsValid() && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENETUNREACH)):
			e.ClearSrc() // the address is not ours any more
			continue
		case segment > 0 && errors.Is(err, unix.EINVAL):
			b.noGSO[family].Store(true) // a kernel that does not know it (before 4.18)
			continue
		default:
			return err
		}
		bufs = bufs[n:]
	}
	return nil
}

func sendmsg(raw interface {
	Write(func(uintptr) bool) error
}, bufs [][]byte, oob []byte, to unix.Sockaddr) error {
	var err error
	werr := raw.Write(func(fd uintptr) bool {
		_, err = unix.SendmsgBuffers(int(fd), bufs, oob, to, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return !errors.Is(err, unix.EAGAIN)
	})
	if werr != nil {
		return werr
	}
	return err
}

func zone(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	if i, err := net.InterfaceByName(a.Zone()); err == nil {
		return uint32(i.Index)
	}
	return 0
}

// equal is how many of the first packets can go as one message: all of one size, but for
// the last, which may be shorter.
func equal(bufs [][]byte) int {
	size, sum := len(bufs[0]), 0
	for i, p := range bufs {
		sum += len(p)
		switch {
		case i == maxSegments || sum > maxMessage || len(p) > size:
			return max(i, 1)
		case len(p) < size:
			return i + 1
		}
	}
	return len(bufs)
}

// indices are by what number the sessions of this device are addressed. Packets that
// carry another are dropped within, and anyone can send those: they must not be counted,
// or they would fill the window.
type indices struct {
	mu    sync.RWMutex
	known map[uint32]time.Time
}

// indexTime is longer than a session lives.
const indexTime = 10 * time.Minute

// sent learns from a handshake message that leaves: it tells the peer the number
// (sections 5.4.2 and 5.4.3 of WireGuard's paper).
func (x *indices) sent(p []byte) {
	if len(p) < 8 || p[0] != 1 && p[0] != 2 {
		return
	}
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, at := range x.known {
		if now.Sub(at) > indexTime {
			delete(x.known, i)
		}
	}
	x.known[binary.LittleEndian.Uint32(p[4:])] = now
}

// data says whether a packet is one that comes out as one for the TUN device.
func (x *indices) data(p []byte) bool {
	const empty = 32 // a keepalive
	if len(p) <= empty || p[0] != 4 {
		return false
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	_, ok := x.known[binary.LittleEndian.Uint32(p[4:])]
	return ok
}

// closed says whether reading ended because the bind was closed.
func closed(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed)
}
