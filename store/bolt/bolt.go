// Package bolt is the store of one host: a bbolt file in the data root. One
// commit is one durable transaction; concurrent commits share their fsync.
//
// The file holds two buckets. "kv" maps a key to its record (see record.go),
// "meta" holds the revision and the format's version. Watches are served from
// memory: after a restart, whoever watched lists again.
package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"linkspan/cnm"
	"linkspan/store"
	"linkspan/store/internal/history"
)

var (
	bucketKV   = []byte("kv")
	bucketMeta = []byte("meta")
	keyRev     = []byte("revision")
	keyFormat  = []byte("format")
)

// format is the version of the layout of the file.
const format = 1

// Options of Open; the zero value is good.
type Options struct {
	// Hook is called before each commit is written and after it is durable, before
	// its caller is answered, with the point's name (see [store.HookPoint]). It
	// runs on the one goroutine that writes: what it delays, all writers wait for.
	Hook func(point string)
	// History is how many events a watch can reach back; 0 means 1,024.
	History int
	// Reserve is how many bytes of disk the file claims ahead, so that state can
	// still be written (and containers removed) when something else has filled
	// the disk. 0 means 4 MiB, negative none.
	Reserve int64
	// CopyEvery is how often a copy of the file is kept as PATH.good, if something
	// changed since; one is also made at start. 0 means one minute, negative never.
	CopyEvery time.Duration
	// Log is used for what goes wrong in the background; nil means slog.Default.
	Log *slog.Logger
}

// Store implements [store.Store]. See Open.
type Store struct {
	path string
	file *os.File // bbolt's own descriptor, which holds the lock
	db   *bbolt.DB
	opts Options
	log  *history.Log

	// Of the writing goroutine alone: the newest durable revision, how much of the
	// file is in use, and how large it was made by reserve.
	rev           int64
	used, claimed int64

	mu     sync.Mutex
	queue  []*pending
	closed bool
	broken error // set once the file cannot be trusted any more

	wake chan struct{} // capacity 1: the queue or closed changed
	quit chan struct{} // closed by Close: ends the copier
	done sync.WaitGroup
}

// Open opens the file at path, and makes it if there is none. Errors:
// cnm.ErrConflict when another process has it (named, if it can be found),
// cnm.ErrUnavailable when it cannot be written or is damaged (then it is left as
// it is, and the last good copy is named), cnm.ErrExhausted with store.ErrFull
// when the disk is full.
func Open(path string, o Options) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "state file %s: %w", path, err)
	}
	o.fill()
	switch err := prepare(path); {
	case isDamage(err):
		return nil, damageError(path, err)
	case errors.Is(err, errGone):
		return nil, err
	case err != nil:
		return nil, describe(path, "make", err)
	}
	s := &Store{
		path: path, opts: o,
		wake: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	tidy(path)
	s.reserve()
	s.log = history.New(o.History, s.rev)
	s.done.Go(s.write)
	if o.CopyEvery > 0 {
		s.done.Go(s.keepCopies)
	}
	return s, nil
}

func (o *Options) fill() {
	if o.Hook == nil {
		o.Hook = func(string) {}
	}
	if o.History == 0 {
		o.History = 1024
	}
	if o.Reserve == 0 {
		o.Reserve = 4 << 20
	}
	if o.CopyEvery == 0 {
		o.CopyEvery = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
}

// boltOptions are the same for each way to open the file. The free list is
// written with each commit (bbolt's default): an open that had to find it by a
// scan would read damaged pages in a goroutine of bbolt's, which no one can
// recover.
func boltOptions(file **os.File) *bbolt.Options {
	return &bbolt.Options{
		Timeout:         time.Nanosecond, // bbolt: 0 waits for ever, anything below 50 ms tries once
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: 64 << 20, // a remap waits for all readers
		NoStatistics:    true,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			*file = f
			return f, err
		},
	}
}

func (s *Store) open() error {
	err := guard(func() (err error) {
		s.db, err = bbolt.Open(s.path, 0o600, boltOptions(&s.file))
		return err
	})
	if err == nil {
		s.db.AllocSize = 1 << 20 // how far the file grows at a time, beyond what is reserved
		err = guard(func() error { return s.db.View(s.verify) })
	}
	if err == nil {
		return nil
	}
	_ = s.letGo()
	return openError(s.path, err)
}

// letGo gives the file back without bbolt, which may have died holding its own
// locks. Its mapping stays, and would keep the lock of the file: flock(2) locks
// belong to the open file description, which a mapping holds too.
func (s *Store) letGo() error {
	if s.file == nil {
		return nil
	}
	_ = syscall.Flock(int(s.file.Fd()), syscall.LOCK_UN)
	return s.file.Close()
}

func (s *Store) readMeta(tx *bbolt.Tx) error {
	meta := tx.Bucket(bucketMeta)
	if meta == nil || tx.Bucket(bucketKV) == nil {
		return errNotOurs
	}
	if v := meta.Get(keyFormat); len(v) != 8 || binary.BigEndian.Uint64(v) != format {
		return errNotOurs
	}
	v := meta.Get(keyRev)
	if len(v) != 8 {
		return damaged("the revision is missing")
	}
	s.rev = int64(binary.BigEndian.Uint64(v))
	return nil
}

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, key string) (e store.Entry, ok bool, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		raw := tx.Bucket(bucketKV).Get([]byte(key))
		if raw == nil {
			return nil
		}
		ok = true
		e, err = decode([]byte(key), raw)
		return err
	})
	if err != nil {
		return store.Entry{}, false, err
	}
	return e, ok, nil
}

// List implements [store.Store].
func (s *Store) List(ctx context.Context, prefix string) (entries []store.Entry, rev int64, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		rev = int64(binary.BigEndian.Uint64(tx.Bucket(bucketMeta).Get(keyRev)))
		c, p := tx.Bucket(bucketKV).Cursor(), []byte(prefix)
		for k, v := c.Seek(p); k != nil && bytes.HasPrefix(k, p); k, v = c.Next() {
			e, err := decode(k, v)
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return entries, rev, nil
}

func (s *Store) view(ctx context.Context, fn func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.usable(); err != nil {
		return err
	}
	err := guard(func() error { return s.db.View(fn) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return store.ErrClosed
	case isDamage(err):
		err = damageError(s.path, err)
		s.breakWith(err)
		return err
	}
	return describe(s.path, "read", err)
}

func (s *Store) usable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	return s.broken
}

func (s *Store) breakWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = err
		s.opts.Log.Error("the state file cannot be used any more", "file", s.path, "error", err)
	}
}

// Watch implements [store.Store].
func (s *Store) Watch(ctx context.Context, prefix string, rev int64) (<-chan store.Event, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	return s.log.Watch(ctx, prefix, rev)
}

// Close implements [store.Store]: commits that wait are answered ErrClosed, the
// one being written is finished. Closing twice is success.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	broken := s.broken
	s.mu.Unlock()
	close(s.quit)
	s.nudge()
	s.done.Wait()
	s.log.Close()
	if broken != nil {
		return s.letGo()
	}
	return s.db.Close()
}
