package bolt

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// prepare makes the file if there is none: complete under another name first,
// so that a kill or a power cut never leaves a half-made one.
func prepare(path string) error {
	if err := missing(path); err != nil {
		return err
	}
	switch info, err := os.Stat(path); {
	case err == nil && info.Size() == 0:
		return damaged("it is empty") // never by us, and bbolt would make it new
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".new-")
	if err != nil {
		return err
	}
	_ = tmp.Close()
	defer os.Remove(tmp.Name())

	var file *os.File
	o := boltOptions(&file)
	o.InitialMmapSize = 0 // the file's first size follows it
	db, err := bbolt.Open(tmp.Name(), 0o600, o)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucket(bucketKV); err != nil {
			return err
		}
		meta, err := tx.CreateBucket(bucketMeta)
		if err != nil {
			return err
		}
		if err := meta.Put(keyFormat, binary.BigEndian.AppendUint64(nil, format)); err != nil {
			return err
		}
		return meta.Put(keyRev, make([]byte, 8))
	})
	if e := db.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	// link, unlike rename, does not replace what another daemon made meanwhile.
	if err := os.Link(tmp.Name(), path); err != nil {
		if _, e := os.Lstat(path); e == nil {
			return nil
		}
		return err
	}
	return syncDir(dir)
}

// tidy removes what a killed prepare or copy left. The caller holds the lock.
func tidy(path string) {
	left, _ := filepath.Glob(path + ".new-*")
	for _, name := range append(left, copyPath(path)+".new") {
		_ = os.Remove(name)
	}
}

// reserve claims disk blocks ahead of what is in use, as far as the disk gives
// them. bbolt then overwrites instead of growing, which also halves the cost of
// an fsync. It does nothing while more than half of the reserve is left.
func (s *Store) reserve() {
	if s.opts.Reserve < 0 || s.used+s.opts.Reserve/2 <= s.claimed {
		return
	}
	s.claimed = s.used + s.opts.Reserve // also when refused: not asked for at each commit
	_ = unix.Fallocate(int(s.file.Fd()), 0, 0, s.claimed)
}

// verify reads the whole file, which nobody writes yet. A file that was cut, or of
// which a page was changed, is found here, before anything is built on it.
func (s *Store) verify(tx *bbolt.Tx) error {
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if s.used = tx.Size(); info.Size() < s.used {
		return damaged("it has %d bytes of %d", info.Size(), s.used)
	}
	m, err := readImage(s.file, s.used)
	if err != nil {
		return err
	}
	switch d := dig(m, true); {
	case d.notOurs():
		return errNotOurs
	case !d.whole():
		return damaged("%s", d.reason)
	}
	return s.readMeta(tx)
}

// copyPath is where the last good copy of the file lies.
func copyPath(path string) string { return path + ".good" }

// keepCopies makes a copy now and each CopyEvery in which something changed.
func (s *Store) keepCopies() {
	tick := time.NewTicker(s.opts.CopyEvery)
	defer tick.Stop()
	copied := int64(-1)
	for {
		if rev, err := s.copy(copied); err != nil {
			s.opts.Log.Warn("no copy of the state file could be made", "file", s.path, "error", err)
		} else {
			copied = rev
		}
		select {
		case <-tick.C:
		case <-s.quit:
			return
		}
	}
}

// copy verifies and copies one moment's state, unless it is the revision have.
func (s *Store) copy(have int64) (rev int64, err error) {
	if err := s.usable(); err != nil {
		return have, nil // closing, or it was already said
	}
	tmp := copyPath(s.path) + ".new"
	err = guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			// A Store of its own: s.rev belongs to the writing goroutine.
			at := Store{file: s.file}
			if err := at.readMeta(tx); err != nil {
				return err
			}
			if rev = at.rev; rev == have {
				return nil
			}
			f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
			if err != nil {
				return err
			}
			defer f.Close()
			if _, err := tx.WriteTo(f); err != nil {
				return err
			}
			// What was copied is looked at: the file itself is being written to.
			if err := checkFile(tmp); err != nil {
				return err
			}
			return f.Sync()
		})
	})
	if err != nil {
		_ = os.Remove(tmp)
		if isDamage(err) {
			err = damageError(s.path, err)
			s.breakWith(err)
		}
		return have, err
	}
	if rev == have {
		return have, nil
	}
	if err := os.Rename(tmp, copyPath(s.path)); err != nil {
		return have, err
	}
	return rev, syncDir(filepath.Dir(s.path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
