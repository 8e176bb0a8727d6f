package keeper

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// stdin is the write end of a stream's stdin FIFO.
//
// containerd's shim opens both ends of it: the read end feeds the process, and
// a write end stays open so that one client's leaving does not end the input.
// So the process reads EOF when ours is closed *and* the daemon has called the
// task's CloseIO, which closes the shim's.
type stdin struct {
	path string
	turn sync.Mutex // one client's bytes at a time

	mu     sync.Mutex
	w      *os.File
	hold   held // a read end until Started: a client can type before the shim is there
	closed bool // by us: the process shall read EOF
	frozen bool
}

func (p *stdin) open() error {
	r, err := openFIFO(p.path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	p.hold = held(r)
	w, err := openFIFO(p.path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	p.w = os.NewFile(uintptr(w), p.path)
	return nil
}

// releaseHold: the shim is there. Reports whether the input was closed already.
func (p *stdin) releaseHold() (closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold.release()
	return p.closed
}

// write passes typed bytes on. It blocks while the process does not read. With
// os.ErrDeadlineExceeded (an upgrade) the rest is the caller's to keep; any other
// error says that no one will read any more.
func (p *stdin) write(b []byte) (int, error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	p.mu.Lock()
	w, frozen := p.w, p.frozen
	p.mu.Unlock()
	switch {
	case frozen:
		return 0, os.ErrDeadlineExceeded
	case w == nil:
		return 0, os.ErrClosed
	}
	n, err := w.Write(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		// EPIPE: the process closed its stdin or is gone.
		p.drop(w)
	}
	return n, err
}

// drop closes the write end after a failure.
func (p *stdin) drop(w *os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == w {
		p.w = nil
		w.Close()
	}
}

// close ends the input and wakes a blocked writer. It reports whether this call
// did it.
func (p *stdin) close() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w != nil {
		p.w.Close()
		p.w = nil
	}
	first := !p.closed
	p.closed = true
	return first
}

func (p *stdin) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// freeze makes writers return what they could not write.
func (p *stdin) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = true
	if p.w != nil {
		_ = p.w.SetWriteDeadline(past())
	}
}
