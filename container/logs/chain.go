package logs

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// chain is the files of a log: place 0 is the one at its path, which is written to,
// place n is path.n, perhaps compressed with .gz behind.
//
// The keeper moves them while we look. What holds at every moment of that, and what
// everything here is built upon (keeper/rotate.go):
//
//   - A file only ever moves up, by one, and not before the older one has left that
//     place: while a file is at a place, its neighbours are the same. For a moment
//     there is a hole above it or below it.
//   - The youngest has two places, 0 and 1, until the next file takes 0 from it.
//     Where there are no links, it has 1 only and 0 is a hole.
//   - The compressed file is there before the plain one goes, and says which it was.
//
// So a neighbour is right when the file is still where it was after the neighbour was
// opened. Nothing has to stand still for longer than that: however fast a log rotates,
// no file is passed over.
type chain struct {
	path string
	// look is called before each look at the files; a test lets them move there.
	look func()
}

func (c *chain) name(n int) string {
	if n == 0 {
		return c.path
	}
	return c.path + "." + strconv.Itoa(n)
}

// inode of a name; 0: there is none.
func (c *chain) inode(name string) uint64 {
	c.looks()
	st, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return inode(st)
}

func (c *chain) looks() {
	if c.look != nil {
		c.look()
	}
}

// open opens what is at a place; nil and no error: a hole.
func (c *chain) open(n int) (*source, error) {
	c.looks()
	s, err := open(c.name(n), false)
	if errors.Is(err, fs.ErrNotExist) && n > 0 {
		c.looks()
		s, err = open(c.name(n)+".gz", true)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return s, err
}

// hole says that nothing is at a place.
func (c *chain) hole(n int) bool {
	return c.inode(c.name(n)) == 0 && (n == 0 || c.inode(c.name(n)+".gz") == 0)
}

// at says that a file is at a place, in whichever form.
func (c *chain) at(n int, s *source) bool {
	if !s.gz && c.inode(c.name(n)) == s.ino {
		return true
	}
	if n == 0 {
		return false
	}
	zipped := c.name(n) + ".gz"
	if s.gz {
		return c.inode(zipped) == s.ino
	}
	c.looks()
	return s.became(zipped)
}

// became says that a compressed file is what became of s. It has the time of it, and
// its inode in the comment: the time alone is the clock's tick, which short files
// share. The inode is s's as long as s is open.
func (s *source) became(zipped string) bool {
	was, err := s.f.Stat()
	if err != nil {
		return false
	}
	f, err := os.Open(zipped)
	if err != nil {
		return false
	}
	defer f.Close()
	if is, err := f.Stat(); err != nil || !is.ModTime().Equal(was.ModTime()) {
		return false
	}
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return false
	}
	if ino, told := strings.CutPrefix(z.Comment, "inode "); told {
		return ino == strconv.FormatUint(s.ino, 10)
	}
	// Compressed by another hand.
	first := (&source{f: f, gz: true}).first()
	return !first.IsZero() && first.Equal(s.first())
}

// holes in a row are the end of the names: one is left by a move, a second by a file
// that somebody removed.
const holes = 3

// find returns where a file is, which is at from or above; -1: it is gone.
func (c *chain) find(s *source, from int) int {
	for n, empty := from, 0; empty < holes; n++ {
		if c.at(n, s) {
			return n
		}
		if c.hole(n) {
			empty++
		} else {
			empty = 0
		}
	}
	return -1
}

// youngest opens the file that is written to. Where links are not to be had it is
// away for a moment; when somebody removed it, the log ends with path.1.
func (c *chain) youngest() (s *source, n int, err error) {
	for range 100 {
		if s, err = c.open(0); s != nil || err != nil {
			return s, 0, err
		}
		if c.hole(1) {
			// The new one can have come since, and the old one gone.
			if s, err = c.open(0); s == nil && err == nil {
				err = &fs.PathError{Op: "open", Path: c.path, Err: syscall.ENOENT}
			}
			return s, 0, err
		}
		time.Sleep(time.Millisecond)
	}
	if s, err = c.open(1); s == nil && err == nil {
		err = &fs.PathError{Op: "open", Path: c.name(1), Err: syscall.ENOENT}
	}
	return s, 1, err
}

// older opens the file before s, which was at the place n; nil: there is none.
func (c *chain) older(s *source, n int) (*source, int, error) {
	for {
		if n = c.find(s, n); n < 0 {
			return nil, -1, nil // what is older than it went before it
		}
		for place := n + 1; place <= n+holes; place++ {
			next, err := c.open(place)
			if err != nil {
				return nil, -1, err
			}
			if next == nil {
				continue
			}
			if next.same(s) {
				next.f.Close()
				continue
			}
			if c.at(n, s) {
				return next, place, nil
			}
			next.f.Close()
			break
		}
		if c.at(n, s) {
			return nil, -1, nil
		}
	}
}

// newer opens the file after s, which was at the place n; nil: there is none yet.
// gone says that s is no more to be found.
func (c *chain) newer(s *source, n int) (next *source, place int, gone bool, err error) {
	for {
		if n = c.find(s, n); n < 0 {
			return nil, -1, true, nil
		}
		if next, place, err = c.below(n); err != nil || next == nil || next.same(s) {
			if next != nil {
				next.f.Close()
			}
			if err != nil || c.at(n, s) {
				return nil, -1, false, err
			}
			continue
		}
		// Below a hole it could have moved up before it was opened, and this be the
		// one after it. Looked for upwards, nothing that moves up is overlooked.
		empty := true
		for hole := place + 1; hole < n && empty; hole++ {
			empty = c.hole(hole)
		}
		if empty && c.at(n, s) {
			return next, place, false, nil
		}
		next.f.Close()
	}
}

// below opens the next file below a place.
func (c *chain) below(n int) (*source, int, error) {
	for place := n - 1; place >= 0; place-- {
		s, err := c.open(place)
		if s != nil || err != nil {
			return s, place, err
		}
	}
	return nil, -1, nil
}

// after opens the oldest file that begins after a time: what follows a file that is
// gone. zero time: the youngest.
func (c *chain) after(last time.Time) (*source, int, error) {
	s, n, err := c.youngest()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, -1, nil
	}
	if err != nil || last.IsZero() {
		return s, n, err
	}
	if first := s.first(); !first.IsZero() && first.Before(last) {
		s.f.Close()
		return nil, -1, nil
	}
	for {
		next, place, err := c.older(s, n)
		if err != nil || next == nil {
			return s, n, err
		}
		// Parts of one line have one time, in whichever files they are.
		if next.first().Before(last) {
			next.f.Close()
			return s, n, nil
		}
		s.f.Close()
		s, n = next, place
	}
}
