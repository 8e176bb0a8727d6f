package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/dataplane"
)

func (a *applier) route(o dataplane.Route, del bool) error {
	if o.Via.Is4() && o.Dst.Addr().Is6() {
		return cnm.Unsupported("route to %s via %s: the kernel takes no IPv4 gateway for IPv6", o.Dst, o.Via)
	}
	if o.Unreachable {
		return a.lastRoute(o, del)
	}
	c, l, err := a.routePlace(o)
	if err != nil {
		return err
	}
	if l == nil {
		if del {
			return nil
		}
		return missing(o.NS, o.Link)
	}
	metric, borrowed := defaultMetric(o.Dst), o.NS == "" && l.group != a.k.group
	if borrowed {
		metric = a.k.borrowedMetric()
		a.k.borrowed.note(o.Link)
	}
	if del {
		// The message names our protocol: the kernel then spares others' routes.
		err := c.route(unix.RTM_DELROUTE, 0, l.index, o, metric)
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		return err
	}
	err = c.route(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, l.index, o, metric)
	switch {
	case errors.Is(err, unix.EEXIST):
		err = c.adjustRoute(l, o, metric)
	case errors.Is(err, unix.ENETUNREACH) && o.Via.IsValid():
		return fmt.Errorf("gateway %s is not on a network of %s: %w", o.Via, o.Link, err)
	}
	if err == nil && borrowed {
		return a.k.inFront(l, o, metric)
	}
	return err
}

// routePlace finds the link: routes are the one thing that we put on links of others,
// with a mark of their own.
func (a *applier) routePlace(o dataplane.Route) (*rtnl, *link, error) {
	if o.NS != "" {
		return a.place(o.NS, o.Link)
	}
	l, err := a.k.rt.linkByName(o.Link)
	if err == nil && l != nil && l.group == a.k.doom {
		l = nil
	}
	return a.k.rt, l, err
}

// borrowedMetric marks a route over a link that is not ours as this instance's; nobody
// chooses such a number.
func (k *Kernel) borrowedMetric() uint32 { return 0x4C<<24 | k.cfg.Instance&instanceBits }

// inFront refuses a route that another one of the same destination hides, since its
// metric is lower: whoever made that means it.
func (k *Kernel) inFront(l *link, o dataplane.Route, metric uint32) error {
	msg := &nl.RtMsg{}
	msg.Family, msg.Dst_len, msg.Flags = unix.AF_INET, uint8(o.Dst.Addr().BitLen()), unix.RTM_F_FIB_MATCH
	if o.Dst.Addr().Is6() {
		msg.Family = unix.AF_INET6
	}
	m, err := k.rt.get(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, msg, nl.NewRtAttr(unix.RTA_DST, o.Dst.Masked().Addr().AsSlice()))
	if err != nil {
		return nil // an older kernel, or its answer is a refusal: nothing is known
	}
	r, ok := parseRoute(m)
	if !ok || r.dst != o.Dst.Masked() || r.metric == metric || r.index == l.index && r.via == o.Via {
		return nil
	}
	if other, err := k.rt.linkByIndex(r.index); err == nil && other != nil && k.mine(other) && r.protocol == routeProtocol {
		return nil // the way until now, which goes next
	}
	_ = k.rt.route(unix.RTM_DELROUTE, 0, l.index, o, metric)
	return cnm.Conflict("a route to %s exists and is not ours (via %s, protocol %d): remove it (ip route del %s), or give the network another subnet", o.Dst, r.via, r.protocol, o.Dst)
}

func (c *rtnl) route(typ, flags, index int, o dataplane.Route, metric uint32) error {
	msg := nl.NewRtMsg()
	if typ == unix.RTM_DELROUTE {
		msg = nl.NewRtDelMsg()
	}
	msg.Family, msg.Table, msg.Protocol, msg.Type = unix.AF_INET, unix.RT_TABLE_MAIN, routeProtocol, unix.RTN_UNICAST
	msg.Dst_len, msg.Scope = uint8(o.Dst.Bits()), unix.RT_SCOPE_UNIVERSE
	if o.Dst.Addr().Is6() {
		msg.Family = unix.AF_INET6
	} else if !o.Via.IsValid() {
		msg.Scope = unix.RT_SCOPE_LINK
	}
	if o.OnLink && o.Via.IsValid() {
		msg.Flags |= unix.RTNH_F_ONLINK
	}
	parts := []nl.NetlinkRequestData{msg, u32(unix.RTA_OIF, uint32(index))}
	if o.Dst.Bits() > 0 {
		parts = append(parts, nl.NewRtAttr(unix.RTA_DST, o.Dst.Masked().Addr().AsSlice()))
	}
	switch {
	case o.Via.Is6() && o.Dst.Addr().Is4(): // RFC 5549; struct rtvia (linux/rtnetlink.h)
		parts = append(parts, nl.NewRtAttr(unix.RTA_VIA, append(binary.NativeEndian.AppendUint16(nil, unix.AF_INET6), o.Via.AsSlice()...)))
	case o.Via.IsValid():
		parts = append(parts, nl.NewRtAttr(unix.RTA_GATEWAY, o.Via.AsSlice()))
	}
	if metric != defaultMetric(o.Dst) {
		parts = append(parts, u32(unix.RTA_PRIORITY, metric))
	}
	return c.do(typ, flags, parts...)
}

// adjustRoute: the destination has a route. Ours is brought to what is wanted,
// a stranger's that is as wanted serves, any other is a conflict.
func (c *rtnl) adjustRoute(l *link, o dataplane.Route, metric uint32) error {
	all, err := c.routes()
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.dst != o.Dst.Masked() || r.unreachable || r.metric != metric {
			continue
		}
		switch {
		case r.index == l.index && r.via == o.Via && (r.onLink || !o.OnLink):
			return nil
		case r.protocol != routeProtocol:
			return cnm.Conflict("a route to %s exists and is not ours (via %s, protocol %d)", o.Dst, r.via, r.protocol)
		}
		return c.route(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, l.index, o, metric)
	}
	return c.route(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, l.index, o, metric)
}

// defaultMetric is what the kernel gives a route made without one
// (IP6_RT_PRIO_USER).
func defaultMetric(dst netip.Prefix) uint32 {
	if dst.Addr().Is6() {
		return 1024
	}
	return 0
}

// route4or6 is one observed unicast route of the main table.
type route4or6 struct {
	index    int
	dst      netip.Prefix
	via      netip.Addr
	metric   uint32
	protocol uint8
	onLink   bool
	// unreachable is on no link, and so are those who look for a link's routes to skip it.
	unreachable bool
}

func (c *rtnl) routes() ([]route4or6, error) {
	msgs, err := c.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, &nl.RtMsg{})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var out []route4or6
	for _, m := range msgs {
		if r, ok := parseRoute(m); ok {
			out = append(out, r)
		}
	}
	return out, nil
}

// parseRoute reads a route of the main table that leads somewhere, or is unreachable.
func parseRoute(m []byte) (r route4or6, ok bool) {
	h := nl.DeserializeRtMsg(m)
	if h.Type != unix.RTN_UNICAST && h.Type != unix.RTN_UNREACHABLE || h.Flags&unix.RTM_F_CLONED != 0 {
		return r, false
	}
	r = route4or6{protocol: h.Protocol, onLink: h.Flags&unix.RTNH_F_ONLINK != 0, unreachable: h.Type == unix.RTN_UNREACHABLE}
	dst, table := netip.IPv4Unspecified(), uint32(h.Table)
	if h.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	} else if h.Family != unix.AF_INET {
		return r, false
	}
	ne := nl.NativeEndian()
	eachAttr(m[h.Len():], func(t int, b []byte) {
		switch t {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(b)
		case unix.RTA_GATEWAY:
			r.via, _ = netip.AddrFromSlice(b)
		case unix.RTA_VIA:
			if len(b) > 2 {
				r.via, _ = netip.AddrFromSlice(b[2:])
			}
		case unix.RTA_OIF:
			r.index = int(ne.Uint32(b))
		case unix.RTA_PRIORITY:
			r.metric = ne.Uint32(b)
		case unix.RTA_TABLE:
			table = ne.Uint32(b)
		}
	})
	if r.unreachable {
		r.index = 0 // of IPv6 it is the loopback's
	}
	r.dst = netip.PrefixFrom(dst, int(h.Dst_len))
	return r, table == unix.RT_TABLE_MAIN && dst.IsValid()
}

// lastMetric marks a route of the last resort as this instance's: it is on no link that
// could say whose it is. Nobody's own choice is as high.
func (k *Kernel) lastMetric() uint32 { return 0xFF<<24 | k.cfg.Instance&instanceBits }

// lastRoute answers "unreachable" for what has no better route.
func (a *applier) lastRoute(o dataplane.Route, del bool) error {
	if o.NS != "" {
		return cnm.Unsupported("%s: a route that leads nowhere is not yet possible inside of a sandbox", o.Key())
	}
	msg := nl.NewRtMsg()
	typ, flags := unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL
	if del {
		msg, typ, flags = nl.NewRtDelMsg(), unix.RTM_DELROUTE, 0
	}
	msg.Family, msg.Table, msg.Protocol, msg.Type = unix.AF_INET, unix.RT_TABLE_MAIN, routeProtocol, unix.RTN_UNREACHABLE
	msg.Dst_len, msg.Scope = uint8(o.Dst.Bits()), unix.RT_SCOPE_UNIVERSE
	if o.Dst.Addr().Is6() {
		msg.Family = unix.AF_INET6
	}
	parts := []nl.NetlinkRequestData{msg, u32(unix.RTA_PRIORITY, a.k.lastMetric())}
	if o.Dst.Bits() > 0 {
		parts = append(parts, nl.NewRtAttr(unix.RTA_DST, o.Dst.Masked().Addr().AsSlice()))
	}
	err := a.k.rt.do(typ, flags, parts...)
	if errors.Is(err, unix.EEXIST) || del && (errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT)) {
		return nil
	}
	return err
}

// marked says that a route bears this instance's mark itself, being on no link of ours.
func (k *Kernel) marked(r route4or6) bool {
	return r.protocol == routeProtocol && (r.unreachable && r.metric == k.lastMetric() || !r.unreachable && r.metric == k.borrowedMetric())
}

// markedRoutes are those of this instance on links that keep lets through, which are not
// ours, or, with nowhere, on none.
func (k *Kernel) markedRoutes(host *view, nowhere bool, keep func(*link) bool) (out []dataplane.Object) {
	for _, r := range host.routes {
		if !k.marked(r) {
			continue
		}
		if l := host.byIdx[r.index]; r.unreachable && nowhere {
			out = append(out, dataplane.Route{Dst: r.dst, Unreachable: true})
		} else if l != nil && !k.mine(l) && keep(l) {
			k.borrowed.note(l.name)
			out = append(out, dataplane.Route{Dst: r.dst, Via: r.via, Link: l.name, OnLink: r.onLink && r.via.IsValid()})
		}
	}
	return out
}

func anyLink(*link) bool { return true }
