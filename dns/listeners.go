package dns

import (
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// listeners are a view's sockets, our own duplicates.
type listeners struct {
	udp   *net.UDPConn
	batch *ipv4.PacketConn // the same socket
	tcp   net.Listener
	ns    *os.File // nil: no other namespace

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
	// draining: no connection is read any more.
	draining bool
}

// listen duplicates what it is handed.
func listen(s *Sockets) (l *listeners, err error) {
	l = &listeners{conns: map[net.Conn]bool{}}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if s.UDP == nil || s.TCP == nil {
		return l, fmt.Errorf("needs a datagram and a listening socket")
	}
	pc, err := net.FilePacketConn(s.UDP)
	if err != nil {
		return l, fmt.Errorf("datagram socket: %w", err)
	}
	udp, ok := pc.(*net.UDPConn)
	if !ok {
		_ = pc.Close()
		return l, fmt.Errorf("datagram socket: it is a %T", pc)
	}
	l.udp, l.batch = udp, ipv4.NewPacketConn(udp)
	if l.tcp, err = net.FileListener(s.TCP); err != nil {
		return l, fmt.Errorf("listening socket: %w", err)
	}
	if s.Namespace != nil {
		rc, err := s.Namespace.SyscallConn()
		if err != nil {
			return l, fmt.Errorf("namespace: %w", err)
		}
		fd, dupErr := -1, error(nil)
		if err := rc.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
			return l, fmt.Errorf("namespace: %w", err)
		}
		if dupErr != nil {
			return l, fmt.Errorf("namespace: %w", dupErr)
		}
		l.ns = os.NewFile(uintptr(fd), s.Namespace.Name())
	}
	return l, nil
}

// close ends serving; nil is closed.
func (l *listeners) close() {
	if l == nil {
		return
	}
	if l.udp != nil {
		_ = l.udp.Close()
	}
	if l.tcp != nil {
		_ = l.tcp.Close()
	}
	if l.ns != nil {
		_ = l.ns.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.conns {
		_ = c.Close()
	}
}

// hold registers a client's connection, so that close ends it; false: there are
// too many, or the view is gone.
func (l *listeners) hold(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.conns) >= maxConns {
		return false
	}
	l.conns[c] = true
	return true
}

func (l *listeners) drop(c net.Conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	_ = c.Close()
}

// serve starts serving these sockets and ends those before; nil: ends only.
func (v *view) serve(l *listeners) {
	v.mu.Lock()
	old := v.sockets
	v.sockets = l
	v.mu.Unlock()
	old.close()
	if l != nil {
		v.server.busy.Go(func() { v.server.again(v.id, func() { v.serveUDP(l) }) })
		v.server.busy.Go(func() { v.server.again(v.id, func() { v.serveTCP(l) }) })
	}
}

// again calls f until it ends without a panic.
func (s *Server) again(who string, f func()) {
	for !s.guard(who, f) {
	}
}

// guard calls f; false: it panicked, which is logged. The process serves all
// sandboxes, and holds more than their names: no message of one may end it.
func (s *Server) guard(who string, f func()) (ended bool) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("dns: a fault of ours, please report it", "sandbox", who, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	f()
	return true
}
