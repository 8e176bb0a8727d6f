package linux

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// rtaxMTU is RTAX_MTU (linux/rtnetlink.h).
const rtaxMTU = 2

// Way asks the kernel how packets of the host's own leave to an address; an address
// that nothing leads to is cnm.ErrUnavailable.
func (k *Kernel) Way(_ context.Context, to netip.Addr) (dataplane.Way, error) {
	to = to.Unmap()
	rt, err := k.hostRTNL()
	if err != nil {
		return dataplane.Way{}, err
	}
	defer rt.close()
	msg := &nl.RtMsg{}
	msg.Family, msg.Dst_len = unix.AF_INET, uint8(to.BitLen())
	if to.Is6() {
		msg.Family = unix.AF_INET6
	}
	m, err := rt.get(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, msg, nl.NewRtAttr(unix.RTA_DST, to.AsSlice()))
	if err != nil {
		return dataplane.Way{}, noWay(to, err)
	}
	h := nl.DeserializeRtMsg(m)
	w, index, mtu := dataplane.Way{Local: h.Type == unix.RTN_LOCAL}, 0, 0
	ne := nl.NativeEndian()
	eachAttr(m[h.Len():], func(t int, b []byte) {
		switch t {
		case unix.RTA_OIF:
			index = int(ne.Uint32(b))
		case unix.RTA_GATEWAY:
			w.Via, _ = netip.AddrFromSlice(b)
		case unix.RTA_VIA: // a gateway of the other family (RFC 5549): struct rtvia
			if len(b) > 2 {
				w.Via, _ = netip.AddrFromSlice(b[2:])
			}
		case unix.RTA_PREFSRC:
			w.Src, _ = netip.AddrFromSlice(b)
		case unix.RTA_METRICS:
			eachAttr(b, func(t int, b []byte) {
				if t == rtaxMTU && len(b) == 4 {
					mtu = int(ne.Uint32(b))
				}
			})
		}
	})
	switch h.Type {
	case unix.RTN_UNICAST, unix.RTN_LOCAL:
	case unix.RTN_UNREACHABLE: // of IPv6, these are answers and no errors
		return dataplane.Way{}, noWay(to, unix.EHOSTUNREACH)
	default:
		return dataplane.Way{}, noWay(to, unix.ENETUNREACH)
	}
	l, err := rt.linkByIndex(index)
	if err != nil || l == nil {
		return dataplane.Way{}, errors.Join(err, noWay(to, unix.ENODEV))
	}
	w.Dev, w.DevMTU, w.MTU = l.name, l.mtu, l.mtu
	if mtu > 0 && mtu < w.MTU {
		w.MTU = mtu
	}
	return w, nil
}

func noWay(to netip.Addr, err error) error {
	return cnm.Errorf(cnm.ErrUnavailable, "no route of this host leads to %s: %w", to, err)
}

// Place says on which link of the host an address is, with its subnet; a link without a
// name (ok false) is none.
func (k *Kernel) Place(_ context.Context, a netip.Addr) (dev string, subnet netip.Prefix, mtu int, ok bool, err error) {
	a = a.Unmap()
	rt, err := k.hostRTNL()
	if err != nil {
		return "", subnet, 0, false, err
	}
	defer rt.close()
	all, err := rt.addrs()
	if err != nil {
		return "", subnet, 0, false, err
	}
	for _, have := range all {
		if have.prefix.Addr() != a {
			continue
		}
		l, err := rt.linkByIndex(have.index)
		if err != nil || l == nil {
			return "", subnet, 0, false, err
		}
		return l.name, have.prefix, l.mtu, true, nil
	}
	return "", subnet, 0, false, nil
}

// Underlay has a token whenever a link that is not ours, its MTU, its addresses or a
// route over it changed: Way and Place may answer something else. It is closed when the
// context has ended. What the kernel learns of a path's MTU by itself raises no news.
func (k *Kernel) Underlay(ctx context.Context) (<-chan struct{}, error) {
	news := make(chan struct{}, 1)
	w := &linkWatch{k: k, bridges: make(chan struct{}, 1), routes: news, links: news, tell: func(dataplane.Touch) {}}
	if err := k.inHost(w.open); err != nil {
		w.close()
		return nil, fmt.Errorf("watch the underlay: %w", err)
	}
	context.AfterFunc(ctx, w.close)
	go func() {
		w.run()
		close(news)
	}()
	return news, nil
}
