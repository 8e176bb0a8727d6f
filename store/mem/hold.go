package mem

import (
	"context"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// Hold implements [store.Leaser]. The holder is in this process and cannot be cut off: ttl
// counts for nothing here, see View for where it does.
func (s *Store) Hold(ctx context.Context, op store.Op, ttl time.Duration) (<-chan struct{}, error) {
	lost, rev, err := s.hold(ctx, op)
	if err != nil {
		return nil, err
	}
	out := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
			s.giveBack(op.Key, rev)
		case <-lost:
			if ctx.Err() == nil { // the end of the holder is no loss
				close(out)
			}
		}
	}()
	return out, nil
}

// hold writes the key; lost is closed by the commit that takes it.
func (s *Store) hold(ctx context.Context, op store.Op) (lost chan struct{}, rev int64, err error) {
	if err := store.CheckOps([]store.Op{op}); err != nil {
		return nil, 0, err
	}
	if op.Value == nil || op.Keep {
		return nil, 0, cnm.Invalid("store: the key %q is to be held without a value", op.Key)
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rev, err = s.apply([]store.Op{op})
	if err != nil {
		return nil, 0, err
	}
	lost = make(chan struct{})
	s.held[op.Key] = lost
	return lost, rev, nil
}

// giveBack deletes the key if it is still the holder's.
func (s *Store) giveBack(key string, rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.apply([]store.Op{{Key: key, Guard: true, IfRev: rev}})
}
