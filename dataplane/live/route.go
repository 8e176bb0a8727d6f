package live

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/reading"
)

var routeTypes = map[byte]string{unix.RTN_UNICAST: "unicast", unix.RTN_LOCAL: "local", unix.RTN_BROADCAST: "broadcast",
	unix.RTN_ANYCAST: "anycast", unix.RTN_MULTICAST: "multicast", unix.RTN_BLACKHOLE: "blackhole",
	unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit", unix.RTN_THROW: "throw"}

// protocols that routes can depend on, by the kernel's numbers.
var protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "icmp": unix.IPPROTO_ICMP,
	"icmpv6": unix.IPPROTO_ICMPV6, "ipv6-icmp": unix.IPPROTO_ICMPV6, "sctp": unix.IPPROTO_SCTP}

// Route asks the kernel for a packet's way. The kernel decides as it would for a packet,
// with policy rules and reverse path filter, and sends nothing.
func (k *Kernel) Route(ctx context.Context, ns string, q reading.RouteQuery) (a reading.RouteAnswer, err error) {
	err = ask(ns, unix.NETLINK_ROUTE, func(c *nfnl.Conn) error {
		links, err := names(ctx, c)
		if err != nil {
			return err
		}
		body, err := query(q, links)
		if err != nil {
			return err
		}
		err = c.Do(ctx, nfnl.Message{Type: unix.RTM_GETROUTE, Body: body}, func(typ uint16, b []byte) {
			if typ == unix.RTM_NEWROUTE && len(b) >= unix.SizeofRtMsg {
				a = answer(b, links)
			}
		})
		// Errno of the route itself is the answer; what is wrong with the question is not.
		var no unix.Errno
		if errors.As(err, &no) && no != unix.EPERM && no != unix.ENODEV && no != unix.EOPNOTSUPP {
			a, err = reading.RouteAnswer{Type: refusal(no, q), Err: no.Error()}, nil
			if no == unix.EINVAL && q.In != "" {
				a, err = invalid(ctx, c, q, links)
			}
		}
		return err
	})
	return a, err
}

// invalid finds out what EINVAL means for a packet that comes in: since Linux 6.13 the
// kernel answers it for a black hole, for addresses that cannot be on a wire ("martians")
// and for the reverse path filter, which said EXDEV before (inet_rtm_getroute).
func invalid(ctx context.Context, c *nfnl.Conn, q reading.RouteQuery, links map[int]string) (reading.RouteAnswer, error) {
	refused := reading.RouteAnswer{Err: unix.EINVAL.Error()}
	for _, a := range []netip.Addr{q.Src, q.Dst} {
		if !a.IsValid() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() {
			return refused, nil
		}
	}
	kind := func(q reading.RouteQuery) (string, unix.Errno, error) {
		body, err := query(q, links)
		if err != nil {
			return "", 0, err
		}
		kind := ""
		err = c.Do(ctx, nfnl.Message{Type: unix.RTM_GETROUTE, Body: body}, func(_ uint16, b []byte) {
			if len(b) >= unix.SizeofRtMsg {
				kind = routeTypes[b[7]]
			}
		})
		var no unix.Errno
		if errors.As(err, &no) {
			return "", no, nil
		}
		return kind, 0, err
	}
	out := reading.RouteQuery{Dst: q.Dst, Mark: q.Mark, Proto: q.Proto, SrcPort: q.SrcPort, DstPort: q.DstPort}
	if _, no, err := kind(out); err != nil || no == unix.EINVAL {
		refused.Type = "blackhole"
		return refused, err
	}
	// Its own address as a source is a martian too, whatever the filter says.
	switch back, _, err := kind(reading.RouteQuery{Dst: q.Src}); {
	case err != nil:
		return refused, err
	case back != "local" && back != "broadcast":
		refused.Err = unix.EXDEV.Error()
	}
	return refused, nil
}

// query is the body of RTM_GETROUTE.
func query(q reading.RouteQuery, links map[int]string) ([]byte, error) {
	if !q.Dst.IsValid() {
		return nil, errors.New("a route is asked for without a destination")
	}
	dst, src := q.Dst.Unmap(), q.Src.Unmap()
	if src.IsValid() && src.Is4() != dst.Is4() {
		return nil, fmt.Errorf("there is no route from %s to %s: they are of different families", src, dst)
	}
	h := make([]byte, unix.SizeofRtMsg)
	h[0] = family(dst)
	h[1] = byte(dst.BitLen())
	if src.IsValid() {
		h[2] = byte(src.BitLen())
	}
	if dst.Is4() { // IPv6 tells it unasked, and refuses the flag
		binary.NativeEndian.PutUint32(h[8:], unix.RTM_F_LOOKUP_TABLE) // the table it was found in
	}
	b := nfnl.Attr(h, unix.RTA_DST, dst.WithZone("").AsSlice())
	if src.IsValid() {
		b = nfnl.Attr(b, unix.RTA_SRC, src.WithZone("").AsSlice())
	}
	for _, l := range []struct {
		typ  uint16
		name string
	}{{unix.RTA_IIF, q.In}, {unix.RTA_OIF, q.Out}} {
		if l.name == "" {
			continue
		}
		i := indexOf(links, l.name)
		if i == 0 {
			return nil, fmt.Errorf("there is no interface %q", l.name)
		}
		b = nfnl.U32(b, l.typ, uint32(i))
	}
	if q.Mark != 0 {
		b = nfnl.U32(b, unix.RTA_MARK, q.Mark)
	}
	if q.UID != 0 {
		b = nfnl.U32(b, unix.RTA_UID, q.UID)
	}
	proto := protocols[q.Proto]
	if proto == unix.IPPROTO_ICMP && dst.Is6() {
		proto = unix.IPPROTO_ICMPV6
	}
	// The kernel takes these three only (rtm_getroute_parse_ip_proto).
	if proto != 0 && proto != unix.IPPROTO_SCTP {
		b = nfnl.Attr(b, unix.RTA_IP_PROTO, []byte{proto})
	}
	if q.SrcPort != 0 {
		b = nfnl.Attr(b, unix.RTA_SPORT, binary.BigEndian.AppendUint16(nil, q.SrcPort))
	}
	if q.DstPort != 0 {
		b = nfnl.Attr(b, unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, q.DstPort))
	}
	return b, nil
}

// refusal is the type of route that answers with an errno (fib_props in
// net/ipv4/fib_semantics.c; ip6_rt_type_to_error).
func refusal(no unix.Errno, q reading.RouteQuery) string {
	switch {
	case no == unix.EACCES:
		return "prohibit"
	case no == unix.EINVAL && q.Src.IsLoopback() && !q.Dst.IsLoopback():
		return "" // a loopback address does not leave by a wire without route_localnet
	case no == unix.EINVAL && q.In == "":
		return "blackhole"
	case no == unix.EHOSTUNREACH && q.In == "":
		return "unreachable"
	}
	return ""
}

// answer decodes the one route of the answer.
func answer(b []byte, links map[int]string) reading.RouteAnswer {
	r, mtu := routeOf(b, links)
	a := reading.RouteAnswer{Type: r[0].Type, Link: r[0].Link, Gateway: r[0].Gateway, Src: r[0].Src, Table: r[0].Table, MTU: mtu}
	// Of a refusing route IPv6 tells the type only.
	switch a.Type {
	case "unreachable":
		a.Err = unix.EHOSTUNREACH.Error()
	case "prohibit":
		a.Err = unix.EACCES.Error()
	case "blackhole":
		a.Err = unix.EINVAL.Error()
	}
	return a
}

// Routes lists the entries of all tables.
func (k *Kernel) Routes(ctx context.Context, ns string) (all []reading.Route, err error) {
	err = ask(ns, unix.NETLINK_ROUTE, func(c *nfnl.Conn) error {
		links, err := names(ctx, c)
		if err != nil {
			return err
		}
		for _, fam := range []byte{unix.AF_INET, unix.AF_INET6} {
			h := make([]byte, unix.SizeofRtMsg)
			h[0] = fam
			var some []reading.Route
			err := c.Dump(ctx, nfnl.Message{Type: unix.RTM_GETROUTE, Body: h}, func() { some = nil }, func(typ uint16, b []byte) {
				if typ != unix.RTM_NEWROUTE || len(b) < unix.SizeofRtMsg || binary.NativeEndian.Uint32(b[8:])&unix.RTM_F_CLONED != 0 {
					return // a cached exception is no route
				}
				r, _ := routeOf(b, links)
				some = append(some, r...)
			})
			if err != nil && !(fam == unix.AF_INET6 && missing(err)) {
				return err
			}
			all = append(all, some...)
			if some, err = refusing(ctx, c, fam); err != nil && !missing(err) {
				return err
			}
			all = append(all, some...)
		}
		return nil
	})
	return all, err
}

// refusing lists the policy rules that refuse (struct fib_rule_hdr, FR_ACT_…): no table
// shows them.
func refusing(ctx context.Context, c *nfnl.Conn, fam byte) (all []reading.Route, err error) {
	actions := map[byte]string{6: "rule blackhole", 7: "rule unreachable", 8: "rule prohibit"}
	h := make([]byte, unix.SizeofRtMsg)
	h[0] = fam
	err = c.Dump(ctx, nfnl.Message{Type: unix.RTM_GETRULE, Body: h}, func() { all = nil }, func(typ uint16, b []byte) {
		if typ != unix.RTM_NEWRULE || len(b) < unix.SizeofRtMsg || actions[b[7]] == "" {
			return
		}
		none := netip.IPv4Unspecified()
		if fam == unix.AF_INET6 {
			none = netip.IPv6Unspecified()
		}
		r := reading.Route{Type: actions[b[7]], Dst: netip.PrefixFrom(none, 0)}
		nfnl.Each(b[unix.SizeofRtMsg:], func(typ uint16, d []byte) {
			switch typ {
			case unix.FRA_DST:
				if a, ok := netip.AddrFromSlice(d); ok {
					r.Dst = netip.PrefixFrom(a, int(b[1]))
				}
			case unix.FRA_SRC:
				r.Src, _ = netip.AddrFromSlice(d)
			case unix.FRA_IIFNAME:
				r.Link = nfnl.Str(d)
			case unix.FRA_PRIORITY:
				r.Metric = int(nfnl.Num(d))
			}
		})
		all = append(all, r)
	})
	return all, err
}

// routeOf decodes RTM_NEWROUTE: one route for each next hop.
func routeOf(b []byte, links map[int]string) (all []reading.Route, mtu int) {
	r := reading.Route{Table: int(b[4]), Proto: int(b[5]), Type: routeTypes[b[7]]}
	none := netip.IPv4Unspecified()
	if b[0] == unix.AF_INET6 {
		none = netip.IPv6Unspecified()
	}
	r.Dst = netip.PrefixFrom(none, int(b[1]))
	hop := func(to *reading.Route) func(typ uint16, d []byte) {
		return func(typ uint16, d []byte) {
			switch typ {
			case unix.RTA_GATEWAY:
				to.Gateway, _ = netip.AddrFromSlice(d)
			case unix.RTA_VIA: // struct rtvia: family, address
				if len(d) > 2 {
					to.Gateway, _ = netip.AddrFromSlice(d[2:])
				}
			case unix.RTA_OIF:
				to.Link = links[int(nfnl.Num(d))]
			}
		}
	}
	var hops []reading.Route
	nfnl.Each(b[unix.SizeofRtMsg:], func(typ uint16, d []byte) {
		hop(&r)(typ, d)
		switch typ {
		case unix.RTA_DST:
			if a, ok := netip.AddrFromSlice(d); ok {
				r.Dst = netip.PrefixFrom(a, int(b[1]))
			}
		case unix.RTA_PREFSRC:
			r.Src, _ = netip.AddrFromSlice(d)
		case unix.RTA_TABLE:
			r.Table = int(nfnl.Num(d))
		case unix.RTA_PRIORITY:
			r.Metric = int(nfnl.Num(d))
		case unix.RTA_METRICS:
			nfnl.Each(d, func(typ uint16, d []byte) {
				if typ == unix.RTAX_MTU {
					mtu = int(nfnl.Num(d))
				}
			})
		case unix.RTA_MULTIPATH: // struct rtnexthop: length, flags, hops, interface
			for len(d) >= unix.SizeofRtNexthop {
				n := int(binary.NativeEndian.Uint16(d))
				if n < unix.SizeofRtNexthop || n > len(d) {
					break
				}
				h := reading.Route{Link: links[int(binary.NativeEndian.Uint32(d[4:]))]}
				nfnl.Each(d[unix.SizeofRtNexthop:n], hop(&h))
				hops = append(hops, h)
				d = d[min((n+3)&^3, len(d)):]
			}
		}
	})
	if len(hops) == 0 {
		return []reading.Route{r}, mtu
	}
	for _, h := range hops {
		one := r
		one.Link, one.Gateway = h.Link, h.Gateway
		all = append(all, one)
	}
	return all, mtu
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func indexOf(links map[int]string, name string) int {
	for i, n := range links {
		if n == name {
			return i
		}
	}
	return 0
}
