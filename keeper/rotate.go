package keeper

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Rotation as Docker's json-file driver does it: the log at its path, then path.1,
// the youngest of the old ones, up to path.(max-file - 1), with .gz behind when
// compressed. A file is full when it has reached max-size, so that it is longer by
// at most one entry. What is different, and why:
//
//   - The log is never truncated, not even with max-file 1, and never away: the new
//     file takes its name in one rename(2). Whoever has the old one open reads it to
//     its end, sees that the name leads to another inode, and goes on with that.
//   - Files move up one by one, the oldest first, and only into a place that is free:
//     two that follow each other do so at every moment, with a hole between them for
//     a moment. Readers (container/logs/chain.go) build upon that.
//   - A file that is being compressed is complete under one of its two names all the
//     time. Rotation waits for it until the log is twice as long as it should be; the
//     container never does.

// rotateRetry is how long a log that could not be rotated goes on in its file.
const rotateRetry = 10 * time.Second

// old names a rotated file.
func (l *logFile) old(n int) string { return l.path + "." + strconv.Itoa(n) }

const gz = ".gz"

// limit is the size at which the present file is full.
func (l *logFile) limit() int64 {
	switch {
	case l.options.MaxSize <= 0, time.Now().Before(l.notBefore):
		return math.MaxInt64
	case l.compressing():
		// If that cannot keep up, what is not compressed stays plain: the disk that a
		// log takes has a bound.
		return 2 * l.options.MaxSize
	}
	return l.options.MaxSize
}

// full tells that the next entry belongs into a new file.
func (l *logFile) full() bool { return l.size >= l.limit() }

// room is how much of whole entries goes into the present file.
func (l *logFile) room(entries []byte) int {
	left := max(l.limit()-l.size, 1)
	if int64(len(entries)) < left {
		return len(entries)
	}
	end := bytes.IndexByte(entries[left-1:], '\n')
	if end < 0 {
		return len(entries)
	}
	return int(left) + end
}

// rotate begins a new file. On an error the present one goes on.
func (l *logFile) rotate() (fresh bool, err error) {
	defer func() {
		if err != nil {
			l.notBefore = time.Now().Add(rotateRetry)
			err = fmt.Errorf("container log %s is full and cannot be rotated, it goes on growing: %w", l.path, err)
		}
	}()
	// It may have been truncated by someone else (copytruncate).
	if info, err := l.f.Stat(); err == nil && info.Size() < l.options.MaxSize {
		l.size = info.Size()
		return false, nil
	}
	l.endCompressing()
	next := l.path + ".new"
	f, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o640)
	if err != nil {
		return false, err
	}
	if err = l.shift(); err == nil {
		l.at("replace")
		err = os.Rename(next, l.path)
	}
	if err != nil {
		f.Close()
		_ = os.Remove(next)
		return false, err
	}
	l.f.Close()
	l.f, l.size, l.notBefore = f, 0, time.Time{}
	l.at("compress")
	l.compressOld()
	return true, nil
}

// shift makes place for the present file at .1 and gives it that name too.
func (l *logFile) shift() error {
	last := l.options.MaxFile - 1
	if last < 1 {
		return nil
	}
	l.untwin()
	// The free place that is nearest is enough; the last one is made free.
	free := 1
	for free < last && (exists(l.old(free)) || exists(l.old(free)+gz)) {
		free++
	}
	for _, ext := range []string{"", gz} {
		l.at("remove")
		if err := os.Remove(l.old(free) + ext); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for n := free - 1; n >= 1; n-- {
		for _, ext := range []string{"", gz} {
			l.at("move")
			if err := os.Rename(l.old(n)+ext, l.old(n+1)+ext); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	// A link, so that the log has a name all the time; not every file system has
	// them.
	l.at("link")
	err := os.Link(l.path, l.old(1))
	switch {
	case errors.Is(err, fs.ErrNotExist): // removed by hand: only we still have it
		return nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EMLINK):
		return os.Rename(l.path, l.old(1))
	}
	return err
}

// untwin takes the second name from the present file, which a rotation gave it that
// was cut short.
func (l *logFile) untwin() {
	now, err := os.Stat(l.path)
	if err != nil {
		return
	}
	if was, err := os.Stat(l.old(1)); err == nil && os.SameFile(now, was) {
		_ = os.Remove(l.old(1))
	}
}

// at tells a test which step of the rotation comes next.
func (l *logFile) at(step string) {
	if l.step != nil {
		l.step(step)
	}
}

// trim removes what smaller options have no place for, and leftovers of a kill.
func (l *logFile) trim() {
	_ = os.Remove(l.path + ".new")
	l.untwin()
	for n := 1; ; n++ {
		_ = os.Remove(l.old(n) + gz + ".new")
		plain, zipped := exists(l.old(n)), exists(l.old(n)+gz)
		switch {
		case !plain && !zipped && n >= l.options.MaxFile:
			return
		case n >= max(l.options.MaxFile, 1):
			_ = os.Remove(l.old(n))
			_ = os.Remove(l.old(n) + gz)
		case plain && zipped:
			_ = os.Remove(l.old(n) + gz) // killed before the plain one went
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (l *logFile) compressing() bool {
	if l.packed == nil {
		return false
	}
	select {
	case <-l.packed:
		return false
	default:
		return true
	}
}

// compressOld compresses what is not yet, in the background.
func (l *logFile) compressOld() {
	if !l.options.Compress || l.options.MaxFile < 2 || l.compressing() {
		return
	}
	var names []string
	for n := l.options.MaxFile - 1; n >= 1; n-- {
		if exists(l.old(n)) {
			names = append(names, l.old(n))
		}
	}
	if len(names) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.packed, l.stopPacking = make(chan struct{}), cancel
	go func(done chan struct{}) {
		defer close(done)
		defer cancel()
		for _, name := range names {
			if err := compress(ctx, name); err != nil && ctx.Err() == nil {
				l.logger.Warn("a rotated container log cannot be compressed and stays as it is", "path", name, "err", err)
			}
		}
	}(l.packed)
}

// endCompressing stops it; what was not finished stays plain.
func (l *logFile) endCompressing() {
	if l.packed != nil {
		l.stopPacking()
		<-l.packed
	}
}

// compress replaces a file by its .gz, which has the same time of modification.
func compress(ctx context.Context, path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	next := path + gz + ".new"
	out, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(next)
		}
	}()
	z := gzip.NewWriter(out)
	// Who had the plain file open can find it here again.
	z.ModTime = info.ModTime()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		z.Comment = "inode " + strconv.FormatUint(st.Ino, 10)
	}
	_, err = io.Copy(z, readerFunc(func(b []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return in.Read(b)
	}))
	err = errors.Join(err, z.Close(), out.Close())
	if err == nil {
		err = os.Chtimes(next, info.ModTime(), info.ModTime())
	}
	if err == nil {
		err = os.Rename(next, path+gz)
	}
	if err == nil {
		err = os.Remove(path)
	}
	return err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
