package live

import (
	"cmp"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/reading"
)

// Interfaces lists links and their addresses.
func (k *Kernel) Interfaces(ctx context.Context, ns string) (all []reading.Interface, err error) {
	err = ask(ns, unix.NETLINK_ROUTE, func(c *nfnl.Conn) (err error) {
		all, err = interfaces(ctx, c)
		return err
	})
	return all, err
}

func interfaces(ctx context.Context, c *nfnl.Conn) ([]reading.Interface, error) {
	type link struct {
		reading.Interface
		master int
	}
	links := map[int]*link{}
	err := c.Dump(ctx, nfnl.Message{Type: unix.RTM_GETLINK, Body: make([]byte, unix.SizeofIfInfomsg)}, func() { clear(links) }, func(typ uint16, b []byte) {
		if typ != unix.RTM_NEWLINK || len(b) < unix.SizeofIfInfomsg {
			return
		}
		var l link
		l.Interface, l.master = linkOf(b)
		links[l.Index] = &l
	})
	if err != nil {
		return nil, err
	}
	programs, err := filters(ctx, c)
	if err != nil {
		return nil, err
	}
	for link, names := range programs {
		if l := links[link]; l != nil {
			l.Filters = append(l.Filters, names...)
		}
	}
	var addrs []addr
	err = c.Dump(ctx, nfnl.Message{Type: unix.RTM_GETADDR, Body: make([]byte, unix.SizeofIfAddrmsg)}, func() { addrs = nil }, func(typ uint16, b []byte) {
		if a, ok := addrOf(b); ok && typ == unix.RTM_NEWADDR {
			addrs = append(addrs, a)
		}
	})
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		l := links[a.link]
		if l == nil {
			continue // it came between the two dumps
		}
		l.Addrs = append(l.Addrs, a.prefix)
		if a.flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 {
			l.Tentative = append(l.Tentative, a.prefix.Addr())
		}
	}
	var all []reading.Interface
	for _, l := range links {
		if m := links[l.master]; m != nil {
			l.Master = m.Name
		}
		all = append(all, l.Interface)
	}
	slices.SortFunc(all, func(a, b reading.Interface) int { return cmp.Compare(a.Index, b.Index) })
	return all, nil
}

// brport are attributes of a bridge's port (if_link.h).
const (
	brportState    = 1
	brportMode     = 4
	brportLearning = 8
	brportIsolated = 33

	brCallIPTables = 36 // of the bridge itself
)

var stpStates = []string{"disabled", "listening", "learning", "forwarding", "blocking"}

// linkOf decodes RTM_NEWLINK (rtnetlink(7)).
func linkOf(b []byte) (l reading.Interface, master int) {
	l.Index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	flags := binary.NativeEndian.Uint32(b[8:])
	l.Up, l.NoARP = flags&unix.IFF_UP != 0, flags&unix.IFF_NOARP != 0
	var peer int
	nfnl.Each(b[unix.SizeofIfInfomsg:], func(typ uint16, d []byte) {
		switch typ {
		case unix.IFLA_IFNAME:
			l.Name = nfnl.Str(d)
		case unix.IFLA_ADDRESS:
			if len(d) > 0 {
				l.MAC = net.HardwareAddr(d).String()
			}
		case unix.IFLA_MTU:
			l.MTU = int(nfnl.Num(d))
		case unix.IFLA_CARRIER:
			l.Carrier = nfnl.Num(d) != 0
		case unix.IFLA_MASTER:
			master = int(nfnl.Num(d))
		case unix.IFLA_LINK:
			peer = int(nfnl.Num(d))
		case unix.IFLA_GROUP:
			l.Group = uint32(nfnl.Num(d))
		case unix.IFLA_STATS64:
			l.Stats = counters(d)
		case unix.IFLA_XDP:
			nfnl.Each(d, func(typ uint16, d []byte) {
				if typ == unix.IFLA_XDP_ATTACHED && nfnl.Num(d) != 0 {
					l.Filters = append(l.Filters, "xdp")
				}
			})
		case unix.IFLA_LINKINFO:
			slave := ""
			var data, own []byte
			nfnl.Each(d, func(typ uint16, d []byte) {
				switch typ {
				case unix.IFLA_INFO_KIND:
					l.Kind = nfnl.Str(d)
				case unix.IFLA_INFO_DATA:
					own = d
				case unix.IFLA_INFO_SLAVE_KIND:
					slave = nfnl.Str(d)
				case unix.IFLA_INFO_SLAVE_DATA:
					data = d
				}
			})
			if slave == "bridge" {
				l.Port = portOf(data)
			}
			if l.Kind == "bridge" {
				nfnl.Each(own, func(typ uint16, d []byte) {
					l.CallIPTables = l.CallIPTables || typ == brCallIPTables && nfnl.Num(d) != 0
				})
			}
		}
	})
	if l.Kind == "veth" {
		l.Peer = peer
	}
	return l, master
}

func portOf(b []byte) *reading.BridgePort {
	p := &reading.BridgePort{}
	nfnl.Each(b, func(typ uint16, d []byte) {
		on := nfnl.Num(d) != 0
		switch typ {
		case brportState:
			if n := int(nfnl.Num(d)); n < len(stpStates) {
				p.State = stpStates[n]
			}
		case brportMode:
			p.Hairpin = on
		case brportLearning:
			p.Learning = on
		case brportIsolated:
			p.Isolated = on
		}
	})
	return p
}

// counters decodes struct rtnl_link_stats64: rx and tx of packets, bytes, errors and
// drops take turns.
func counters(b []byte) (c reading.Counters) {
	for i, to := range []*uint64{&c.RxPackets, &c.TxPackets, &c.RxBytes, &c.TxBytes, &c.RxErrors, &c.TxErrors, &c.RxDropped, &c.TxDropped} {
		if len(b) >= 8*(i+1) {
			*to = binary.NativeEndian.Uint64(b[8*i:])
		}
	}
	return c
}

type addr struct {
	link   int
	prefix netip.Prefix
	flags  uint32
}

// addrOf decodes RTM_NEWADDR.
func addrOf(b []byte) (a addr, ok bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return a, false
	}
	a.flags = uint32(b[2])
	a.link = int(binary.NativeEndian.Uint32(b[4:]))
	var local, address netip.Addr
	nfnl.Each(b[unix.SizeofIfAddrmsg:], func(typ uint16, d []byte) {
		switch typ {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(d)
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(d)
		case unix.IFA_FLAGS:
			a.flags = uint32(nfnl.Num(d))
		}
	})
	if !local.IsValid() {
		local = address // on a point-to-point link IFA_ADDRESS is the other end
	}
	a.prefix = netip.PrefixFrom(local, int(b[1]))
	return a, a.prefix.IsValid()
}

// names are the links' names by index.
func names(ctx context.Context, c *nfnl.Conn) (map[int]string, error) {
	all := map[int]string{}
	err := c.Dump(ctx, nfnl.Message{Type: unix.RTM_GETLINK, Body: make([]byte, unix.SizeofIfInfomsg)}, func() { clear(all) }, func(_ uint16, b []byte) {
		if len(b) < unix.SizeofIfInfomsg {
			return
		}
		l, _ := linkOf(b)
		all[l.Index] = l.Name
	})
	return all, err
}
