package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"linkspan/cnm"
)

// A client that reads slowly slows the container down, as a pipe does:
// `docker run img cat big | slow` must get every byte, so nothing may be dropped
// while the client lives. Up to maxQueue bytes wait for each client (and as many
// again are on their way into its socket); then the output is not read any more
// until there is room.
//
// A client that takes not one byte for the stall limit (a stopped docker CLI, a
// terminal after ctrl-S that was forgotten, a peer behind a dead wire) is
// dropped, since it would hold the container for ever and the output is in the
// log. A stream without a log (an exec) has no stall limit: its client is the
// only one who has the output, and holds up nothing but its own command.
const maxQueue = 1 << 20

// defaultStall is the stall limit when the configuration has none.
const defaultStall = 5 * time.Minute

// lingerTime is how long the keeper waits for a client to close after its
// output ended. Closing a socket that holds unread input resets it, and a reset
// can take the last output away from the client.
const lingerTime = 2 * time.Second

// streamConn is what a client's socket can do: *net.UnixConn and *net.TCPConn.
type streamConn interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// attachment is one client of one stream. Two goroutines serve it: the writer
// owns the way out and the end, the reader the way in.
type attachment struct {
	s     *stream
	o     AttachOptions
	conn  streamConn
	from  origin
	stdin bool // what the client sends goes to the process
	live  bool // gets output as it comes; guarded by s.mu

	readerLeft, writerLeft chan struct{}
	flushed                chan struct{} // the client has everything, or is gone
	thaw                   chan struct{} // closed by freeze

	mu        sync.Mutex
	cond      *sync.Cond
	queue     []byte // framed output
	replay    *replay
	pending   []byte // input that came with the request; this and the next three are the reader's own
	typed     []byte // input that is not yet in the FIFO
	keys      detacher
	inputDone bool // the client will send no more
	finishing bool // write the queue, then half-close
	dead      bool // the client is gone or dropped
	free      bool // the stream closes: do not hold its pumps
	frozen    bool
	detached  bool
}

// origin is the request that brought a client: its end is reported there.
type origin struct {
	control *control // nil: no one to tell
	request uint64
}

// newConn wraps a client's descriptor, which stays the caller's.
func newConn(client *os.File) (streamConn, error) {
	c, err := net.FileConn(client)
	if err != nil {
		return nil, cnm.Invalid("the client of an attach is not a socket: %w", err)
	}
	sc, ok := c.(streamConn)
	if !ok {
		c.Close()
		return nil, cnm.Invalid("the client of an attach is a %s socket; unix and tcp can be attached", c.LocalAddr().Network())
	}
	if tcp, ok := sc.(*net.TCPConn); ok {
		// Docker's clients and servers rely on it too: without data no one else
		// would notice that the peer's machine is gone.
		_ = tcp.SetKeepAlive(true)
	}
	return sc, nil
}

func newAttachment(s *stream, o AttachOptions, conn streamConn, from origin) *attachment {
	a := &attachment{
		s: s, o: o, conn: conn, from: from, pending: o.Pending,
		stdin:      o.Stdin && s.spec.Stdin,
		readerLeft: make(chan struct{}), writerLeft: make(chan struct{}),
		flushed: make(chan struct{}), thaw: make(chan struct{}),
	}
	a.cond = sync.NewCond(&a.mu)
	if s.spec.TTY {
		a.keys.keys = o.DetachKeys
	}
	return a
}

// attach adds a client to a stream. The stream owns conn from now on.
func (s *stream) attach(o AttachOptions, conn streamConn, from origin) error {
	a := newAttachment(s, o, conn, from)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.frozen {
		return cnm.NotFound("stream %s is being closed", s.spec.ID)
	}
	switch {
	case o.Replay && s.spec.LogPath != "":
		r, err := openReplay(s.spec.LogPath)
		if err != nil {
			return fmt.Errorf("stream %s: %w", s.spec.ID, err)
		}
		a.replay = r
	case s.hasEnded():
		a.finishing = true
	default:
		a.live = true
	}
	s.all[a] = struct{}{}
	go a.write()
	go a.read()
	return nil
}

func (a *attachment) wants(kind byte) bool {
	if kind == kindStderr {
		return a.o.Stderr
	}
	return a.o.Stdout
}

// push queues live output and reports whether the queue is over its bound.
func (a *attachment) push(kind byte, chunk []byte) (full bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dead || a.finishing {
		return false
	}
	a.queue = a.frame(a.queue, kind, chunk)
	a.cond.Broadcast()
	return len(a.queue) > maxQueue
}

// frame appends output as the client reads it: raw, or with stdcopy's header of
// stream, three zeros and length.
func (a *attachment) frame(dst []byte, kind byte, chunk []byte) []byte {
	if a.o.Mux {
		dst = append(dst, kind, 0, 0, 0)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(chunk)))
	}
	return append(dst, chunk...)
}

// waitRoom holds a pump until this client has room again.
func (a *attachment) waitRoom() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.queue) > maxQueue && !a.dead && !a.finishing && !a.free && !a.frozen {
		a.cond.Wait()
	}
}

// finish: no more output comes; what is queued is still written.
func (a *attachment) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.finishing = true
	a.cond.Broadcast()
}

// unblock lets the pumps go on although the queue is full.
func (a *attachment) unblock() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free = true
	a.cond.Broadcast()
}

// die ends an attachment whose client is gone, or takes nothing.
func (a *attachment) die() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dead = true
	a.queue = nil
	a.cond.Broadcast()
	a.conn.Close()
}

// write is the writer: it sends what is queued until the end.
func (a *attachment) write() {
	defer close(a.writerLeft)
	for {
		out, more := a.take()
		if !more {
			break
		}
		if out == nil {
			a.catchUp()
			continue
		}
		if n, err := a.send(out); err != nil {
			if a.keep(out[n:]) {
				break
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				a.s.logger.Warn("attached client dropped: it took nothing for too long", "limit", a.s.stall)
			}
			a.die()
		}
	}
	a.mu.Lock()
	dead, frozen := a.dead, a.frozen
	a.mu.Unlock()
	switch {
	case dead:
		a.leave()
	case !frozen:
		a.end()
	}
}

// take waits for something to send. nil and true: the log has more to replay.
func (a *attachment) take() (out []byte, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.queue) == 0 && a.replay == nil && !a.finishing && !a.dead && !a.frozen {
		a.cond.Wait()
	}
	switch {
	case a.frozen || a.dead:
		return nil, false
	case a.detached:
		a.queue = nil // who detached wants the terminal back, not the rest of the log
		return nil, false
	case len(a.queue) > 0:
		out, a.queue = a.queue, nil
		a.cond.Broadcast()
		return out, true
	}
	return nil, a.replay != nil
}

// send writes out. Progress of any size renews the stall limit.
func (a *attachment) send(out []byte) (sent int, err error) {
	for sent < len(out) {
		a.mu.Lock()
		if a.frozen {
			a.mu.Unlock()
			return sent, os.ErrDeadlineExceeded
		}
		limit := noDeadline
		if a.s.spec.LogPath != "" {
			limit = time.Now().Add(a.s.stall)
		}
		_ = a.conn.SetWriteDeadline(limit)
		a.mu.Unlock()
		n, err := a.conn.Write(out[sent:min(len(out), sent+chunkSize)])
		sent += n
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return sent, err
		}
	}
	return sent, nil
}

// keep puts what was not sent back, when that is because of an upgrade.
func (a *attachment) keep(rest []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.frozen || a.dead {
		return false
	}
	a.queue = append(rest[:len(rest):len(rest)], a.queue...)
	return true
}

// end is the good end: everything is written.
func (a *attachment) end() {
	_ = a.conn.CloseWrite()
	a.tell()
	timer := time.NewTimer(lingerTime)
	defer timer.Stop()
	select {
	case <-a.readerLeft:
	case <-timer.C:
	case <-a.thaw:
		return
	}
	a.leave()
}

// tell says once that the client has everything, or is gone.
func (a *attachment) tell() {
	select {
	case <-a.flushed:
		return
	default:
	}
	close(a.flushed)
	a.mu.Lock()
	detached := a.detached
	a.mu.Unlock()
	if a.from.control != nil {
		a.from.control.event(eventEnded, endedEvent{Attach: a.from.request, Detached: detached})
	}
}

// leave closes the socket and takes the attachment off its stream.
func (a *attachment) leave() {
	a.conn.Close()
	a.tell()
	a.s.mu.Lock()
	delete(a.s.all, a)
	a.s.mu.Unlock()
	if a.replay != nil {
		a.replay.close()
	}
}

// noDeadline takes a deadline away.
var noDeadline time.Time
