package keeper

import (
	"container/list"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// udpIdle is how long a client's session lives without a packet either way:
	// what docker-proxy uses.
	udpIdle = 90 * time.Second
	// maxSessions bounds the clients of one forwarded port; beyond it the one that
	// was quiet longest goes, so that a flood of invented sources cannot use up
	// the descriptors of the keeper.
	maxSessions = 1024
	// answerWait is how long a session that leads to a former place may be without
	// an answer.
	answerWait = 3 * time.Second
)

// udpForwarder relays datagrams: one socket towards the container for each
// client, so that the container can tell them apart and answers find back.
type udpForwarder struct {
	logger *slog.Logger
	chunks *chunks
	l      *net.UDPConn
	raw    syscall.RawConn
	wg     sync.WaitGroup

	mu       sync.Mutex
	to       netip.AddrPort
	moved    time.Time     // when to changed
	life     time.Duration // of a session without a packet
	frozen   bool
	closed   bool
	sessions map[peer]*udpSession
	recent   *list.List // of *udpSession, the most recent first
}

// udpSession is one client.
type udpSession struct {
	peer   peer
	server *net.UDPConn
	to     netip.AddrPort
	seen   atomic.Int64 // time of the last packet, Unix nanoseconds
	heard  atomic.Int64 // … of the last from the container
	place  *list.Element
}

func newUDPForwarder(logger *slog.Logger, c *chunks, l *net.UDPConn, to netip.AddrPort) (*udpForwarder, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &udpForwarder{
		logger: logger.With("forward", l.LocalAddr().String()),
		chunks: c, to: to, life: udpIdle, l: l, raw: raw,
		sessions: map[peer]*udpSession{}, recent: list.New(),
	}, nil
}

// receive takes clients' datagrams until the listener closes or freezes.
func (f *udpForwarder) receive() {
	for {
		buf, n, from, err := f.chunks.receive(f.raw)
		switch {
		case err == nil:
			if s := f.session(from); s != nil {
				s.send((*buf)[:n])
			}
			f.chunks.give(buf)
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, os.ErrClosed):
			return
		default:
			// An ICMP error of an earlier answer; the socket goes on.
			f.logger.Debug("a forwarded UDP port got an error", "err", err)
		}
	}
}

// session finds or makes a client's session. nil: there cannot be one now.
func (f *udpForwarder) session(from peer) *udpSession {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.sessions[from]; s != nil && f.deserted(s) {
		f.drop(s)
	} else if s != nil {
		s.seen.Store(time.Now().UnixNano())
		f.recent.MoveToFront(s.place)
		return s
	}
	if f.closed || f.frozen {
		return nil
	}
	if f.recent.Len() >= maxSessions {
		f.drop(f.recent.Back().Value.(*udpSession))
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(f.to))
	if err != nil {
		f.logger.Warn("a forwarded UDP client cannot be served", "client", from.String(), "err", err)
		return nil
	}
	s := &udpSession{peer: from, server: c, to: f.to}
	f.add(s)
	return s
}

// deserted: a session goes on to where it leads when that changes, as long as it
// is answered; a client that sends on and on would else never find the new place.
func (f *udpForwarder) deserted(s *udpSession) bool {
	if s.to == f.to {
		return false
	}
	last := time.Unix(0, s.heard.Load())
	if last.Before(f.moved) {
		last = f.moved
	}
	return time.Since(last) > answerWait
}

// retarget leads new clients elsewhere.
func (f *udpForwarder) retarget(to netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to, f.moved = to, time.Now()
}

func (f *udpForwarder) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sessions) == 0
}

func (f *udpForwarder) socket(b *bag) int { return b.take(f.l) }

// add starts a session; the lock is held.
func (f *udpForwarder) add(s *udpSession) {
	s.seen.Store(time.Now().UnixNano())
	s.place = f.recent.PushFront(s)
	f.sessions[s.peer] = s
	f.wg.Go(func() { f.answer(s) })
}

// drop ends a session; the lock is held.
func (f *udpForwarder) drop(s *udpSession) {
	if f.sessions[s.peer] == s {
		delete(f.sessions, s.peer)
		f.recent.Remove(s.place)
	}
	s.server.Close()
}

// send passes a datagram to the container. ECONNREFUSED reports an earlier one;
// the second try sends this one.
func (s *udpSession) send(b []byte) {
	if _, err := s.server.Write(b); errors.Is(err, unix.ECONNREFUSED) {
		_, _ = s.server.Write(b)
	}
}

// answer passes the container's datagrams back until the session is idle.
func (f *udpForwarder) answer(s *udpSession) {
	raw, err := s.server.SyscallConn()
	for err == nil {
		f.mu.Lock()
		if !f.frozen {
			_ = s.server.SetReadDeadline(time.Unix(0, s.seen.Load()).Add(f.life))
		}
		f.mu.Unlock()
		var buf *[]byte
		var n int
		buf, n, _, err = f.chunks.receive(raw)
		if err == nil {
			now := time.Now().UnixNano()
			s.seen.Store(now)
			s.heard.Store(now)
			s.peer.answer(f.raw, (*buf)[:n])
			f.chunks.give(buf)
			continue
		}
		if errors.Is(err, unix.ECONNREFUSED) {
			err = nil // nothing listens there yet, or any more; the client may try again
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			f.mu.Lock()
			frozen := f.frozen && !f.closed
			f.mu.Unlock()
			if frozen {
				return
			}
			if time.Since(time.Unix(0, s.seen.Load())) < f.life {
				err = nil // the client has sent meanwhile
			}
		}
	}
	f.mu.Lock()
	f.drop(s)
	f.mu.Unlock()
}

func (f *udpForwarder) close() {
	f.mu.Lock()
	f.closed = true
	f.l.Close()
	for _, s := range f.sessions {
		s.server.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}
