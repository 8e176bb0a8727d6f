package linux

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"linkspan/dataplane"
)

func (a *applier) addr(o dataplane.Addr, del bool) error {
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
		err = c.addr(unix.RTM_DELADDR, 0, l.index, o.Prefix)
		if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		return err
	}
	err = c.addr(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, l.index, o.Prefix)
	switch {
	case err == nil:
		a.k.news.tell(o)
	case errors.Is(err, unix.EEXIST):
		// IPv4 tells addresses apart by prefix length too, IPv6 does not (ipv6_add_addr).
		if err := c.sameAddr(l, o.Prefix); err != nil || o.NS != "" {
			return err
		}
		return c.connected(l, o.Prefix)
	case errors.Is(err, unix.EACCES) && o.Prefix.Addr().Is6():
		return fmt.Errorf("IPv6 is switched off on %s (net.ipv6.conf.*.disable_ipv6): %w", o.Link, err)
	}
	return err
}

func (c *rtnl) addr(typ, flags, index int, p netip.Prefix) error {
	msg := nl.NewIfAddrmsg(unix.AF_INET)
	msg.Prefixlen, msg.Index = uint8(p.Bits()), uint32(index)
	ip := p.Addr().AsSlice()
	parts := []nl.NetlinkRequestData{msg, nl.NewRtAttr(unix.IFA_LOCAL, ip), nl.NewRtAttr(unix.IFA_ADDRESS, ip)}
	if p.Addr().Is6() {
		msg.Family = unix.AF_INET6
		// We hand addresses out ourselves; waiting a second for their duplicates
		// would only make the first packets fail.
		msg.Flags = unix.IFA_F_NODAD
	} else if p.Bits() < 31 { // RFC 3021: no broadcast on /31 and /32
		parts = append(parts, nl.NewRtAttr(unix.IFA_BROADCAST, broadcast(p)))
	}
	return c.do(typ, flags, parts...)
}

// connected puts the route to an address's subnet back, as the kernel made it with the
// address (fib_add_ifaddr, addrconf_prefix_route), so that it goes with the address.
func (c *rtnl) connected(l *link, p netip.Prefix) error {
	if !l.up() || p.Bits() == p.Addr().BitLen() {
		return nil
	}
	msg := nl.NewRtMsg()
	msg.Family, msg.Table, msg.Protocol, msg.Type = unix.AF_INET, unix.RT_TABLE_MAIN, unix.RTPROT_KERNEL, unix.RTN_UNICAST
	msg.Dst_len, msg.Scope = uint8(p.Bits()), unix.RT_SCOPE_LINK
	parts := []nl.NetlinkRequestData{msg, u32(unix.RTA_OIF, uint32(l.index)), nl.NewRtAttr(unix.RTA_DST, p.Masked().Addr().AsSlice())}
	if p.Addr().Is6() {
		msg.Family, msg.Scope = unix.AF_INET6, unix.RT_SCOPE_UNIVERSE
		parts = append(parts, u32(unix.RTA_PRIORITY, prefixMetric))
	} else {
		parts = append(parts, nl.NewRtAttr(unix.RTA_PREFSRC, p.Addr().AsSlice()))
	}
	err := c.do(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, parts...)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// prefixMetric is the metric of connected routes of IPv6 (IP6_RT_PRIO_ADDRCONF).
const prefixMetric = 256

func broadcast(p netip.Prefix) []byte {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return b[:]
}

func (c *rtnl) sameAddr(l *link, p netip.Prefix) error {
	all, err := c.addrs()
	if err != nil {
		return err
	}
	for _, have := range all {
		if have.index == l.index && have.prefix == p {
			return nil
		}
	}
	return fmt.Errorf("%s is on %s with another prefix length: %w", p.Addr(), l.name, unix.EEXIST)
}

// From linux/if_addr.h.
const (
	ifaProto    = 11
	protoMadeLL = 3 // IFAPROT_KERNEL_LL: a link-local address that the kernel made by itself
)

// address is one observed address.
type address struct {
	index     int
	prefix    netip.Prefix
	permanent bool
	proto     byte // IFA_PROTO: who made it; 0 on kernels before 5.18
}

func (c *rtnl) addrs() ([]address, error) {
	msgs, err := c.dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC))
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []address
	for _, m := range msgs {
		h := nl.DeserializeIfAddrmsg(m)
		var local, addr netip.Addr
		flags, proto := uint32(h.IfAddrmsg.Flags), byte(0)
		eachAttr(m[h.Len():], func(t int, b []byte) {
			switch t {
			case unix.IFA_LOCAL:
				local, _ = netip.AddrFromSlice(b)
			case unix.IFA_ADDRESS:
				addr, _ = netip.AddrFromSlice(b)
			case ifaProto:
				if len(b) > 0 {
					proto = b[0]
				}
			case unix.IFA_FLAGS:
				flags = nl.NativeEndian().Uint32(b)
			}
		})
		if !local.IsValid() { // IPv6 without a peer has only IFA_ADDRESS
			local = addr
		}
		if !local.IsValid() {
			continue
		}
		out = append(out, address{int(h.Index), netip.PrefixFrom(local, int(h.Prefixlen)), flags&unix.IFA_F_PERMANENT != 0, proto})
	}
	return out, nil
}

// dropAddrs takes all addresses off a link.
func (c *rtnl) dropAddrs(index int) error {
	all, err := c.addrs()
	for _, have := range all {
		if err == nil && have.index == index {
			err = c.addr(unix.RTM_DELADDR, 0, index, have.prefix)
			if errors.Is(err, unix.EADDRNOTAVAIL) { // a secondary, gone with its primary
				err = nil
			}
		}
	}
	return err
}

func (a *applier) up(o dataplane.Up, del bool) (err error) {
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
	if o.NS == "" {
		defer a.k.made.begin(o.Link)()
		defer func() {
			if err == nil {
				a.k.made.noteUp(o.Link, !del)
			}
		}()
	}
	if l.up() != del {
		return nil // as wanted
	}
	flags := uint32(unix.IFF_UP)
	if del {
		flags = 0
	}
	if err := c.set(l.index, l.name, flags, unix.IFF_UP); err != nil {
		return a.k.portTaken(l, err)
	}
	l.flags = l.flags&^unix.IFF_UP | flags
	return nil
}
