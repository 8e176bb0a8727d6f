package live

import (
	"context"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/reading"
)

// Of inet_diag.h and tcp_states.h.
const (
	sockDiagByFamily = 20
	sizeofDiagReq    = 56
	sizeofDiagMsg    = 72
	diagSKV6Only     = 11
	tcpClose         = 7
	tcpListen        = 10
)

// Sockets lists who waits for others: what listens, and UDP sockets that are bound and
// not connected (a connected one takes its peer's packets only).
func (k *Kernel) Sockets(ctx context.Context, ns string) (all []reading.Socket, err error) {
	var links map[int]string
	err = ask(ns, unix.NETLINK_ROUTE, func(c *nfnl.Conn) (err error) {
		links, err = names(ctx, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = ask(ns, unix.NETLINK_SOCK_DIAG, func(c *nfnl.Conn) error {
		for _, p := range []struct {
			name   string
			number byte
			state  uint32
		}{{"tcp", unix.IPPROTO_TCP, tcpListen}, {"udp", unix.IPPROTO_UDP, tcpClose}, {"sctp", unix.IPPROTO_SCTP, tcpListen}} {
			for _, fam := range []byte{unix.AF_INET, unix.AF_INET6} {
				body := make([]byte, sizeofDiagReq) // struct inet_diag_req_v2
				body[0], body[1] = fam, p.number
				binary.NativeEndian.PutUint32(body[4:], 1<<p.state)
				var some []reading.Socket
				err := c.Dump(ctx, nfnl.Message{Type: sockDiagByFamily, Body: body}, func() { some = nil }, func(_ uint16, b []byte) {
					if s, ok := socketOf(b, links); ok {
						s.Proto = p.name
						some = append(some, s)
					}
				})
				// A kernel without SCTP, or without its diag module, has none to show.
				if err != nil && !missing(err) {
					return err
				}
				all = append(all, some...)
			}
		}
		return nil
	})
	return all, err
}

// socketOf decodes struct inet_diag_msg.
func socketOf(b []byte, links map[int]string) (s reading.Socket, ok bool) {
	if len(b) < sizeofDiagMsg {
		return s, false
	}
	s.Port = binary.BigEndian.Uint16(b[4:])
	if b[0] == unix.AF_INET {
		s.Addr = netip.AddrFrom4([4]byte(b[8:12]))
	} else {
		s.Addr = netip.AddrFrom16([16]byte(b[8:24]))
	}
	if i := binary.NativeEndian.Uint32(b[40:]); i != 0 {
		s.Link = links[int(i)]
	}
	if b[1] == tcpListen {
		s.Queue, s.Backlog = int(binary.NativeEndian.Uint32(b[56:])), int(binary.NativeEndian.Uint32(b[60:]))
	}
	s.UID = binary.NativeEndian.Uint32(b[64:])
	s.Inode = uint64(binary.NativeEndian.Uint32(b[68:]))
	nfnl.Each(b[sizeofDiagMsg:], func(typ uint16, d []byte) {
		if typ == diagSKV6Only {
			s.V6Only = nfnl.Num(d) != 0
		}
	})
	return s, s.Port != 0
}
