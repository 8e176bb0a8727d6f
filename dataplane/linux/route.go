package linux

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/dataplane"
)

func (a *applier) route(o dataplane.Route, del bool) error {
	if o.Via.IsValid() && o.Via.Is4() != o.Dst.Addr().Is4() {
		return cnm.Unsupported("route to %s via %s: a gateway of the other family is not yet possible", o.Dst, o.Via)
	}
	if o.Unreachable {
		return a.lastRoute(o, del)
	}
	c, l, err := a.place(o.NS, o.Link)
	if err != nil {
		return err
	}
	if l == nil {
		if del {
			return nil
		}
		return missing(o.NS, o.Link)
	}
	if del {
		// The message names our protocol: the kernel then spares others' routes.
		err := c.route(unix.RTM_DELROUTE, 0, l.index, o)
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		return err
	}
	err = c.route(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, l.index, o)
	switch {
	case errors.Is(err, unix.EEXIST):
		return c.adjustRoute(l, o)
	case errors.Is(err, unix.ENETUNREACH) && o.Via.IsValid():
		return fmt.Errorf("gateway %s is not on a network of %s: %w", o.Via, o.Link, err)
	}
	return err
}

func (c *rtnl) route(typ, flags, index int, o dataplane.Route) error {
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
	if o.Via.IsValid() {
		parts = append(parts, nl.NewRtAttr(unix.RTA_GATEWAY, o.Via.AsSlice()))
	}
	return c.do(typ, flags, parts...)
}

// adjustRoute: the destination has a route. Ours is brought to what is wanted,
// a stranger's that is as wanted serves, any other is a conflict.
func (c *rtnl) adjustRoute(l *link, o dataplane.Route) error {
	all, err := c.routes()
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.dst != o.Dst.Masked() || r.unreachable || r.metric != defaultMetric(o.Dst) {
			continue
		}
		switch {
		case r.index == l.index && r.via == o.Via && (r.onLink || !o.OnLink):
			return nil
		case r.protocol != routeProtocol:
			return cnm.Conflict("a route to %s exists and is not ours (via %s, protocol %d)", o.Dst, r.via, r.protocol)
		}
		return c.route(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, l.index, o)
	}
	return c.route(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, l.index, o)
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
	ne := nl.NativeEndian()
	var out []route4or6
	for _, m := range msgs {
		h := nl.DeserializeRtMsg(m)
		if h.Type != unix.RTN_UNICAST && h.Type != unix.RTN_UNREACHABLE || h.Flags&unix.RTM_F_CLONED != 0 {
			continue
		}
		r := route4or6{protocol: h.Protocol, onLink: h.Flags&unix.RTNH_F_ONLINK != 0, unreachable: h.Type == unix.RTN_UNREACHABLE}
		dst, table := netip.IPv4Unspecified(), uint32(h.Table)
		if h.Family == unix.AF_INET6 {
			dst = netip.IPv6Unspecified()
		} else if h.Family != unix.AF_INET {
			continue
		}
		eachAttr(m[h.Len():], func(t int, b []byte) {
			switch t {
			case unix.RTA_DST:
				dst, _ = netip.AddrFromSlice(b)
			case unix.RTA_GATEWAY:
				r.via, _ = netip.AddrFromSlice(b)
			case unix.RTA_OIF:
				r.index = int(ne.Uint32(b))
			case unix.RTA_PRIORITY:
				r.metric = ne.Uint32(b)
			case unix.RTA_TABLE:
				table = ne.Uint32(b)
			}
		})
		if table != unix.RT_TABLE_MAIN || !dst.IsValid() {
			continue
		}
		if r.unreachable {
			r.index = 0 // of IPv6 it is the loopback's
		}
		r.dst = netip.PrefixFrom(dst, int(h.Dst_len))
		out = append(out, r)
	}
	return out, nil
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

// lastRoutes are those of this instance.
func (k *Kernel) lastRoutes(host *view) (out []dataplane.Object) {
	for _, r := range host.routes {
		if r.unreachable && r.protocol == routeProtocol && r.metric == k.lastMetric() {
			out = append(out, dataplane.Route{Dst: r.dst, Unreachable: true})
		}
	}
	return out
}
