package logs

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
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
	list, err := openAll(path)
	if errors.Is(err, fs.ErrNotExist) && o.Follow {
		if err = waitExists(ctx, path, done); err == nil {
			list, err = openAll(path)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c := copier{o: &o, w: bufio.NewWriterSize(w, block), flush: flush}
	begin, err := c.begin(list)
	if err != nil {
		closeAll(list)
		return err
	}
	// Oldest first; what a reader of the tail does not want is left out.
	for i := len(begin) - 1; i > 0; i-- {
		past, err := c.whole(list[i], begin[i])
		if err != nil || past && o.Follow {
			closeAll(list)
			return err
		}
	}
	closeAll(list[1:])
	return c.current(ctx, path, list[0], begin[0], done)
}

// begin tells for each file, youngest first, where reading begins, for as many of
// them as are to be read.
func (c *copier) begin(list []*source) ([]int64, error) {
	offsets := []int64{}
	left := c.o.Tail
	for i, s := range list {
		if i > 0 && (c.o.Tail >= 0 && left == 0 || !c.o.Since.IsZero() && s.mod.Before(c.o.Since)) {
			break
		}
		var off int64
		var err error
		if c.o.Tail >= 0 {
			off, left, err = s.tail(left, func(line []byte) bool {
				e, ok := parse(line)
				return ok && c.o.wants(&e)
			})
		}
		if err != nil {
			if i == 0 {
				return nil, err
			}
			break // a rotated file that is broken: what is younger is told
		}
		offsets = append(offsets, off)
	}
	return offsets, nil
}

// whole writes a file that nothing is added to.
func (c *copier) whole(s *source, from int64) (past bool, err error) {
	r, err := s.reader(from)
	if err != nil {
		return false, nil //nolint:nilerr // broken: the others are told
	}
	c.r = bufio.NewReaderSize(r, block)
	past, err = c.drain()
	c.part = c.part[:0]
	if errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrHeader) {
		err = nil
	}
	return past, err
}

// current writes the file that is being written to, and following, those that
// come after it. It closes them.
func (c *copier) current(ctx context.Context, path string, cur *source, from int64, done <-chan struct{}) error {
	defer func() { cur.f.Close() }()
	if _, err := cur.f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	c.r = bufio.NewReaderSize(cur.f, block)
	if !c.o.Follow {
		_, err := c.drain()
		return err
	}
	watch := newWatcher(path)
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
		rotated := at(path) != cur.ino
		past, err := c.drain()
		if err != nil || past {
			return err
		}
		if rotated {
			next, err := following(path, cur, c.last)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if len(next) > 0 {
				for _, s := range next[:len(next)-1] {
					past, err := c.whole(s, 0)
					if err != nil || past {
						closeAll(next)
						return err
					}
				}
				closeAll(next[:len(next)-1])
				cur.f.Close()
				cur = next[len(next)-1]
				c.r, c.part = bufio.NewReaderSize(cur.f, block), c.part[:0]
				watch.close()
				watch = newWatcher(path)
				continue
			}
		}
		if err := c.truncated(cur); err != nil || over {
			return err
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

// truncated begins anew in a file that was emptied: a log of one file that has
// its size limit.
func (c *copier) truncated(cur *source) error {
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

type copier struct {
	o     *Options
	r     *bufio.Reader
	w     *bufio.Writer
	flush func()
	// part is a line whose end has not been written yet.
	part []byte
	// last is the time of the last entry seen.
	last time.Time
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
		if errors.Is(err, io.EOF) {
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
