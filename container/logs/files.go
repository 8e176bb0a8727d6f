package logs

import (
	"bufio"
	"compress/gzip"
	"io"
	"io/fs"
	"math"
	"os"
	"syscall"
	"time"
)

// source is one file of a log: a file that is open stays the same file, whatever its
// name becomes.
type source struct {
	f   *os.File
	gz  bool
	ino uint64
	mod time.Time
}

func open(path string, gz bool) (*source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &source{f: f, gz: gz, ino: inode(st), mod: st.ModTime()}, nil
}

func inode(st fs.FileInfo) uint64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}

// same says that both are one file.
func (s *source) same(o *source) bool { return s.gz == o.gz && s.ino == o.ino }

func closeAll(list []*source) {
	for _, s := range list {
		s.f.Close()
	}
}

// reader reads a file from where its offset is, or a compressed one from skip
// bytes of its content on.
func (s *source) reader(skip int64) (io.Reader, error) {
	if !s.gz {
		if _, err := s.f.Seek(skip, io.SeekStart); err != nil {
			return nil, err
		}
		return s.f, nil
	}
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bufio.NewReaderSize(s.f, block))
	if err != nil {
		return nil, err
	}
	_, err = io.CopyN(io.Discard, z, skip)
	return z, err
}

// first is the time of the first entry; zero: there is none to be read. It leaves
// the offset alone.
func (s *source) first() time.Time {
	var r io.Reader = io.NewSectionReader(s.f, 0, math.MaxInt64)
	if s.gz {
		z, err := gzip.NewReader(r)
		if err != nil {
			return time.Time{}
		}
		r = z
	}
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if err != nil {
		return time.Time{}
	}
	e, _ := parse(line)
	return e.Time
}

// tail finds where in the file the last n entries that match begin, and how many
// of the n it has not.
func (s *source) tail(n int, match func(line []byte) bool) (offset int64, left int, err error) {
	if !s.gz {
		st, err := s.f.Stat()
		if err != nil {
			return 0, 0, err
		}
		return tailOffset(s.f, st.Size(), n, match)
	}
	r, err := s.reader(0)
	if err != nil {
		return 0, 0, err
	}
	return tailForward(r, n, match)
}
