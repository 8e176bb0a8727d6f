package keeper

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// together is how many ports one worker binds at a time; fewer are not worth a
	// second worker.
	together = 64
	// workers bind at once. The kernel takes some five microseconds for a port, and
	// its tables are locked by bucket.
	workers = 2
	// pairFrom is the size of a range from which on one socket holds a port for
	// both families.
	pairFrom = 256
	// listenBacklog is capped by the kernel (somaxconn).
	listenBacklog = 4096
)

// parallel calls do for every place from 0 to n-1, until one says false.
func parallel(n int, do func(i int) bool) {
	if n <= together {
		for i := range n {
			if !do(i) {
				return
			}
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				from := int(next.Add(together)) - together
				if from >= n {
					return
				}
				for i := from; i < min(from+together, n); i++ {
					if !do(i) {
						next.Store(int64(n))
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// pair finds ranges that are wanted on every address of both families. One IPv6
// socket that takes IPv4 too then holds a port of each: half of the descriptors,
// of the memory (a TCP socket is 3.7 KB of the kernel's) and of the time. It
// listens, for what is forwarded on IPv6; IPv4 connections that no rule led away
// are reset by the forwarder.
func pair(made []*claim) {
	for _, four := range made {
		q := four.res.req
		if q.Proto != "tcp" || q.count() < pairFrom || !q.Addr.Is4() || !q.Addr.IsUnspecified() || q.ForwardTo.IsValid() {
			continue
		}
		for _, six := range made {
			p := six.res.req
			if p.Proto == "tcp" && p.Owner == q.Owner && p.Port == q.Port && p.PortEnd == q.PortEnd &&
				p.Addr.Is6() && p.Addr.IsUnspecified() && p.ForwardTo.IsValid() && six.twin == nil {
				six.twin, four.twin = four, six
				break
			}
		}
	}
}

// bindAll makes the sockets of what was claimed. The error is that of the first
// request and port, whoever met one first.
func (t *portTable) bindAll(ctx context.Context, made []*claim) error {
	pair(made)
	type slot struct {
		c     *claim
		place int
	}
	var slots []slot
	var w *watch
	for _, c := range made {
		q := c.res.req
		if c.twin != nil && q.Addr.Is4() {
			continue // its twin binds it
		}
		if q.ForwardTo.IsValid() && w == nil {
			var err error
			if w, err = t.watching(); err != nil {
				return err
			}
		}
		for i := range c.res.sockets {
			slots = append(slots, slot{c, i})
		}
	}
	var mu sync.Mutex
	var first error
	at := len(slots)
	parallel(len(slots), func(i int) bool {
		err := context.Cause(ctx)
		if err == nil {
			err = t.bind(slots[i].c, slots[i].place, w)
		}
		if err == nil {
			return true
		}
		mu.Lock()
		defer mu.Unlock()
		if i < at {
			at, first = i, err
		}
		return false
	})
	return first
}

// bind makes the socket of one port.
func (t *portTable) bind(c *claim, place int, w *watch) error {
	r := c.res
	q, port := r.req, r.req.Port+uint16(place)
	var fd int
	var err error
	switch {
	case !q.ForwardTo.IsValid():
		fd, err = bindPort(q.Proto, q.at(place))
	case c.twin != nil:
		fd, err = listenTCP(q.at(place), true)
		if err != nil {
			// Which of the two is taken? It can also be neither: a former server's
			// connections in TIME_WAIT.
			four := c.twin.res
			var fd4 int
			if fd4, err = bindPort(q.Proto, four.req.at(place)); err != nil {
				return portError(c.twin.index, four.req, port, err)
			}
			four.sockets[place] = int32(fd4)
			fd, err = listenTCP(q.at(place), false)
		}
	case q.Proto == "tcp":
		fd, err = listenTCP(q.at(place), false)
	default:
		fd, err = listenUDP(q.at(place))
	}
	if err != nil {
		return portError(c.index, q, port, err)
	}
	r.sockets[place] = int32(fd)
	if q.ForwardTo.IsValid() {
		if err := w.add(fd, r.serial, place); err != nil {
			return portError(c.index, q, port, err)
		}
	}
	return nil
}

// speak makes a silent socket serve, and silence the other way round. The port is
// held all the time.
func speak(proto string, fd int, q PortRequest) error {
	if proto == "udp" {
		// Former versions of the keeper dropped by a filter. What came while no one was
		// to get it is not for who gets the next.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		for buf := make([]byte, 1); ; {
			if _, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT|unix.MSG_TRUNC); err != nil && err != unix.EINTR {
				break
			}
		}
		// The kernel doubles what it is told (socket(7)).
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, udpBuffer), wantDestination(fd, q.Addr))
	}
	err := unix.Listen(fd, listenBacklog)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	return err
}

func silence(proto string, fd int) error {
	if proto == "udp" {
		return smallBuffer(fd)
	}
	// As after bindPastTimeWait: bound, exclusive, and not listening.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0); err != nil {
		return err
	}
	return unix.Shutdown(fd, unix.SHUT_RDWR)
}

// udpBuffer is half of what a UDP socket has by default.
const udpBuffer = 106496
