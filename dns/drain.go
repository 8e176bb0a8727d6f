package dns

import (
	"context"
	"net"
	"time"
)

// Drain takes no more questions and waits until those under way are answered, or
// ctx ends. What comes from now on waits in the sockets, for the process that takes
// them over. Only State and Close may follow.
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	for _, v := range s.views {
		v.mu.Lock()
		l := v.sockets
		v.mu.Unlock()
		l.drain()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.busy.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// drain ends reading, and leaves the way back open: a deadline ends a read before
// it takes anything from a socket, never in between.
func (l *listeners) drain() {
	if l == nil {
		return
	}
	past := time.Unix(1, 0)
	_ = l.udp.SetReadDeadline(past)
	if t, ok := l.tcp.(interface{ SetDeadline(time.Time) error }); ok {
		_ = t.SetDeadline(past)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	for c := range l.conns {
		_ = c.SetReadDeadline(past)
	}
}

// awaits gives a client's connection time for its next question; false: there are
// to be no more.
func (l *listeners) awaits(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.draining {
		return false
	}
	_ = c.SetReadDeadline(time.Now().Add(tcpIdle))
	return true
}
