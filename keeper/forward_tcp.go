package keeper

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// maxForwarded bounds the connections of one forwarded port. When they are
	// used up, clients wait in the listener's backlog.
	maxForwarded = 4096
	// dialTimeout is for an address on this host: it answers at once, or its
	// container's network is stuck.
	dialTimeout = 5 * time.Second
)

// tcpForwarder listens on one port and copies to another address. The copying
// is splice(2) in Go's io.Copy between two TCP sockets: the bytes stay in the
// kernel.
type tcpForwarder struct {
	logger *slog.Logger
	l      *net.TCPListener
	six    bool // an IPv6 socket
	slots  chan struct{}
	ctx    context.Context // ends dials
	cancel context.CancelFunc
	wg     sync.WaitGroup // accepting, and each connection

	mu     sync.Mutex
	to     netip.AddrPort
	frozen bool
	closed bool
	conns  map[*forwarded]struct{}
}

// forwarded is one connection through a forwarder.
type forwarded struct {
	client, server *net.TCPConn // server is nil while dialling
	// upDone, downDone: that direction came to its end and was passed on.
	upDone, downDone bool
	stuck            bool // it would not stop for an upgrade
}

func newTCPForwarder(logger *slog.Logger, l *net.TCPListener, to netip.AddrPort) *tcpForwarder {
	f := &tcpForwarder{
		logger: logger.With("forward", l.Addr().String()), to: to, l: l,
		slots: make(chan struct{}, maxForwarded), conns: map[*forwarded]struct{}{},
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		f.six = a.AddrPort().Addr().Is6()
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

func (f *tcpForwarder) accept() {
	for {
		select {
		case f.slots <- struct{}{}:
		case <-f.ctx.Done():
			return
		}
		c, err := f.l.AcceptTCP()
		if err == nil && f.fromIPv4(c) {
			_ = c.SetLinger(0)
			c.Close()
			<-f.slots
			continue
		}
		if err == nil {
			f.start(&forwarded{client: c})
			continue
		}
		<-f.slots
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		// Out of descriptors or memory: it passes, and must not spin until then.
		f.logger.Warn("a forwarded port cannot accept", "err", err)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-f.ctx.Done():
			return
		}
	}
}

// fromIPv4: on a socket that holds a port for both families (see pair) what comes
// from IPv4 was led away by no rule, and gets what a silent socket gives: a reset.
func (f *tcpForwarder) fromIPv4(c *net.TCPConn) bool {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	return ok && f.six && a.AddrPort().Addr().Unmap().Is4()
}

// start serves a connection, for which a slot is held.
func (f *tcpForwarder) start(c *forwarded) {
	f.mu.Lock()
	f.conns[c] = struct{}{}
	f.mu.Unlock()
	f.wg.Go(func() {
		defer func() { <-f.slots }()
		f.serve(c)
	})
}

func (f *tcpForwarder) serve(c *forwarded) {
	if c.server == nil && !f.dial(c) {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { f.copy(c, &c.upDone, c.server, c.client) })
	f.copy(c, &c.downDone, c.client, c.server)
	wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.frozen && !f.closed && !c.stuck && !(c.upDone && c.downDone) {
		return
	}
	delete(f.conns, c)
	c.client.Close()
	c.server.Close()
}

// dial connects to the container. If that fails the client gets a reset, as it
// would from the port itself: an orderly end would look like an empty answer.
func (f *tcpForwarder) dial(c *forwarded) bool {
	d := net.Dialer{Timeout: dialTimeout}
	d.SetMultipathTCP(false)
	f.mu.Lock()
	to := f.to
	f.mu.Unlock()
	s, err := d.DialContext(f.ctx, "tcp", to.String())
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && !f.closed {
		c.server = s.(*net.TCPConn)
		if f.frozen {
			_ = c.server.SetReadDeadline(past())
		}
		return true
	}
	if err == nil {
		s.Close()
	} else if f.frozen && !f.closed {
		return false // the next process dials again
	} else {
		f.logger.Debug("forwarded connection reset: the container does not answer", "client", c.client.RemoteAddr().String(), "to", to.String(), "err", err)
	}
	_ = c.client.SetLinger(0)
	c.client.Close()
	delete(f.conns, c)
	return false
}

// copy passes one direction on until its end. An end is passed on as a
// half-close, so that a client that has sent its request and shut down still
// gets the answer; a failure as a reset of both.
func (f *tcpForwarder) copy(c *forwarded, done *bool, dst, src *net.TCPConn) {
	f.mu.Lock()
	skip := *done
	f.mu.Unlock()
	if skip {
		return
	}
	_, err := io.Copy(dst, src)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.frozen && !f.closed && !c.stuck && errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	*done = true
	if err == nil {
		err = dst.CloseWrite()
	}
	if err != nil {
		for _, s := range []*net.TCPConn{dst, src} {
			_ = s.SetLinger(0)
			s.Close()
		}
	}
}

// retarget: connections that are open go on to where they lead.
func (f *tcpForwarder) retarget(to netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = to
}

func (f *tcpForwarder) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns) == 0
}

func (f *tcpForwarder) socket(b *bag) int { return b.take(f.l) }

func (f *tcpForwarder) close() {
	f.mu.Lock()
	f.closed = true
	f.cancel()
	f.l.Close()
	for c := range f.conns {
		if c.server != nil {
			_ = c.server.SetLinger(0)
			c.server.Close()
		}
		_ = c.client.SetLinger(0)
		c.client.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
	f.cancel()
}
