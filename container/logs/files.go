package logs

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"
)

// A log is one file, or several: the current one at its path, and rotated ones,
// path.1 the youngest, each perhaps compressed with .gz behind. The keeper renames
// them while we read: a file that is open stays the same file.

// source is one file of a log.
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

func closeAll(list []*source) {
	for _, s := range list {
		s.f.Close()
	}
}

// at is the inode that a path leads to now; 0: none.
func at(path string) uint64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return inode(st)
}

// rotating says that the names of a log do not fit together: the keeper has made
// the next file and is moving the others. One that it left behind when it was
// killed means nothing.
func rotating(path string) bool {
	st, err := os.Stat(path + ".new")
	return err == nil && time.Since(st.ModTime()) < 5*time.Second
}

// openAll opens the files of a log, the youngest first. A rotation meanwhile would
// show one file twice, or hide one: then all begins anew.
func openAll(path string) (list []*source, err error) {
	for range 200 {
		list, err = openOnce(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at(path+".1") != 0:
			// Between a rename and the new file.
		case err != nil:
			return nil, err
		case list[0].ino == at(path) && !rotating(path) && (len(list) < 2 || list[1].ino != list[0].ino):
			return list, nil
		default:
			closeAll(list)
		}
		time.Sleep(time.Millisecond)
	}
	// It rotates faster than we can look: the newest file is better than none.
	s, err := open(path, false)
	if err != nil {
		return nil, err
	}
	return []*source{s}, nil
}

func openOnce(path string) ([]*source, error) {
	current, err := open(path, false)
	if err != nil {
		return nil, err
	}
	list := []*source{current}
	for i := 1; ; i++ {
		name := path + "." + strconv.Itoa(i)
		// The compressed one is there before the plain one goes.
		s, err := open(name, false)
		if errors.Is(err, fs.ErrNotExist) {
			s, err = open(name+".gz", true)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return list, nil
		}
		if err != nil {
			closeAll(list)
			return nil, err
		}
		list = append(list, s)
	}
}

// following opens what came after the file cur, oldest first. last is the time of
// the last entry of cur, for when cur is not to be found again because it was
// compressed.
func following(path string, cur *source, last time.Time) ([]*source, error) {
	list, err := openAll(path)
	if err != nil {
		return nil, err
	}
	newer := len(list)
	for i, s := range list {
		if s.ino == cur.ino && !s.gz {
			newer = i
			break
		}
	}
	if newer == len(list) {
		newer = 1 // the current one is another in any case
		for newer < len(list) && list[newer].first().After(last) {
			newer++
		}
	}
	closeAll(list[newer:])
	list = list[:newer]
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	return list, nil
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

// first is the time of the first entry; zero: there is none to be read.
func (s *source) first() time.Time {
	r, err := s.reader(0)
	if err != nil {
		return time.Time{}
	}
	line, err := bufio.NewReaderSize(r, block).ReadBytes('\n')
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
