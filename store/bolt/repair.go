package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/store"
)

// Repaired tells what became of a file.
type Repaired struct {
	// File is the state file. Sound: nothing was wrong with it, and nothing was done.
	File  string
	Sound bool
	// Reason is what was wrong with it.
	Reason string `json:",omitempty"`
	// Kept is where the damaged file is now; "" when there was none.
	Kept string `json:",omitempty"`
	// Copy is the last good copy, of the moment CopyTime; "" when there is none, or
	// none that can be read wholly (CopyReason).
	Copy       string    `json:",omitempty"`
	CopyTime   time.Time `json:",omitzero"`
	CopyReason string    `json:",omitempty"`
	// BadPages are pages that were not as they should be.
	BadPages int
	// Records are in the file now; Certain of them are as they were last written.
	Records, Certain int
	// FromCopy are keys whose records are the copy's: what was changed or deleted since
	// is not known. FromPages were found beside the tree: they may have been deleted.
	FromCopy, FromPages []string `json:",omitempty"`
	// Holes are ranges of keys that could not be read.
	Holes []Range `json:",omitempty"`
	// Revision of the store as it is now.
	Revision uint64
}

// Complete says that nothing may be missing, nor older than it was.
func (r *Repaired) Complete() bool { return r.Sound || len(r.Holes) == 0 }

// Repair makes a file that Open refuses one that it takes: of all that can be read of
// it, and of the last good copy where it has holes. add, which may be nil, may add
// records (Rev is ignored) before it is written. The damaged file is kept beside. Nothing
// is changed while a process has the file (cnm.ErrConflict), when nothing can be read
// (cnm.ErrUnavailable), and when it is sound.
func Repair(path string, now time.Time, add func(have map[string]store.Entry) []store.Entry) (*Repaired, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	r := &Repaired{File: path}
	f, err := os.Open(path)
	switch {
	case err == nil:
		defer f.Close()
		// bbolt's lock, so that no daemon starts on what is being repaired.
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
			return nil, lockedError(path)
		} else if err != nil {
			return nil, describe(path, "lock", err)
		}
	case errors.Is(err, fs.ErrNotExist):
		r.Reason = "there is no such file"
	default:
		return nil, describe(path, "read", err)
	}
	old, err := r.look(f)
	if err != nil || r.Sound {
		return r, err
	}
	good := r.lookAtCopy()
	if good != nil {
		old.rev = max(old.rev, good.rev)
	}
	r.Certain, r.Holes, r.BadPages = len(old.records), old.holes, old.bad
	r.FromCopy, r.FromPages = old.fill(good)
	if len(old.records) == 0 && good == nil {
		return r, cnm.Errorf(cnm.ErrUnavailable, "%s: %s, and nothing of a state can be read; there is no good copy (%s) either; "+
			"nothing was changed: put a backup in its place, or move it away to start anew", path, r.Reason, copyPath(path))
	}
	if add != nil {
		for _, e := range add(old.records) {
			old.rev++
			e.Rev = int64(old.rev)
			old.records[e.Key] = e
		}
	}
	r.Records, r.Revision = len(old.records), old.rev
	return r, r.replace(f, old, now)
}

// look reads the file and says what is wrong with it.
func (r *Repaired) look(f *os.File) (*salvage, error) {
	if f == nil {
		return dig(&image{page: os.Getpagesize()}, false), nil
	}
	m, err := readImage(f, 0)
	if err != nil {
		return nil, describe(r.File, "read", err)
	}
	s := dig(m, false)
	if s.notOurs() {
		return nil, openError(r.File, errNotOurs)
	}
	if r.Reason = s.reason; s.whole() {
		r.Sound, r.Records, r.Certain, r.Revision = true, len(s.records), len(s.records), s.rev
	}
	return s, nil
}

func (r *Repaired) lookAtCopy() *salvage {
	f, err := os.Open(copyPath(r.File))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.CopyReason = err.Error()
		}
		return nil
	}
	defer f.Close()
	m, err := readImage(f, 0)
	if err != nil {
		r.CopyReason = err.Error()
		return nil
	}
	s := dig(m, false)
	if !s.whole() || s.format != format {
		r.CopyReason = copyPath(r.File) + " is damaged too"
		return nil
	}
	r.Copy = copyPath(r.File)
	if info, err := f.Stat(); err == nil {
		r.CopyTime = info.ModTime()
	}
	return s
}

// replace writes the records to a new file, looks at it as Open does, and puts it in
// place of the damaged one in one step.
func (r *Repaired) replace(f *os.File, s *salvage, now time.Time) error {
	dir := filepath.Dir(r.File)
	tmp, err := os.CreateTemp(dir, filepath.Base(r.File)+".new-")
	if err != nil {
		return describe(r.File, "repair", err)
	}
	_ = tmp.Close()
	defer os.Remove(tmp.Name())
	if err := create(tmp.Name(), s); err != nil {
		return describe(r.File, "repair", err)
	}
	if err := checkFile(tmp.Name()); err != nil {
		return fmt.Errorf("%s: the repaired file is not whole, and was not put in place: %w", r.File, err)
	}
	if f != nil {
		r.Kept = r.File + ".damaged-" + now.UTC().Format("20060102T150405")
		if err := os.Link(r.File, r.Kept); err != nil {
			return describe(r.Kept, "make", err)
		}
	}
	if err := os.Rename(tmp.Name(), r.File); err != nil {
		return describe(r.File, "replace", err)
	}
	return syncDir(dir)
}

// create fills an empty file with records.
func create(path string, s *salvage) error {
	var file *os.File
	o := boltOptions(&file)
	o.InitialMmapSize = 0
	return guard(func() error {
		db, err := bbolt.Open(path, 0o600, o)
		if err != nil {
			return err
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			kv, err := tx.CreateBucket(bucketKV)
			if err != nil {
				return err
			}
			meta, err := tx.CreateBucket(bucketMeta)
			if err != nil {
				return err
			}
			for k, e := range s.records {
				if err := kv.Put([]byte(k), encode(k, e.Value, e.Rev)); err != nil {
					return err
				}
			}
			if err := meta.Put(keyFormat, binary.BigEndian.AppendUint64(nil, format)); err != nil {
				return err
			}
			return meta.Put(keyRev, binary.BigEndian.AppendUint64(nil, s.rev))
		})
		return errors.Join(err, db.Close())
	})
}

// checkFile looks through a file that nobody writes.
func checkFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := readImage(f, 0)
	if err != nil {
		return err
	}
	if s := dig(m, true); !s.whole() {
		return damaged("%s", s.reason)
	}
	return nil
}

// missing says that a state file was here and is gone: its copy is still there. To make
// a new one would recreate silently what was lost.
func missing(path string) error {
	if _, err := os.Stat(copyPath(path)); err != nil {
		return nil
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return cnm.Errorf(cnm.ErrUnavailable, "%w: %s; its last good copy is there, %s; %s; to start anew, remove the copy too",
		errGone, path, copyPath(path), cureRepair(path))
}

var errGone = errors.New("the state file is gone")

// cureRepair is the command for a damaged file.
func cureRepair(path string) string {
	return "linkspan doctor --repair-store --data-root " + filepath.Dir(path) + " brings back what can be read"
}
