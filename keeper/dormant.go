package keeper

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A forwarded port that no one uses costs its socket and nothing else: no
// goroutine, no buffer. One epoll descriptor watches all of them, and itself lies
// in Go's poller, so that no thread waits. The first client wakes the port: it
// gets a forwarder, until no one has used that for a while.

// watch tells which of many sockets has something to read.
type watch struct {
	fd   int
	file *os.File
	raw  syscall.RawConn
	wake func(serial int32, place int)
	left sync.WaitGroup
	quit chan struct{}
}

func newWatch(wake func(serial int32, place int), rest func()) (*watch, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	// Only descriptors that do not block get into Go's poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	w := &watch{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), wake: wake, quit: make(chan struct{})}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		w.file.Close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	w.left.Go(w.run)
	w.left.Go(func() {
		tick := time.NewTicker(restTime)
		defer tick.Stop()
		for {
			select {
			case <-w.quit:
				return
			case <-tick.C:
				rest()
			}
		}
	})
	return w, nil
}

func (w *watch) run() {
	var events [64]unix.EpollEvent
	for {
		var n int
		var werr error
		err := w.raw.Read(func(fd uintptr) bool {
			for {
				if n, werr = unix.EpollWait(int(fd), events[:], 0); werr != unix.EINTR {
					return n != 0 || werr != nil
				}
			}
		})
		if err != nil || werr != nil {
			return // stopped
		}
		for _, e := range events[:n] {
			w.wake(e.Fd, int(e.Pad))
		}
	}
}

// event: once, so that a port that cannot wake does not spin. The kernel hands
// Fd and Pad back as they are: 64 bits of ours (epoll_ctl(2)).
func event(serial int32, place int) *unix.EpollEvent {
	return &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: serial, Pad: int32(place)}
}

func (w *watch) add(fd int, serial int32, place int) error {
	return unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, fd, event(serial, place))
}

func (w *watch) again(fd int, serial int32, place int) error {
	return unix.EpollCtl(w.fd, unix.EPOLL_CTL_MOD, fd, event(serial, place))
}

// remove must come before a close when the socket lives on in a duplicate: epoll
// knows the socket, not the number.
func (w *watch) remove(fd int) { _ = unix.EpollCtl(w.fd, unix.EPOLL_CTL_DEL, fd, nil) }

func (w *watch) stop() {
	close(w.quit)
	_ = w.file.SetDeadline(past())
	w.left.Wait()
	w.file.Close()
}

// watching is the watch, made when it is needed first.
func (t *portTable) watching() (*watch, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watch == nil {
		w, err := newWatch(t.wake, t.rest)
		if err != nil {
			return nil, err
		}
		t.watch = w
	}
	return t.watch, nil
}

// wake gives a port its forwarder. What is woken for nothing just waits.
func (t *portTable) wake(serial int32, place int) {
	t.mu.Lock()
	r, w := t.serials[serial], t.watch
	t.mu.Unlock()
	if r == nil || w == nil {
		return
	}
	<-r.ready // a client that is faster than the reservation's end
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || !r.req.ForwardTo.IsValid() || r.sockets[place] < 0 {
		return
	}
	fd := int(r.sockets[place])
	f, err := t.forwarder(r.req, place, fd)
	if err != nil {
		t.logger.Warn("a forwarded port cannot serve; it is tried again", "port", r.req.at(place).String(), "err", err)
		time.AfterFunc(100*time.Millisecond, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if !r.closed && r.sockets[place] == int32(fd) {
				_ = w.again(fd, serial, place)
			}
		})
		return
	}
	w.remove(fd)
	unix.Close(fd)
	r.sockets[place] = -1
	r.wakeUp(place, f)
}

func (r *reservation) wakeUp(place int, f forwarder) {
	if r.awake == nil {
		r.awake = map[int]forwarder{}
	}
	r.awake[place] = f
}

// forwarder starts one on a duplicate of a socket.
func (t *portTable) forwarder(q PortRequest, place, fd int) (forwarder, error) {
	// The descriptor stays ours: a file would close it.
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(dup), "forwarded")
	defer f.Close()
	if q.Proto == "udp" {
		return newUDP(t.logger, t.chunks, f, q.target(place))
	}
	return newTCP(t.logger, f, q.target(place))
}

func newTCP(logger *slog.Logger, f *os.File, to netip.AddrPort) (*tcpForwarder, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	tl, ok := l.(*net.TCPListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("a %T is no TCP listener", l)
	}
	fw := newTCPForwarder(logger, tl, to)
	fw.wg.Go(fw.accept)
	return fw, nil
}

func newUDP(logger *slog.Logger, c *chunks, f *os.File, to netip.AddrPort) (*udpForwarder, error) {
	l, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	ul, ok := l.(*net.UDPConn)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("a %T is no UDP socket", l)
	}
	fw, err := newUDPForwarder(logger, c, ul, to)
	if err != nil {
		l.Close()
		return nil, err
	}
	fw.wg.Go(fw.receive)
	return fw, nil
}

// rest puts forwarders that serve no one back to sleep.
func (t *portTable) rest() {
	t.mu.Lock()
	var all []*reservation
	for _, r := range t.held {
		if r.made() {
			all = append(all, r)
		}
	}
	w := t.watch
	t.mu.Unlock()
	for _, r := range all {
		r.mu.Lock()
		for place, f := range r.awake {
			if w != nil && f.idle() {
				t.sleep(r, place, f, w)
			}
		}
		r.mu.Unlock()
	}
}

// sleep ends a forwarder and watches its socket. A client that comes in between
// is in the socket's queue, or among what the forwarder had: then it goes on. The
// reservation's lock is held.
func (t *portTable) sleep(r *reservation, place int, f forwarder, w *watch) {
	var b bag
	fd := f.socket(&b)
	if fd < 0 {
		return // no descriptor is left; another time
	}
	var rest bag
	saved := f.freeze(&rest)
	delete(r.awake, place)
	if len(saved.Conns)+len(saved.Sessions) > 0 {
		if fw, err := t.thawForwarder(r.req.Proto, saved); err == nil {
			r.wakeUp(place, fw)
			unix.Close(fd)
			return
		}
	}
	if saved.Listener >= 0 {
		unix.Close(saved.Listener)
	}
	r.sockets[place] = int32(fd)
	if err := w.add(fd, r.serial, place); err != nil {
		t.logger.Error("a forwarded port is asleep and not watched", "port", r.req.at(place).String(), "err", err)
	}
}

// lead makes a reservation lead elsewhere, or nowhere: it is then silent. No
// socket is let go of.
func (t *portTable) lead(r *reservation, to netip.AddrPort) error {
	w, err := t.watching()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.req.ForwardTo
	switch {
	case r.closed || was == to:
		return nil
	case was.IsValid() && to.IsValid():
		r.req.ForwardTo = to
		for place, f := range r.awake {
			f.retarget(r.req.target(place))
		}
		return nil
	case to.IsValid():
		var errs []error
		r.req.ForwardTo = to
		for place, fd := range r.sockets {
			if fd < 0 {
				continue
			}
			err := speak(r.req.Proto, int(fd), r.req)
			if err == nil {
				err = w.add(int(fd), r.serial, place)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	return r.silence(w)
}

// silence makes a forwarding reservation silent. Its connections end: there is no
// one any more whom they could lead to. The lock is held.
func (r *reservation) silence(w *watch) error {
	var errs []error
	for place, f := range r.awake {
		var b bag
		fd := f.socket(&b)
		if fd < 0 {
			errs = append(errs, b.err)
			continue // it goes on to the old address
		}
		f.close()
		delete(r.awake, place)
		r.sockets[place] = int32(fd)
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	r.req.ForwardTo = netip.AddrPort{}
	for _, fd := range r.sockets {
		if fd >= 0 {
			w.remove(int(fd))
			errs = append(errs, silence(r.req.Proto, int(fd)))
		}
	}
	return errors.Join(errs...)
}
