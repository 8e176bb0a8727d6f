package userspace

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

// full is how many packets are enough for one Read, widest how many one of the kernel's
// may bring: a message of 64 KiB in segments of 512 bytes and less is cut short by the
// library, as before.
const (
	full   = 44
	widest = 128
)

// BatchSize implements tun.Device: however many are there, one more read has room.
func (l *link) BatchSize() int { return full + widest }

// Read implements tun.Device. It waits for one packet and takes along what is there
// already: what follows is done once for many, and packets of one size leave as one message
// (UDP_SEGMENT). A stream in a VXLAN in this tunnel, which the kernel hands over packet by
// packet, is two to three times as fast so.
func (l *link) Read(bufs [][]byte, sizes []int, offset int) (n int, err error) {
	l.out.wait()
	counted, live := 0, true
	for n < full && live && (n == 0 || l.more()) {
		m, err1 := l.Device.Read(bufs[n:], sizes[n:], offset)
		if m > 0 {
			// What is read at once is of one stream, so the first says it of all. Packets to a
			// peer without a session wait for one, and may be dropped: they are not counted.
			// The library keeps 128 reads of them, so nothing is taken along.
			if live = l.live(bufs[n][offset : offset+sizes[n]]); live {
				counted += m
			}
			n += m
		}
		if ends(err1) {
			err = err1
			break
		}
		if err1 != nil {
			l.odd(err1)
		}
	}
	l.count.Add(uint64(n))
	l.out.add(counted)
	return n, err
}

// ends says whether an error of the TUN device's is its end. For the WireGuard device every
// one is; but the library errs too when a packet says that it is a stream to be cut and is
// none, and wraps no error then. The kernel lets such packets, which a raw socket in a
// container can make (PACKET_VNET_HDR, packet(7)), not as far as this; should it let one,
// then that packet ends, and not every host's tunnel.
func ends(err error) bool {
	switch {
	case err == nil, errors.Is(err, tun.ErrTooManySegments):
		return false
	case errors.Is(err, os.ErrClosed), errors.Is(err, io.EOF):
		return true
	}
	return errors.Unwrap(err) != nil
}

// waiting asks a descriptor whether there is something to read. It is one reader's.
type waiting struct {
	conn syscall.RawConn
	ask  func(fd uintptr)
	poll [1]unix.PollFd
	yes  bool
}

func newWaiting(c syscall.RawConn) *waiting {
	w := &waiting{conn: c}
	w.ask = func(fd uintptr) {
		w.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		n, err := unix.Poll(w.poll[:], 0)
		w.yes = err == nil && n == 1 && w.poll[0].Revents == unix.POLLIN
	}
	return w
}

// more answers at once.
func (w *waiting) more() bool {
	w.yes = false
	return w.conn.Control(w.ask) == nil && w.yes
}
