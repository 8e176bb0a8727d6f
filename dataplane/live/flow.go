package live

import (
	"context"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/reading"
)

// Of nfnetlink_conntrack.h and nf_conntrack_common.h.
const (
	ctGet = 1

	ctaTupleOrig     = 1
	ctaTupleReply    = 2
	ctaStatus        = 3
	ctaProtoinfo     = 4
	ctaTimeout       = 7
	ctaMark          = 8
	ctaCountersOrig  = 9
	ctaCountersReply = 10
	ctaID            = 12
	ctaZone          = 18
	ctaTimestamp     = 20
	ctaFilter        = 25

	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2
	filterProtoNum      = 1 << 3 // CTA_FILTER_F_CTA_PROTO_NUM

	ipsSeenReply = 1 << 1
	ipsAssured   = 1 << 2
	ipsSNAT      = 1 << 4
	ipsDNAT      = 1 << 5
)

var tcpStates = []string{"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"}

var protoNames = map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMP: "icmp",
	unix.IPPROTO_ICMPV6: "icmpv6", unix.IPPROTO_SCTP: "sctp", unix.IPPROTO_DCCP: "dccp", unix.IPPROTO_UDPLITE: "udplite", unix.IPPROTO_GRE: "gre"}

// Flows dumps conntrack. The kernel filters by family and protocol (since Linux 5.8, an
// older one shows all); the rest is compared here, because an end may be in any of four
// places. A dump walks the whole table, 10 ms for an empty one: where the kernel counts
// none, none is asked for.
func (k *Kernel) Flows(ctx context.Context, ns string, f reading.FlowFilter) (all []reading.Flow, err error) {
	if n, err := k.Sysctl(ctx, ns, "net/netfilter/nf_conntrack_count"); err == nil && n == "0" {
		return nil, nil
	}
	fam := byte(unix.AF_UNSPEC)
	if f.Addr.IsValid() {
		f.Addr = f.Addr.Unmap().WithZone("")
		fam = family(f.Addr)
	}
	err = ask(ns, unix.NETLINK_NETFILTER, func(c *nfnl.Conn) error {
		dump := func(m nfnl.Message) error {
			return c.Dump(ctx, m, func() { all = nil }, func(_ uint16, b []byte) {
				if flow, ok := FlowOf(b); ok && lets(f, flow) {
					all = append(all, flow)
				}
			})
		}
		err := dump(flowRequest(fam, f.Proto))
		if err == unix.EINVAL || err == unix.EOPNOTSUPP {
			err = dump(flowRequest(fam, "")) // a kernel that does not filter so
		}
		if missing(err) {
			return nil
		}
		return err
	})
	return all, err
}

func flowRequest(fam byte, proto string) nfnl.Message {
	body := nfnl.Gen(fam, 0)
	// Ping has another number in IPv6: what is asked of both families is not filtered.
	n := protocols[proto]
	if n == unix.IPPROTO_ICMP && fam == unix.AF_INET6 {
		n = unix.IPPROTO_ICMPV6
	}
	if n != 0 && !(n == unix.IPPROTO_ICMP && fam == unix.AF_UNSPEC) {
		tuple := nfnl.Nest(nil, 2 /* CTA_TUPLE_PROTO */, nfnl.Attr(nil, 1 /* CTA_PROTO_NUM */, []byte{n}))
		body = nfnl.Nest(body, ctaTupleOrig, tuple)
		// Without the reply's flags the kernel takes that tuple for asked as well.
		body = nfnl.Nest(body, ctaFilter, nfnl.U32(nfnl.U32(nil, ctaFilterOrigFlags, filterProtoNum), ctaFilterReplyFlags, 0))
	}
	return nfnl.Message{Type: unix.NFNL_SUBSYS_CTNETLINK<<8 | ctGet, Body: body}
}

// lets says whether a flow passes the filter.
func lets(f reading.FlowFilter, flow reading.Flow) bool {
	if f.Proto != "" && f.Proto != flow.Proto && !(f.Proto == "icmp" && flow.Proto == "icmpv6") {
		return false
	}
	if !f.Addr.IsValid() && f.Port == 0 {
		return true
	}
	addr, port := !f.Addr.IsValid(), f.Port == 0
	for _, e := range []netip.AddrPort{flow.Original.Src, flow.Original.Dst, flow.Reply.Src, flow.Reply.Dst} {
		addr = addr || e.Addr() == f.Addr
		port = port || e.Port() == f.Port
	}
	return addr && port
}

// FlowOf decodes a conntrack message, its nfnetlink header included: dataplane/tap gets
// the same ones as events.
func FlowOf(b []byte) (f reading.Flow, ok bool) {
	if len(b) < nfnl.GenSize {
		return f, false
	}
	var status uint32
	nfnl.Each(b[nfnl.GenSize:], func(typ uint16, d []byte) {
		switch typ {
		case ctaTupleOrig:
			f.Original, f.Proto = tupleOf(d)
		case ctaTupleReply:
			f.Reply, _ = tupleOf(d)
		case ctaStatus:
			status = uint32(nfnl.BE(d))
		case ctaProtoinfo:
			nfnl.Each(d, func(typ uint16, d []byte) {
				if typ != 1 { // CTA_PROTOINFO_TCP
					return
				}
				nfnl.Each(d, func(typ uint16, d []byte) {
					if n := int(nfnl.BE(d)); typ == 1 && n < len(tcpStates) { // CTA_PROTOINFO_TCP_STATE
						f.State = tcpStates[n]
					}
				})
			})
		case ctaTimeout:
			f.Timeout = time.Duration(nfnl.BE(d)) * time.Second
		case ctaMark:
			f.Mark = uint32(nfnl.BE(d))
		case ctaCountersOrig:
			f.Counted = true
			f.OutPackets, f.OutBytes = countersOf(d)
		case ctaCountersReply:
			f.Counted = true
			f.BackPackets, f.BackBytes = countersOf(d)
		case ctaID:
			f.ID = uint32(nfnl.BE(d))
		case ctaZone:
			f.Zone = uint16(nfnl.BE(d))
		case ctaTimestamp:
			nfnl.Each(d, func(typ uint16, d []byte) {
				if ns := nfnl.BE(d); typ == 1 && ns != 0 { // CTA_TIMESTAMP_START
					f.Started = time.Unix(0, int64(ns))
				}
			})
		}
	})
	f.Assured, f.Unreplied = status&ipsAssured != 0, status&ipsSeenReply == 0
	f.SNAT, f.DNAT = status&ipsSNAT != 0, status&ipsDNAT != 0
	return f, f.Original.Src.IsValid()
}

func countersOf(b []byte) (packets, bytes uint64) {
	nfnl.Each(b, func(typ uint16, d []byte) {
		switch typ {
		case 1: // CTA_COUNTERS_PACKETS
			packets = nfnl.BE(d)
		case 2:
			bytes = nfnl.BE(d)
		}
	})
	return packets, bytes
}

// tupleOf decodes one direction.
func tupleOf(b []byte) (t reading.Tuple, proto string) {
	var src, dst netip.Addr
	var sport, dport, id uint16
	nfnl.Each(b, func(typ uint16, d []byte) {
		switch typ {
		case 1: // CTA_TUPLE_IP
			nfnl.Each(d, func(typ uint16, d []byte) {
				a, _ := netip.AddrFromSlice(d)
				switch typ {
				case 1, 3: // CTA_IP_V4_SRC, CTA_IP_V6_SRC
					src = a
				case 2, 4:
					dst = a
				}
			})
		case 2: // CTA_TUPLE_PROTO
			nfnl.Each(d, func(typ uint16, d []byte) {
				switch typ {
				case 1:
					if len(d) == 1 {
						proto = protoName(d[0])
					}
				case 2:
					sport = uint16(nfnl.BE(d))
				case 3:
					dport = uint16(nfnl.BE(d))
				case 4, 7: // CTA_PROTO_ICMP_ID, CTA_PROTO_ICMPV6_ID
					id = uint16(nfnl.BE(d))
				}
			})
		}
	})
	if src.IsValid() && dst.IsValid() {
		t = reading.Tuple{Src: netip.AddrPortFrom(src, sport), Dst: netip.AddrPortFrom(dst, dport), ID: id}
	}
	return t, proto
}

func protoName(n byte) string {
	if name := protoNames[n]; name != "" {
		return name
	}
	return "proto-" + strconv.Itoa(int(n))
}
