package logs

import (
	"bufio"
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
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && o.Follow {
		f, err = waitOpen(ctx, path, done)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := seekTail(f, &o); err != nil {
		return err
	}
	c := copier{o: &o, r: bufio.NewReaderSize(f, block), w: bufio.NewWriterSize(w, block), flush: flush}
	if !o.Follow {
		_, err := c.drain()
		return err
	}
	watch := newWatcher(path)
	defer watch.close()
	for {
		over := false
		select {
		case <-done:
			over = true
		default:
		}
		// done is looked at before the read: what was there then is read now.
		past, err := c.drain()
		if err != nil || past || over {
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

// seekTail puts the file's offset where reading begins.
func seekTail(f *os.File, o *Options) error {
	if o.Tail < 0 {
		return nil
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	off, err := tailOffset(f, st.Size(), o.Tail, func(line []byte) bool {
		e, ok := parse(line)
		return ok && o.wants(&e)
	})
	if err == nil {
		_, err = f.Seek(off, io.SeekStart)
	}
	return err
}

type copier struct {
	o     *Options
	r     *bufio.Reader
	w     *bufio.Writer
	flush func()
	// part is a line whose end has not been written yet.
	part []byte
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

// waitOpen opens a file as soon as it exists.
func waitOpen(ctx context.Context, path string, done <-chan struct{}) (*os.File, error) {
	for {
		f, err := os.Open(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-done:
			return os.Open(path)
		case <-time.After(poll / 10):
		}
	}
}
