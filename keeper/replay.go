package keeper

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"

	"linkspan/cnm"
)

// replay sends a client what the log holds before it gets live output. It reads
// the file by itself, without holding the container up, until it is near the
// end; the last stretch is read under the stream's lock, together with becoming
// live: so there is no gap and no repetition.
//
// The log can be several files, and rotate meanwhile: the replay has all of them
// open, and gets each new one from the stream.
type replay struct {
	mu    sync.Mutex
	files []logPart    // what is left, the oldest first
	off   int64        // in the content of the first
	z     *gzip.Reader // of the first, when it is compressed and was begun
	rest  []byte       // read from z, after the last whole line
}

// logPart is one file of a log.
type logPart struct {
	f  *os.File
	gz bool
}

// nearEnd is how much may be left of the log for the last stretch.
const nearEnd = 256 << 10

// openReplay opens all files of a log. No rotation is under way: the stream's lock
// is held.
func openReplay(path string) (*replay, error) {
	r := &replay{}
	for n := 0; ; n++ {
		name := path
		if n > 0 {
			name = path + "." + strconv.Itoa(n)
		}
		f, err := os.Open(name)
		zipped := false
		if errors.Is(err, os.ErrNotExist) && n > 0 {
			f, err = os.Open(name + gz)
			zipped = err == nil
		}
		switch {
		case err == nil:
			r.files = append(r.files, logPart{f, zipped})
		case !errors.Is(err, os.ErrNotExist):
			r.close()
			return nil, cnm.Errorf(classOf(err), "container log %s cannot be read: %w", name, err)
		case n > 0:
			slices.Reverse(r.files)
			return r, nil
		}
		// The log itself, removed by hand: there is nothing of it to replay.
	}
}

// add appends a new file of the log.
func (r *replay) add(path string) {
	f, err := os.Open(path)
	if err != nil {
		return // no descriptor is left: the replay ends before it
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files = append(r.files, logPart{f: f})
}

func (r *replay) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.files {
		p.f.Close()
	}
	r.files, r.z = nil, nil
}

// save hands what is left over to the next process.
func (r *replay) save(b *bag) (off int64, files []savedReading) {
	for _, p := range r.files {
		files = append(files, savedReading{b.take(p.f), p.gz})
	}
	off = r.off
	r.close()
	return off, files
}

// thawReplay goes on at an offset. A former version had the log's file only.
func thawReplay(path string, off int64, files []savedReading) (*replay, error) {
	if len(files) == 0 {
		r, err := openReplay(path)
		if err == nil {
			for len(r.files) > 1 {
				r.next()
			}
			r.off = off
		}
		return r, err
	}
	r := &replay{off: off}
	for _, s := range files {
		if f := file(s.File, path); f != nil {
			r.files = append(r.files, logPart{f, s.GZ})
		}
	}
	return r, nil
}

// next is done with the first file.
func (r *replay) next() {
	r.files[0].f.Close()
	r.files, r.off, r.z, r.rest = r.files[1:], 0, nil, nil
}

// lines reads the next whole lines, nil at the end of the last file. A tail
// without newline is the end too: a line that another hand is writing, or a torn
// one. A file that cannot be read is left out, and told.
func (r *replay) lines(buf []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.files) > 0 {
		n, err := r.read(buf)
		end := bytes.LastIndexByte(buf[:n], '\n') + 1
		if end == 0 && n == len(buf) {
			end = n // no entry of ours is that long: skip what it is
		}
		r.off += int64(end)
		if r.z != nil {
			r.rest = append(r.rest[:0], buf[end:n]...)
		}
		switch {
		case end > 0:
			return buf[:end], nil
		case err == nil && len(r.files) == 1:
			return nil, nil
		}
		r.next()
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// read reads from the first file at the offset; no error at its end.
func (r *replay) read(buf []byte) (n int, err error) {
	p := r.files[0]
	if !p.gz {
		if n, err = p.f.ReadAt(buf, r.off); err == io.EOF {
			err = nil
		}
		return n, err
	}
	if r.z == nil {
		if _, err := p.f.Seek(0, io.SeekStart); err != nil { // a former process read it
			return 0, err
		}
		if r.z, err = gzip.NewReader(p.f); err == nil {
			_, err = io.CopyN(io.Discard, r.z, r.off)
		}
		if err != nil {
			return 0, err
		}
	}
	n = copy(buf, r.rest)
	m, err := io.ReadFull(r.z, buf[n:])
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return n + m, err
}

// near tells that only the last file is left, and little of it.
func (r *replay) near() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch len(r.files) {
	case 0:
		return true
	case 1:
		info, err := r.files[0].f.Stat()
		return err != nil || !r.files[0].gz && info.Size()-r.off <= nearEnd
	}
	return false
}

// catchUp queues the next stretch of the log. The writer calls it when the
// queue is empty.
func (a *attachment) catchUp() {
	r := a.replay
	buf := make([]byte, nearEnd)
	if !r.near() {
		lines, err := r.lines(buf)
		if err != nil {
			a.s.logger.Warn("a part of the log is not replayed", "path", a.s.spec.LogPath, "err", err)
		}
		if lines != nil {
			a.pushEntries(lines)
		}
		if lines != nil || err != nil {
			return
		}
	}
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	for {
		lines, err := r.lines(buf)
		if err != nil {
			a.s.logger.Warn("a part of the log is not replayed", "path", a.s.spec.LogPath, "err", err)
		}
		if lines == nil && err == nil {
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
	r.close()
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
