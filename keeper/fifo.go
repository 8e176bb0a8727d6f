package keeper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// chunkSize is how much is read at once: a pipe's default capacity.
const chunkSize = 64 << 10

// fifoSize is the capacity asked for each output. While the keeper is away (it
// died and is being replaced) a container can print so much without blocking.
// The kernel takes pages for what is in it only.
const fifoSize = 256 << 10

// makeFIFO makes a FIFO, or takes one that is there: after a keeper's death the
// shim still has it open, with what the container printed since. fresh replaces
// it, so that a restarted container never meets its former shim.
func makeFIFO(path string, fresh bool) error {
	if fresh {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	err := unix.Mkfifo(path, 0o600)
	if err == nil {
		return nil
	}
	if info, serr := os.Lstat(path); serr == nil && info.Mode().Type() == os.ModeNamedPipe {
		return nil
	}
	return fmt.Errorf("mkfifo %s: %w", path, err)
}

// openFIFO opens one end without blocking, as fifo(7) has it: the read end
// opens at once, the write end needs a reader.
func openFIFO(path string, flag int) (int, error) {
	for {
		fd, err := unix.Open(path, flag|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, fmt.Errorf("open %s: %w", path, err)
		}
		return fd, nil
	}
}

// held is a descriptor that is open only to be open.
type held int

const nothing held = -1

func (h *held) release() {
	if *h >= 0 {
		unix.Close(int(*h))
		*h = nothing
	}
}

// chunks lends buffers, so that an idle stream or client has none: one for what
// is read, one for the log lines made of it.
type chunks struct{ pool, lines sync.Pool }

func newChunks() *chunks {
	return &chunks{
		pool:  sync.Pool{New: func() any { b := make([]byte, chunkSize); return &b }},
		lines: sync.Pool{New: func() any { b := make([]byte, 0, 2*chunkSize); return &b }},
	}
}

// read waits until c has something and reads it into a borrowed buffer, which
// the caller gives back. The buffer is borrowed only once there is something.
func (p *chunks) read(c syscall.RawConn) (buf *[]byte, n int, err error) {
	var rerr error
	err = c.Read(func(fd uintptr) bool {
		buf = p.pool.Get().(*[]byte)
		for {
			n, rerr = unix.Read(int(fd), *buf)
			if rerr != unix.EINTR {
				break
			}
		}
		if rerr == unix.EAGAIN {
			p.give(buf)
			buf = nil
			return false
		}
		return true
	})
	switch {
	case err != nil:
	case rerr != nil:
		err = rerr
	case n == 0:
		err = io.EOF
	}
	if err != nil {
		p.give(buf)
		return nil, 0, err
	}
	return buf, n, nil
}

// readNow reads what is there, and nothing (0) when there is nothing.
func (p *chunks) readNow(fd uintptr) (*[]byte, int) {
	buf := p.pool.Get().(*[]byte)
	for {
		n, err := unix.Read(int(fd), *buf)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || n <= 0:
			p.give(buf)
			return nil, 0
		}
		return buf, n
	}
}

func (p *chunks) give(buf *[]byte) {
	if buf != nil {
		p.pool.Put(buf)
	}
}
