package tap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/reading"
)

// The ring that kernel and program share: so much memory for each interface, and not
// more, however much passes. A block goes over when it is full or after its time.
const (
	ringBlock    = 256 << 10
	ringBlocks   = 16
	ringPatience = 50 // ms
)

// captureLook is how often the interface itself is looked at.
const captureLook = 500 * time.Millisecond

// Capture copies frames through a ring of packet(7), version 3.
func (*Tap) Capture(ctx context.Context, ns string, w reading.CaptureWish, started func(), fn func(batch []reading.Frame)) (count reading.CaptureCount, err error) {
	c := &capture{wish: w}
	l, err := listen(ns, "capture at "+w.Link, unix.AF_PACKET, unix.SOCK_RAW, 0, c.setup)
	if err != nil {
		return count, err
	}
	// The ring is unmapped only after the last reader of it has ended: this function.
	defer unix.Munmap(c.ring)
	defer l.file.Close()
	if started != nil {
		started()
	}
	defer context.AfterFunc(ctx, func() { l.file.SetReadDeadline(time.Unix(1, 0)) })()
	for ctx.Err() == nil && c.err == nil {
		// Looked after now and then, too: that an interface is gone wakes nobody.
		l.file.SetReadDeadline(time.Now().Add(captureLook))
		err = l.raw.Read(func(fd uintptr) bool {
			c.take(fn)
			return ctx.Err() != nil || c.failed(int(fd))
		})
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		_ = l.control(func(fd uintptr) { c.failed(int(fd)) })
	}
	if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	// What came before the end is in the ring still; the statistics are read once, since
	// reading them sets them to zero.
	control := error(nil)
	_ = l.control(func(fd uintptr) {
		time.Sleep(2 * ringPatience * time.Millisecond)
		c.take(fn)
		var st *unix.TpacketStatsV3
		if st, control = unix.GetsockoptTpacketStatsV3(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); control == nil {
			count = reading.CaptureCount{Received: uint64(st.Packets), Dropped: uint64(st.Drops)}
		}
	})
	return count, errors.Join(err, c.err, control)
}

func (l *listener) control(fn func(fd uintptr)) error {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(fn)
}

type capture struct {
	wish  reading.CaptureWish
	ring  []byte
	block int  // the next one to come
	bare  bool // the interface has no link header
	err   error
}

// setup makes the ring and binds last: before, the socket sees nothing, so that no
// packet passes by the filter.
func (c *capture) setup(fd int) error {
	index, typ, err := c.link(fd)
	if err != nil {
		return err
	}
	c.bare = typ != unix.ARPHRD_ETHER && typ != unix.ARPHRD_LOOPBACK
	if c.wish.Filter != nil && !c.bare {
		if err := attach(fd, c.wish.Filter); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return err
	}
	req := unix.TpacketReq3{Block_size: ringBlock, Block_nr: ringBlocks, Frame_size: 2048, Frame_nr: ringBlock / 2048 * ringBlocks, Retire_blk_tov: ringPatience}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return fmt.Errorf("make its ring: %w", err)
	}
	if c.ring, err = unix.Mmap(fd, 0, ringBlock*ringBlocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map its ring: %w", err)
	}
	all := uint16(unix.ETH_P_ALL)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: index}); err != nil {
		unix.Munmap(c.ring)
		return err
	}
	return nil
}

func (c *capture) link(fd int) (index int, typ uint16, err error) {
	ifr, err := unix.NewIfreq(c.wish.Link)
	if err != nil {
		return 0, 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, 0, fmt.Errorf("there is no interface %s: %w", c.wish.Link, err)
	}
	index = int(ifr.Uint32())
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFHWADDR, ifr); err != nil {
		return 0, 0, err
	}
	return index, ifr.Uint16(), nil // sa_family of ifr_hwaddr is the type (netdevice(7))
}

func attach(fd int, code []reading.Instruction) error {
	raw := make([]unix.SockFilter, len(code))
	for i, in := range code {
		raw[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]}); err != nil {
		return fmt.Errorf("the kernel does not take the filter (%d instructions): %w", len(raw), err)
	}
	return nil
}

// failed looks for what the ring does not tell. An interface that is down may come up
// again; of one that was deleted the socket forgets the index (packet_notifier).
func (c *capture) failed(fd int) bool {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		c.err = err
	case code != 0 && code != int(unix.ENETDOWN):
		c.err = fmt.Errorf("capture at %s: %w", c.wish.Link, unix.Errno(code))
	}
	if sa, err := unix.Getsockname(fd); err == nil {
		if ll, ok := sa.(*unix.SockaddrLinklayer); ok && ll.Ifindex <= 0 {
			c.err = fmt.Errorf("capture at %s: the interface is gone: %w", c.wish.Link, unix.ENODEV)
		}
	}
	return c.err != nil
}

// take gives away all blocks that the kernel has handed over, and hands them back.
func (c *capture) take(fn func([]reading.Frame)) {
	for {
		b := c.ring[c.block*ringBlock:][:ringBlock]
		// Offsets of linux/if_packet.h: struct tpacket_block_desc, tpacket_hdr_v1. The kernel
		// writes a block and then its status; who reads it does the opposite, with the
		// barriers that packet_mmap.rst asks for and Go's atomics bring.
		status := (*uint32)(unsafe.Pointer(&b[8]))
		if atomic.LoadUint32(status)&unix.TP_STATUS_USER == 0 {
			return
		}
		if batch := c.frames(b); len(batch) > 0 {
			fn(batch)
		}
		atomic.StoreUint32(status, unix.TP_STATUS_KERNEL)
		c.block = (c.block + 1) % ringBlocks
	}
}

// frames copies the packets of one block.
func (c *capture) frames(b []byte) (batch []reading.Frame) {
	ne := binary.NativeEndian
	n, at := int(ne.Uint32(b[12:])), int(ne.Uint32(b[16:]))
	for range n {
		if at < 0 || at+unix.SizeofTpacket3Hdr > len(b) {
			return batch
		}
		h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&b[at]))
		size := min(int(h.Snaplen), c.wish.Snap)
		from := at + int(h.Mac)
		if from+size > len(b) {
			return batch
		}
		// After the header comes struct sockaddr_ll: protocol at 2, packet type at 10.
		ll := b[at+unix.SizeofTpacket3Hdr:]
		f := reading.Frame{Time: time.Unix(int64(h.Sec), int64(h.Nsec)), Length: int(h.Len), Out: ll[10] == unix.PACKET_OUTGOING}
		if c.bare {
			f.Data = make([]byte, 14, 14+size)
			copy(f.Data[12:], ll[2:4])
			f.Length += 14
		}
		f.Data = append(f.Data, b[from:from+size]...)
		batch = append(batch, f)
		if h.Next_offset == 0 {
			return batch
		}
		at += int(h.Next_offset)
	}
	return batch
}
