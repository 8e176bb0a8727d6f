package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// logFile is an open json-file log. Its stream's lock guards it.
type logFile struct {
	path string
	f    *os.File
	// torn: a write stopped in the middle of a line and could not be taken back.
	torn bool
}

// openLog opens a log for appending and mends its end: after a power loss or a
// full disk the file can end in half a line (or, on ext4, in zeros where the
// data never arrived), onto which the next entry would be glued. What follows
// the last newline goes.
func openLog(path string) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, cnm.Errorf(classOf(err), "container log %s cannot be opened: %w", path, err)
	}
	if err := mend(f); err != nil {
		f.Close()
		return nil, cnm.Errorf(classOf(err), "container log %s has a torn last line that cannot be cut off: %w", path, err)
	}
	return &logFile{path: path, f: f}, nil
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

// write appends whole entries with one system call. On a full disk it takes a
// half-written line back, so that the log stays readable, and reports the error.
func (l *logFile) write(entries []byte) error {
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
	return err
}

func (l *logFile) close() error { return l.f.Close() }
