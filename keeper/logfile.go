package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// logFile is an open json-file log. Its stream's lock guards it.
type logFile struct {
	path string
	f    *os.File
	// torn: a write stopped in the middle of a line and could not be taken back.
	torn bool

	logger    *slog.Logger
	options   LogOptions
	size      int64
	notBefore time.Time // no rotation until then: it failed
	rotated   func()    // called for each new file
	// packed is closed when the compressing of old files is over; nil: none was.
	packed      chan struct{}
	stopPacking context.CancelFunc

	step func(string) // a test's, between the steps of a rotation
}

// newLogFile is an open log; rotated may be nil.
func newLogFile(path string, f *os.File, o LogOptions, logger *slog.Logger, rotated func()) *logFile {
	l := &logFile{path: path, f: f, options: o, logger: logger, rotated: rotated}
	if info, err := f.Stat(); err == nil {
		l.size = info.Size()
	}
	l.compressOld()
	return l
}

// set changes the options; what is too much by the new ones goes.
func (l *logFile) set(o LogOptions) {
	l.endCompressing()
	l.options = o
	l.trim()
	l.compressOld()
}

// openLog opens a log for appending and mends its end: after a power loss or a
// full disk the file can end in half a line (or, on ext4, in zeros where the
// data never arrived), onto which the next entry would be glued. What follows
// the last newline goes.
func openLog(path string, o LogOptions, logger *slog.Logger, rotated func()) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, cnm.Errorf(classOf(err), "container log %s cannot be opened: %w", path, err)
	}
	if err := mend(f); err != nil {
		f.Close()
		return nil, cnm.Errorf(classOf(err), "container log %s has a torn last line that cannot be cut off: %w", path, err)
	}
	(&logFile{path: path, options: o}).trim()
	return newLogFile(path, f, o, logger, rotated), nil
}

// classOf sorts the errors of files and folders.
func classOf(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return cnm.ErrExhausted
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG):
		return cnm.ErrInvalid
	}
	return cnm.ErrUnavailable
}

func mend(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("it is not a regular file")
	}
	size := info.Size()
	block := make([]byte, 4<<10)
	for end := size; ; {
		start := max(end-int64(len(block)), 0)
		part := block[:end-start]
		if _, err := f.ReadAt(part, start); err != nil && err != io.EOF {
			return err
		}
		keep := start + int64(bytes.LastIndexByte(part, '\n')) + 1
		if keep > start || start == 0 {
			if keep == size {
				return nil
			}
			return f.Truncate(keep)
		}
		end = start
	}
}

// write appends whole entries, and begins new files where the options say so.
// That a new one cannot be had is no error: the present one goes on.
func (l *logFile) write(entries []byte) error {
	for len(entries) > 0 {
		if l.full() {
			fresh, err := l.rotate()
			if err != nil {
				l.logger.Error(err.Error())
			}
			if fresh && l.rotated != nil {
				l.rotated()
			}
		}
		n := l.room(entries)
		if err := l.append(entries[:n]); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// append writes whole entries with one system call. On a full disk it takes a
// half-written line back, so that the log stays readable, and reports the error.
func (l *logFile) append(entries []byte) error {
	if l.torn {
		if err := mend(l.f); err != nil {
			return err
		}
		l.torn = false
	}
	n, err := l.f.Write(entries)
	if err != nil && n > 0 {
		l.torn = true
		if mend(l.f) == nil {
			l.torn = false
		}
	}
	if l.size += int64(n); err != nil {
		if info, serr := l.f.Stat(); serr == nil {
			l.size = info.Size()
		}
	}
	return err
}

// close ends compressing too: who removes the container's folder meets no one.
func (l *logFile) close() error {
	l.endCompressing()
	return l.f.Close()
}
