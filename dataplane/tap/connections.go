package tap

import (
	"context"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/reading"
)

// Of linux/sock_diag.h, inet_diag.h, tcp_states.h and tcp.h.
const (
	diagByFamily = 20
	diagInfo     = 2  // INET_DIAG_INFO
	diagRequest  = 56 // struct inet_diag_req_v2
	diagMessage  = 72 // struct inet_diag_msg

	tcpListen = 10

	// In struct tcp_info, since Linux 4.1 and 4.2.
	infoBytesAcked    = 120
	infoBytesReceived = 128
	infoSegsOut       = 136
	infoSegsIn        = 140
)

var tcpStates = map[byte]string{1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 8: "CLOSE_WAIT", 9: "LAST_ACK", tcpListen: "LISTEN", 11: "CLOSING"}

// Connections asks for the TCP sockets of a namespace (sock_diag(7)).
func (*Tap) Connections(ctx context.Context, ns string) (all []reading.Connection, err error) {
	var c *nfnl.Conn
	if err := within(ns, func() (err error) {
		c, err = nfnl.Open(unix.NETLINK_SOCK_DIAG)
		return err
	}); err != nil {
		return nil, err
	}
	defer c.Close()
	listening := map[uint16]bool{}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		var some []reading.Connection
		err := c.Dump(ctx, nfnl.Message{Type: diagByFamily, Body: diagWish(family)}, func() { some = nil }, func(_ uint16, b []byte) {
			conn, ok := connectionOf(b)
			switch {
			case !ok:
			case conn.State == "LISTEN":
				listening[conn.Local.Port()] = true
			case !conn.Remote.Addr().IsLoopback() && conn.Local.Addr() != conn.Remote.Addr():
				some = append(some, conn)
			}
		})
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	for i := range all {
		all[i].Served = listening[all[i].Local.Port()]
	}
	return all, nil
}

// diagWish asks for TCP in all states that we name: a connection that waits for its
// time to pass (TIME_WAIT) carries nothing any more.
func diagWish(family byte) []byte {
	var states uint32
	for s := range tcpStates {
		states |= 1 << s
	}
	b := make([]byte, 0, diagRequest)
	b = append(b, family, unix.IPPROTO_TCP, 1<<(diagInfo-1), 0)
	b = native32(b, states)
	return b[:diagRequest]
}

func connectionOf(b []byte) (c reading.Connection, ok bool) {
	if len(b) < diagMessage {
		return c, false
	}
	c.State = tcpStates[b[1]]
	local, remote := b[8:24], b[24:40]
	if b[0] == unix.AF_INET {
		local, remote = local[:4], remote[:4]
	}
	l, _ := netip.AddrFromSlice(local)
	r, _ := netip.AddrFromSlice(remote)
	// A socket of both families has IPv4 addresses mapped.
	c.Local = netip.AddrPortFrom(l.Unmap(), binary.BigEndian.Uint16(b[4:]))
	c.Remote = netip.AddrPortFrom(r.Unmap(), binary.BigEndian.Uint16(b[6:]))
	nfnl.Each(b[diagMessage:], func(typ uint16, d []byte) {
		if typ == diagInfo && len(d) >= infoSegsIn+4 {
			c.SentBytes, c.BackBytes = nfnl.Num(d[infoBytesAcked:][:8]), nfnl.Num(d[infoBytesReceived:][:8])
			c.SentPackets, c.BackPackets = nfnl.Num(d[infoSegsOut:][:4]), nfnl.Num(d[infoSegsIn:][:4])
		}
	})
	return c, c.State != ""
}
