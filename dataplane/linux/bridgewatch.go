package linux

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watchPatience is how long the watcher waits for news before it looks whether it
// shall end.
const watchPatience = 500 * time.Millisecond

// OthersBridges tells, until the context ends, that a bridge which is not ours came
// or went: who needs bridge-nf may have changed. One token stands for any number of
// changes. The channel is closed at the end.
func (k *Kernel) OthersBridges(ctx context.Context) (<-chan struct{}, error) {
	var s *nl.NetlinkSocket
	err := k.inHost(func() (err error) {
		s, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch the host's links: %w", err)
	}
	tv := unix.NsecToTimeval(watchPatience.Nanoseconds())
	if err := s.SetReceiveTimeout(&tv); err != nil {
		s.Close()
		return nil, fmt.Errorf("watch the host's links: %w", err)
	}
	news := make(chan struct{}, 1)
	go func() {
		defer close(news)
		defer s.Close()
		for ctx.Err() == nil {
			changed, err := k.othersBridge(s)
			if err != nil {
				k.log.Error("the host's links are watched no more", "err", err)
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

// othersBridge waits for a batch of messages and says whether one is of a bridge
// that is not ours.
func (k *Kernel) othersBridge(s *nl.NetlinkSocket) (changed bool, err error) {
	msgs, from, err := s.Receive()
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
		if m.Header.Type != unix.RTM_NEWLINK && m.Header.Type != unix.RTM_DELLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		if l := parseLink(m.Data); l.kind == "bridge" && !k.mine(l) && l.group != k.doom {
			changed = true
		}
	}
	return changed, nil
}
