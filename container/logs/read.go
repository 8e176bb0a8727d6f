package logs

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// poll is how long a follower trusts inotify alone: not every file system
// notifies.
const poll = time.Second

// Copy writes the wanted entries of the log at path to w and calls flush after
// each batch. Following, it goes on until done closes (nothing will be added),
// Until has passed or ctx ends; what was in the log when done closed is written.
// A log that does not exist (yet) is empty.
func Copy(ctx context.Context, path string, o Options, done <-chan struct{}, w io.Writer, flush func()) error {
	if o.Follow && !o.Until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, o.Until)
		defer cancel()
	}
	c := copier{o: &o, w: bufio.NewWriterSize(w, block), flush: flush, files: &chain{path: path}}
	return c.copy(ctx, done)
}

type copier struct {
	o     *Options
	files *chain
	r     *bufio.Reader
	w     *bufio.Writer
	flush func()
	// part is a line whose end has not been written yet.
	part []byte
	// last is the time of the last entry seen.
	last time.Time
}

func (c *copier) copy(ctx context.Context, done <-chan struct{}) error {
	cur, n, err := c.files.youngest()
	if errors.Is(err, fs.ErrNotExist) && c.o.Follow {
		if err = waitExists(ctx, c.files.path, done); err == nil {
			cur, n, err = c.files.youngest()
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	list, offsets, err := c.begin(cur, n)
	// Oldest first; what a reader of the tail does not want is left out.
	for i := len(list) - 1; i > 0 && err == nil; i-- {
		var past bool
		if past, err = c.whole(list[i], offsets[i]); past && c.o.Follow {
			closeAll(list)
			return err
		}
	}
	closeAll(list[1:])
	if err != nil {
		cur.f.Close()
		return err
	}
	return c.current(ctx, cur, n, offsets[0], done)
}

// begin opens as many files as are to be read, youngest first, and tells for each
// where reading begins. Without an error there is the current one at least.
func (c *copier) begin(cur *source, n int) (list []*source, offsets []int64, err error) {
	left := c.o.Tail
	for s := cur; s != nil; {
		list = append(list, s)
		if len(list) > 1 && !c.o.Since.IsZero() && s.mod.Before(c.o.Since) {
			s.f.Close()
			return list[:len(list)-1], offsets, nil
		}
		var off int64
		if c.o.Tail >= 0 {
			off, left, err = s.tail(left, func(line []byte) bool {
				e, ok := parse(line)
				return ok && c.o.wants(&e)
			})
		}
		switch {
		case err != nil && len(list) == 1:
			return list, nil, err
		case err != nil: // a rotated file that is broken: what is younger is told
			s.f.Close()
			return list[:len(list)-1], offsets, nil
		}
		offsets = append(offsets, off)
		if c.o.Tail >= 0 && left == 0 {
			break
		}
		if s, n, err = c.files.older(s, n); err != nil {
			return list, offsets, err
		}
	}
	return list, offsets, nil
}

// whole writes a file that nothing is added to.
func (c *copier) whole(s *source, from int64) (past bool, err error) {
	if !c.read(s, from) {
		return false, nil
	}
	return c.drain()
}

// read begins to read a file; false: it is broken.
func (c *copier) read(s *source, from int64) bool {
	r, err := s.reader(from)
	if err != nil {
		return false
	}
	c.r, c.part = bufio.NewReaderSize(r, block), c.part[:0]
	return true
}

// current writes the file that is being written to, which was at the place n, and
// following, those that come after it. It closes them.
func (c *copier) current(ctx context.Context, cur *source, n int, from int64, done <-chan struct{}) error {
	defer func() { cur.f.Close() }()
	if _, err := cur.f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	c.r = bufio.NewReaderSize(cur.f, block)
	if !c.o.Follow {
		_, err := c.drain()
		return err
	}
	var watch *watcher
	defer func() { watch.close() }()
	for {
		over := false
		select {
		case <-done:
			over = true
		default:
		}
		// Whether it was rotated and done are looked at before the read: what was
		// there then is read now.
		rotated := c.files.inode(c.files.path) != cur.ino
		past, err := c.drain()
		if err != nil || past {
			return err
		}
		if rotated {
			next, place, err := c.next(cur, n)
			if err != nil {
				return err
			}
			if next != nil {
				cur.f.Close()
				cur, n = next, place
				watch.close()
				watch = nil
				if !c.read(cur, 0) {
					c.r.Reset(strings.NewReader("")) // broken: the others are told
				}
				if ctx.Err() != nil {
					return nil
				}
				continue
			}
		}
		if err := c.truncated(cur); err != nil || over {
			return err
		}
		if watch == nil {
			// What happened before it is looked for once more.
			watch = newWatcher(c.files.path)
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-done:
		case <-watch.changed:
		case <-time.After(poll):
		}
	}
}

// next opens the file after cur; nil: there is none yet.
func (c *copier) next(cur *source, n int) (*source, int, error) {
	next, place, gone, err := c.files.newer(cur, n)
	if err != nil || !gone {
		return next, place, err
	}
	// Removed, and all that was older with it: what begins after it comes next.
	last := c.last
	if last.IsZero() {
		last = cur.first()
	}
	return c.files.after(last)
}

// truncated begins anew in a file that was emptied: a log of one file that has
// its size limit.
func (c *copier) truncated(cur *source) error {
	if cur.gz {
		return nil
	}
	st, err := cur.f.Stat()
	if err != nil {
		return err
	}
	at, err := cur.f.Seek(0, io.SeekCurrent)
	if err != nil || st.Size() >= at {
		return err
	}
	if _, err := cur.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	c.r, c.part = bufio.NewReaderSize(cur.f, block), c.part[:0]
	return nil
}

// drain writes what the file has now. past tells that Until was passed.
func (c *copier) drain() (past bool, err error) {
	wrote := false
	for {
		line, err := c.r.ReadSlice('\n')
		c.part = append(c.part, line...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		// What a compressed file has after its damage is not told; the others are.
		if errors.Is(err, io.EOF) || damage(err) {
			break
		}
		if err != nil {
			return false, err
		}
		e, ok := parse(c.part)
		c.part = c.part[:0]
		if !ok {
			continue
		}
		c.last = e.Time
		// Entries are in the order of their times but for a clock that was set
		// back: a follower must not end on it, a reader need not.
		if c.o.past(&e) && c.o.Follow {
			past = true
			break
		}
		if !c.o.wants(&e) {
			continue
		}
		if _, err := c.w.Write(c.o.render(&e)); err != nil {
			return false, err
		}
		wrote = true
	}
	if !wrote {
		return past, nil
	}
	if err := c.w.Flush(); err != nil {
		return past, err
	}
	if c.flush != nil {
		c.flush()
	}
	return past, nil
}

func damage(err error) bool {
	var corrupt flate.CorruptInputError
	return errors.As(err, &corrupt) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)
}

// waitExists waits for a log's first file.
func waitExists(ctx context.Context, path string, done <-chan struct{}) error {
	for {
		_, err := os.Stat(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-done:
			_, err := os.Stat(path)
			return err
		case <-time.After(poll / 10):
		}
	}
}
