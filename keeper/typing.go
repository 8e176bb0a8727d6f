package keeper

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// read is the reader of an attachment: what the client types goes to the
// process; how it stops tells what becomes of the stream's stdin.
func (a *attachment) read() {
	defer close(a.readerLeft)
	raw, err := a.conn.SyscallConn()
	if err != nil {
		a.die()
		return
	}
	if !a.passOn() { // what a former process of this keeper had not written yet
		return
	}
	if pending := a.pending; len(pending) > 0 {
		a.pending = nil
		if !a.input(pending) {
			return
		}
	}
	for !a.inputDone {
		buf, n, err := a.s.chunks.read(raw)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return // frozen
		case err == io.EOF:
			a.inputEnded()
			continue
		case err != nil:
			a.inputEnded()
			a.die()
			return
		}
		goOn := a.input((*buf)[:n])
		a.s.chunks.give(buf)
		if !goOn {
			return
		}
	}
	// A client that half-closed is still there. One that closed is known on a unix
	// socket by POLLHUP; on TCP only by the reset that answers the next output.
	err = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd)}}
		_, _ = unix.Poll(p, 0)
		return p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
	if err == nil {
		a.die()
	}
}

// input handles what came from the client; false: frozen, leave.
func (a *attachment) input(b []byte) bool {
	if !a.stdin {
		return true
	}
	var detached bool
	a.typed, detached = a.keys.feed(a.typed[:0], b)
	goOn := a.passOn()
	if detached {
		a.stdin = false
		a.mu.Lock()
		a.detached = true
		a.mu.Unlock()
		a.finish()
	}
	return goOn
}

// passOn writes typed bytes to the process; false: frozen, and typed has the
// rest.
func (a *attachment) passOn() bool {
	if len(a.typed) == 0 {
		return true
	}
	n, err := a.s.in.write(a.typed)
	a.typed = a.typed[n:]
	switch {
	case err == nil:
		a.typed = release(a.typed)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false
	default:
		// No one reads stdin any more; the client may go on to send.
		a.stdin, a.typed = false, nil
	}
	return true
}

// inputEnded is the end of what the client sends: it half-closed, or is gone.
// As in Docker: with StdinOnce the process's input ends too; otherwise, and on a
// tty, whose input has no end, the attachment does, so that `echo cmd | docker
// attach c` returns.
func (a *attachment) inputEnded() {
	a.inputDone = true
	switch {
	case !a.o.Stdin || a.s.in == nil:
	case a.s.spec.StdinOnce && !a.s.spec.TTY:
		if a.detached {
			return
		}
		a.s.closeStdin()
	default:
		a.finish()
	}
}
