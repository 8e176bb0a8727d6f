// Package mem is the store in memory: for tests, and for a daemon that is told
// to keep nothing.
package mem

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"

	"linkspan/store"
	"linkspan/store/internal/history"
)

// Store implements [store.Store]. The zero Store is not usable; see New.
type Store struct {
	mu     sync.RWMutex
	kv     map[string]store.Entry
	rev    int64
	closed bool
	log    *history.Log
	hook   func(point string)
	held   map[string]chan struct{} // by key: closed when the key is no longer its holder's
}

// Options of New; the zero value is good.
type Options struct {
	// Hook is called before and after each commit, like the one of store/bolt.
	Hook func(point string)
	// History is how many events a watch can reach back; 0 means 1,024.
	History int
}

// New makes an empty store.
func New(o Options) *Store {
	if o.History == 0 {
		o.History = 1024
	}
	if o.Hook == nil {
		o.Hook = func(string) {}
	}
	return &Store{kv: map[string]store.Entry{}, log: history.New(o.History, 0), hook: o.Hook, held: map[string]chan struct{}{}}
}

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, key string) (store.Entry, bool, error) {
	if err := ctx.Err(); err != nil {
		return store.Entry{}, false, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return store.Entry{}, false, store.ErrClosed
	}
	e, ok := s.kv[key]
	e.Value = bytes.Clone(e.Value)
	return e, ok, nil
}

// List implements [store.Store].
func (s *Store) List(ctx context.Context, prefix string) ([]store.Entry, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, 0, store.ErrClosed
	}
	var out []store.Entry
	for k, e := range s.kv {
		if strings.HasPrefix(k, prefix) {
			e.Value = bytes.Clone(e.Value)
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b store.Entry) int { return strings.Compare(a.Key, b.Key) })
	return out, s.rev, nil
}

// Commit implements [store.Store].
func (s *Store) Commit(ctx context.Context, ops ...store.Op) (int64, error) {
	if err := store.CheckOps(ops); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if len(ops) > 0 {
		s.hook(store.HookPoint(ops, false))
	}
	rev, err := s.commit(ops)
	if err == nil && len(ops) > 0 {
		s.hook(store.HookPoint(ops, true))
	}
	return rev, err
}

func (s *Store) commit(ops []store.Op) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.apply(ops)
}

func (s *Store) apply(ops []store.Op) (int64, error) {
	if s.closed {
		return 0, store.ErrClosed
	}
	for _, op := range ops {
		if op.Guard && s.kv[op.Key].Rev != op.IfRev {
			return 0, store.ErrCompare
		}
	}
	var events []store.Event
	for _, op := range ops {
		if op.Keep {
			continue
		}
		if lost, ok := s.held[op.Key]; ok {
			close(lost)
			delete(s.held, op.Key)
		}
		if op.Value == nil {
			if _, ok := s.kv[op.Key]; !ok {
				continue
			}
			delete(s.kv, op.Key)
			events = append(events, store.Event{Key: op.Key, Rev: s.rev + 1})
			continue
		}
		v := bytes.Clone(op.Value)
		s.kv[op.Key] = store.Entry{Key: op.Key, Value: v, Rev: s.rev + 1}
		events = append(events, store.Event{Key: op.Key, Value: v, Rev: s.rev + 1})
	}
	if len(events) > 0 {
		s.rev++
		s.log.Append(events)
	}
	return s.rev, nil
}

// Watch implements [store.Store].
func (s *Store) Watch(ctx context.Context, prefix string, rev int64) (<-chan store.Event, error) {
	return s.log.Watch(ctx, prefix, rev)
}

// Close implements [store.Store]. Closing twice is success.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.log.Close()
	return nil
}
