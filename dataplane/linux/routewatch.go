package linux

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// OthersRoutes tells, until the context ends, that HostRoutes may answer something
// else: an address or a route came or went on a link that is not ours. One token
// stands for any number of changes. The channel is closed at the end.
func (k *Kernel) OthersRoutes(ctx context.Context) (<-chan struct{}, error) {
	w := &routeWatch{k: k, ours: map[int]bool{}}
	err := k.inHost(func() (err error) {
		if w.s, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
			unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE); err != nil {
			return err
		}
		w.rt, err = newRTNL()
		return err
	})
	if err == nil {
		tv := unix.NsecToTimeval(watchPatience.Nanoseconds())
		err = w.s.SetReceiveTimeout(&tv)
	}
	if err != nil {
		w.close()
		return nil, fmt.Errorf("watch the host's routes: %w", err)
	}
	news := make(chan struct{}, 1)
	go func() {
		defer close(news)
		defer w.close()
		for ctx.Err() == nil {
			changed, err := w.batch()
			if err != nil {
				k.log.Error("the host's routes are watched no more", "err", err)
				return
			}
			if changed {
				select {
				case news <- struct{}{}:
				default:
				}
			}
		}
	}()
	return news, nil
}

type routeWatch struct {
	k  *Kernel
	s  *nl.NetlinkSocket
	rt *rtnl
	// ours are the links that carry our mark, as far as they were met: once a link is
	// deleted, its addresses' messages do not say whose it was.
	ours map[int]bool
}

func (w *routeWatch) close() {
	if w.s != nil {
		w.s.Close()
	}
	if w.rt != nil {
		w.rt.close()
	}
}

// batch waits for messages and says whether one is of somebody else's.
func (w *routeWatch) batch() (changed bool, err error) {
	msgs, from, err := w.s.Receive()
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false, nil
	case errors.Is(err, unix.ENOBUFS):
		return true, nil // something was lost: look
	case err != nil:
		return false, err
	case from != nil && from.Pid != 0:
		return false, nil // not the kernel
	}
	for _, m := range msgs {
		index := 0
		switch m.Header.Type {
		case unix.RTM_NEWLINK:
			if len(m.Data) >= unix.SizeofIfInfomsg {
				l := parseLink(m.Data)
				if w.mine(l) {
					w.ours[l.index] = true
				}
			}
			continue
		case unix.RTM_DELLINK:
			if len(m.Data) >= unix.SizeofIfInfomsg {
				delete(w.ours, parseLink(m.Data).index)
			}
			continue
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			if len(m.Data) >= unix.SizeofIfAddrmsg {
				index = int(nl.DeserializeIfAddrmsg(m.Data).Index)
			}
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			if len(m.Data) >= unix.SizeofRtMsg {
				eachAttr(m.Data[unix.SizeofRtMsg:], func(t int, b []byte) {
					if t == unix.RTA_OIF && len(b) >= 4 {
						index = int(nl.NativeEndian().Uint32(b))
					}
				})
			}
		default:
			continue
		}
		changed = changed || !w.isOurs(index)
	}
	return changed, nil
}

func (w *routeWatch) mine(l *link) bool { return w.k.mine(l) || l.group == w.k.doom }

// isOurs looks a link up that was not met yet.
func (w *routeWatch) isOurs(index int) bool {
	if index == 0 {
		return false
	}
	if w.ours[index] {
		return true
	}
	l, err := w.rt.linkByIndex(index)
	if err != nil || l == nil || !w.mine(l) {
		return false
	}
	w.ours[index] = true
	return true
}
