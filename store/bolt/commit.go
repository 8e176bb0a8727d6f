package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"go.etcd.io/bbolt"

	"linkspan/cnm"
	"linkspan/store"
)

// pending is one caller's commit on its way through the writing goroutine.
type pending struct {
	ops    []store.Op
	events []store.Event // what it changed, once applied
	rev    int64
	err    error
	done   chan struct{}
}

// batchBytes bounds how much is written under one fsync, so that one commit is
// not kept waiting by an endless stream of others.
const batchBytes = 8 << 20

// Commit implements [store.Store]. A ctx that ends before the write began takes
// the commit back; later it is waited for, so that the answer is always true.
func (s *Store) Commit(ctx context.Context, ops ...store.Op) (int64, error) {
	if err := store.CheckOps(ops); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	p := &pending{ops: ops, done: make(chan struct{})}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, store.ErrClosed
	}
	if s.broken != nil {
		s.mu.Unlock()
		return 0, s.broken
	}
	s.queue = append(s.queue, p)
	s.mu.Unlock()
	s.nudge()

	select {
	case <-p.done:
	case <-ctx.Done():
		if s.takeBack(p) {
			return 0, ctx.Err()
		}
		<-p.done
	}
	return p.rev, p.err
}

func (s *Store) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Store) takeBack(p *pending) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.queue, p)
	if i < 0 {
		return false
	}
	s.queue = slices.Delete(s.queue, i, i+1)
	return true
}

// write is the one goroutine that writes. While it waits for the disk, the
// queue fills; the next round takes all of it.
func (s *Store) write() {
	for {
		batch, err := s.take()
		switch {
		case err != nil:
			for _, p := range batch {
				p.err = err
				close(p.done)
			}
			if errors.Is(err, store.ErrClosed) {
				return
			}
		case len(batch) == 0:
			<-s.wake
		default:
			s.commit(batch)
			for _, p := range batch {
				close(p.done)
			}
		}
	}
}

// take empties the queue, up to a bound. With an error, no more commits come
// after this batch (ErrClosed), or none can be done (broken).
func (s *Store) take() ([]*pending, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.broken != nil {
		all := s.queue
		s.queue = nil
		switch {
		case s.closed:
			return all, store.ErrClosed
		case len(all) > 0:
			return all, s.broken
		}
		return nil, nil
	}
	n, size := 0, 0
	for n < len(s.queue) && (n == 0 || size < batchBytes) {
		for _, op := range s.queue[n].ops {
			size += len(op.Key) + len(op.Value)
		}
		n++
	}
	batch := slices.Clone(s.queue[:n])
	s.queue = slices.Delete(s.queue, 0, n)
	return batch, nil
}

// commit writes a batch under one fsync. If the medium refuses it, each commit
// is tried alone, so that a large one does not take small ones with it.
func (s *Store) commit(batch []*pending) {
	for _, p := range batch {
		if len(p.ops) > 0 {
			s.opts.Hook(store.HookPoint(p.ops, false))
		}
	}
	err := s.flush(batch)
	if err != nil && len(batch) > 1 && s.usable() == nil {
		for _, p := range batch {
			if err := s.flush([]*pending{p}); err != nil {
				p.err = err
			}
		}
	} else if err != nil {
		for _, p := range batch {
			p.err = err
		}
	}
	for _, p := range batch {
		if p.err == nil && len(p.ops) > 0 {
			s.opts.Hook(store.HookPoint(p.ops, true))
		}
	}
}

// flush does one transaction. A commit whose condition fails is left out and
// gets ErrCompare; an error of the whole is returned and nothing was written.
func (s *Store) flush(batch []*pending) error {
	rev, used := s.rev, s.used
	var events []store.Event
	err := guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			kv := tx.Bucket(bucketKV)
			for _, p := range batch {
				if err := apply(kv, p, rev+1); err != nil {
					return err
				}
				if len(p.events) > 0 {
					rev++
					events = append(events, p.events...)
				}
				if p.err == nil {
					p.rev = rev
				}
			}
			if rev == s.rev {
				return errNothing
			}
			used = tx.Size()
			return tx.Bucket(bucketMeta).Put(keyRev, binary.BigEndian.AppendUint64(nil, uint64(rev)))
		})
	})
	switch {
	case err == nil:
		s.rev, s.used = rev, used
		s.log.Append(events)
		s.reserve()
		return nil
	case errors.Is(err, errNothing):
		return nil
	case isDamage(err):
		err = damageError(s.path, err)
		s.breakWith(err)
	default:
		err = s.afterFailure(rev, err)
	}
	for _, p := range batch {
		p.rev, p.events = 0, nil
	}
	return err
}

// errNothing rolls a transaction back in which nothing would be written: no fsync.
var errNothing = errors.New("nothing to write")

// afterFailure asks whether a failed transaction left its mark: when the last
// fsync failed, the new meta page is in the page cache, visible, and perhaps
// not on the disk. What is then true is unknown, and Linux reports such an
// error once only (fsync(2)), so nothing may be built on it.
func (s *Store) afterFailure(rev int64, cause error) error {
	err := describe(s.path, "write", cause)
	was := s.rev
	if e := guard(func() error { return s.db.View(s.readMeta) }); e != nil || s.rev != was {
		s.rev = was
		err = cnm.Errorf(cnm.ErrUnavailable, "state file %s: the disk failed while revision %d was written (%w); "+
			"check the disk, then restart the daemon", s.path, rev, cause)
		s.breakWith(err)
	}
	return err
}

// apply does one commit's operations in the transaction, all or none: the
// conditions first, since what they look at and what is written are different
// keys or the same op.
func apply(kv *bbolt.Bucket, p *pending, rev int64) error {
	p.rev, p.events, p.err = 0, nil, nil
	for i := range p.ops {
		op := &p.ops[i]
		if !op.Guard {
			continue
		}
		var have int64
		if raw := kv.Get([]byte(op.Key)); raw != nil {
			var err error
			if have, err = check([]byte(op.Key), raw); err != nil {
				return err
			}
		}
		if have != op.IfRev {
			p.err = store.ErrCompare
			return nil
		}
	}
	for i := range p.ops {
		op := &p.ops[i]
		key := []byte(op.Key)
		if op.Keep {
			continue
		}
		if op.Value == nil {
			if kv.Get(key) == nil {
				continue
			}
			if err := kv.Delete(key); err != nil {
				return err
			}
			p.events = append(p.events, store.Event{Key: op.Key, Rev: rev})
			continue
		}
		record := encode(op.Key, op.Value, rev)
		if err := kv.Put(key, record); err != nil {
			return err
		}
		// The event shares the record's memory, which is ours; bbolt copies it to its
		// page when it commits.
		p.events = append(p.events, store.Event{Key: op.Key, Value: record[recordHead:], Rev: rev})
	}
	return nil
}
