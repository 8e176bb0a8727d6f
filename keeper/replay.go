package keeper

import (
	"bytes"
	"errors"
	"io"
	"os"

	"linkspan/cnm"
)

// replay sends a client what the log holds before it gets live output. It reads
// the file by itself, without holding the container up, until it is near the
// end; the last stretch is read under the stream's lock, together with becoming
// live: so there is no gap and no repetition.
type replay struct {
	f   *os.File
	off int64
}

// nearEnd is how much may be left of the log for the last stretch.
const nearEnd = 256 << 10

func openReplay(path string, off int64) (*replay, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		// Removed by hand: there is nothing to replay.
		f, err = os.Open(os.DevNull)
	}
	if err != nil {
		return nil, cnm.Errorf(classOf(err), "container log %s cannot be read: %w", path, err)
	}
	return &replay{f: f, off: off}, nil
}

// lines reads the next whole lines, nil at the end. A tail without newline is
// the end too: a line that another hand is writing, or a torn one.
func (r *replay) lines(buf []byte) ([]byte, error) {
	n, err := r.f.ReadAt(buf, r.off)
	if err != nil && err != io.EOF {
		return nil, err
	}
	end := bytes.LastIndexByte(buf[:n], '\n') + 1
	if end == 0 && n == len(buf) {
		// No entry of ours is that long: skip what it is.
		r.off += int64(n)
		return r.lines(buf)
	}
	r.off += int64(end)
	if end == 0 {
		return nil, nil
	}
	return buf[:end], nil
}

// left is how much of the file was not read.
func (r *replay) left() int64 {
	info, err := r.f.Stat()
	if err != nil {
		return 0
	}
	return info.Size() - r.off
}

// catchUp queues the next stretch of the log. The writer calls it when the
// queue is empty.
func (a *attachment) catchUp() {
	r := a.replay
	buf := make([]byte, nearEnd)
	if r.left() > nearEnd {
		lines, err := r.lines(buf)
		if err == nil && lines != nil {
			a.pushEntries(lines)
			return
		}
		a.s.logger.Warn("replaying the log stopped", "path", r.f.Name(), "offset", r.off, "err", err)
	}
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	for {
		lines, err := r.lines(buf)
		if err != nil {
			a.s.logger.Warn("replaying the log stopped", "path", r.f.Name(), "offset", r.off, "err", err)
		}
		if lines == nil {
			break
		}
		a.pushEntries(lines)
	}
	// What was printed and is in no line yet, a prompt say, is in no log either;
	// its end will come live.
	for _, o := range a.s.outs {
		if len(o.split.held) > 0 && a.wants(o.kind) {
			a.mu.Lock()
			a.queue = a.frame(a.queue, o.kind, o.split.held)
			a.mu.Unlock()
		}
	}
	r.f.Close()
	a.mu.Lock()
	a.replay = nil
	a.mu.Unlock()
	if a.s.hasEnded() {
		a.finish()
		return
	}
	a.live = true
}

// pushEntries queues log entries as output. Lines that are no entries are
// skipped.
func (a *attachment) pushEntries(lines []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dead {
		return
	}
	for line := range bytes.Lines(lines) {
		e, ok := decodeEntry(line)
		kind := byte(kindStdout)
		if e.Stream == "stderr" {
			kind = kindStderr
		}
		if ok && a.wants(kind) {
			a.queue = a.frame(a.queue, kind, []byte(e.Log))
		}
	}
}
