package keeper

import (
	"errors"
	"io"
	"os"
)

// pump reads one output until its end. Everything goes into the log first; then
// to the clients, for which it waits when they are slow (see attachment).
func (s *stream) pump(o *output) {
	raw, err := o.r.SyscallConn()
	for err == nil {
		var buf *[]byte
		var n int
		if buf, n, err = s.chunks.read(raw); err != nil {
			break
		}
		waitFor := s.deliver(o, (*buf)[:n])
		s.chunks.give(buf)
		for _, a := range waitFor {
			a.waitRoom()
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.mu.Lock()
		frozen := s.frozen
		s.mu.Unlock()
		if frozen {
			return
		}
		s.takeRest(o)
		err = io.EOF
	}
	if err != io.EOF {
		s.logger.Error("reading the container's output failed", "output", o.name(), "err", err)
	}
	s.endOutput(o)
}

// takeRest reads what lies in the FIFO of a stream that is being closed.
func (s *stream) takeRest(o *output) {
	_ = o.r.SetReadDeadline(noDeadline)
	raw, err := o.r.SyscallConn()
	if err != nil {
		return
	}
	for {
		var buf *[]byte
		var n int
		// Once only: the function never asks to wait.
		if err := raw.Read(func(fd uintptr) bool { buf, n = s.chunks.readNow(fd); return true }); err != nil || n == 0 {
			return
		}
		s.deliver(o, (*buf)[:n])
		s.chunks.give(buf)
	}
}

// deliver writes a chunk to the log and queues it for the clients. It returns
// those whose queue is over its bound.
func (s *stream) deliver(o *output, chunk []byte) (full []*attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log != nil {
		lines := s.chunks.lines.Get().(*[]byte)
		*lines = o.split.add((*lines)[:0], chunk, nil)
		s.writeLog(*lines, len(chunk))
		s.chunks.lines.Put(lines)
	}
	for a := range s.all {
		if a.live && a.wants(o.kind) && a.push(o.kind, chunk) {
			full = append(full, a)
		}
	}
	return full
}

// writeLog keeps the container going when its log cannot be written (disk
// full): a container that blocks on its log is worse than a log with a gap.
// What was lost is counted, and said once per gap.
func (s *stream) writeLog(lines []byte, printed int) {
	if len(lines) == 0 {
		return
	}
	err := s.log.write(lines)
	switch {
	case err != nil && s.gap == 0:
		s.logger.Error("container log cannot be written; output is missing from it until this is cured", "path", s.log.path, "err", err)
	case err == nil && s.gap > 0:
		s.logger.Warn("container log is written again", "path", s.log.path, "lost_bytes", s.gap)
	}
	if err != nil {
		s.gap += uint64(printed)
		s.lost += uint64(printed)
		return
	}
	s.gap = 0
}

// endOutput is EOF on one output.
func (s *stream) endOutput(o *output) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log != nil {
		left := len(o.split.held)
		s.writeLog(o.split.flush(nil, nil), left)
	}
	o.done = true
	o.hold.release()
	o.r.Close()
	if s.open--; s.open == 0 {
		s.finish()
	}
}
