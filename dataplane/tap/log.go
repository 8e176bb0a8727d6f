package tap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/reading"
)

// Of linux/netfilter/nfnetlink_log.h.
const (
	ulogPacket = 0
	ulogConfig = 1

	cfgCmd     = 1
	cfgMode    = 2
	cfgTimeout = 4
	cfgQueue   = 5
	cfgFlags   = 6

	cmdBind    = 1
	copyPacket = 2
	flagSeq    = 1

	attrTimestamp  = 3
	attrInDev      = 4
	attrOutDev     = 5
	attrPhysInDev  = 6
	attrPhysOutDev = 7
	attrPayload    = 9
	attrPrefix     = 10
	attrSeq        = 12
)

// The kernel hands over when so many packets wait, or after so long: few wake-ups in a
// flood, and a person who looks on does not notice.
const (
	logBatch    = 64
	logPatience = 10 // 1/100 s
	logSnap     = 128
)

// Log follows an NFLOG group.
func (*Tap) Log(ctx context.Context, ns string, group uint16, fn func(batch []reading.Logged, lost int)) error {
	var fd int
	l, err := listen(ns, fmt.Sprintf("NFLOG group %d", group), unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER, func(s int) error {
		fd = s
		if err := bind(fd); err != nil {
			return err
		}
		if err := ask(fd, unix.NFNL_SUBSYS_ULOG<<8|ulogConfig, logWish(group)); err != nil {
			// nfulnl_recv_config says EPERM of another's group, before it could say EBUSY.
			if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EPERM) {
				return fmt.Errorf("another program reads it: %w", unix.EBUSY)
			}
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	var batch []reading.Logged
	lost, next := 0, uint32(0)
	// The sequence numbers say exactly how many are missing, and so what ENOBUFS lost.
	deliver := func() {
		if len(batch) > 0 || lost > 0 {
			fn(batch, lost)
			batch, lost = nil, 0
		}
	}
	return l.messages(ctx, func(typ, _ uint16, body []byte) {
		if typ != unix.NFNL_SUBSYS_ULOG<<8|ulogPacket || len(body) < nfnl.GenSize {
			return
		}
		e := loggedOf(body[nfnl.GenSize:], func(index uint32) string { return linkName(fd, index) }, time.Now)
		lost += int(e.seq - next)
		next = e.seq + 1
		batch = append(batch, e.Logged)
	}, deliver, func() {})
}

func logWish(group uint16) []byte {
	b := nfnl.Gen(unix.AF_UNSPEC, group)
	b = nfnl.Attr(b, cfgCmd, []byte{cmdBind})
	b = nfnl.Attr(b, cfgMode, append(binary.BigEndian.AppendUint32(nil, logSnap), copyPacket, 0))
	b = nfnl.BE32(b, cfgTimeout, logPatience)
	b = nfnl.BE32(b, cfgQueue, logBatch)
	return nfnl.Attr(b, cfgFlags, binary.BigEndian.AppendUint16(nil, flagSeq))
}

type logged struct {
	reading.Logged
	seq uint32
}

// loggedOf decodes the attributes of one packet.
func loggedOf(b []byte, link func(uint32) string, now func() time.Time) (e logged) {
	nfnl.Each(b, func(typ uint16, d []byte) {
		index := func() string { return link(uint32(nfnl.BE(d))) }
		switch typ {
		case attrTimestamp: // only where the packet came with one
			if len(d) == 16 {
				e.Time = time.Unix(int64(nfnl.BE(d[:8])), int64(nfnl.BE(d[8:]))*1000)
			}
		case attrInDev:
			e.In = index()
		case attrOutDev:
			e.Out = index()
		case attrPhysInDev:
			e.PhysIn = index()
		case attrPhysOutDev:
			e.PhysOut = index()
		case attrPayload:
			e.Packet, _ = reading.ParsePacket(d)
		case attrPrefix:
			e.Prefix = nfnl.Str(d)
		case attrSeq:
			e.seq = uint32(nfnl.BE(d))
		}
	})
	if e.Time.IsZero() {
		e.Time = now()
	}
	return e
}

func native16(b []byte, v uint16) []byte { return binary.NativeEndian.AppendUint16(b, v) }
func native32(b []byte, v uint32) []byte { return binary.NativeEndian.AppendUint32(b, v) }
