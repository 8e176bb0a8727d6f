// Package history keeps the newest events of a store in memory and serves
// watches from them. A store that keeps no past on its medium (memory, bbolt)
// remembers as much as this; whoever asks for older revisions lists again.
package history

import (
	"context"
	"strings"
	"sync"

	"linkspan/store"
)

// Log is a bounded ring of events in commit order. Safe for concurrent use; one
// goroutine at a time appends.
type Log struct {
	mu     sync.Mutex
	ring   []store.Event
	next   uint64 // sequence number of the next event; seq lives at ring[seq%len]
	oldest uint64 // sequence number of the oldest event kept
	// floor is the revision up to which events are not (or no longer) all here: a
	// watch from floor or later misses nothing.
	floor  int64
	wake   chan struct{} // closed and replaced at each append
	closed bool
}

// New makes a log of at most size events. rev is the store's revision now:
// nothing before it can be watched.
func New(size int, rev int64) *Log {
	return &Log{ring: make([]store.Event, max(size, 1)), floor: rev, wake: make(chan struct{})}
}

// Append adds the events of one or more commits, in order, and wakes the watches.
func (l *Log) Append(events []store.Event) {
	if len(events) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	size := uint64(len(l.ring))
	for _, e := range events {
		slot := &l.ring[l.next%size]
		if l.next-l.oldest == size {
			l.floor = max(l.floor, slot.Rev)
			l.oldest++
		}
		*slot = e
		l.next++
	}
	close(l.wake)
	l.wake = make(chan struct{})
}

// Close ends all watches: their channels close.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.wake)
	}
}

// Watch delivers the events after rev under prefix, see [store.Store.Watch]. A
// reader that falls behind by the whole ring finds its channel closed.
func (l *Log) Watch(ctx context.Context, prefix string, rev int64) (<-chan store.Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, store.ErrClosed
	}
	if rev < l.floor {
		return nil, store.ErrCompacted
	}
	seq := l.oldest
	for seq < l.next && l.ring[seq%uint64(len(l.ring))].Rev <= rev {
		seq++
	}
	out := make(chan store.Event, 64)
	go l.serve(ctx, prefix, rev, seq, out)
	return out, nil
}

// serve copies events out in small pieces, so that no lock is held while a
// reader takes its time.
func (l *Log) serve(ctx context.Context, prefix string, rev int64, seq uint64, out chan<- store.Event) {
	defer close(out)
	var piece []store.Event
	for {
		l.mu.Lock()
		if seq < l.oldest || l.closed {
			l.mu.Unlock()
			return
		}
		piece = piece[:0]
		for ; seq < l.next && len(piece) < cap(out); seq++ {
			// A watch can be set on a revision that a commit has reached but not yet
			// appended here (List ran between the two): skip up to it.
			e := l.ring[seq%uint64(len(l.ring))]
			if e.Rev > rev && strings.HasPrefix(e.Key, prefix) {
				piece = append(piece, e)
			}
		}
		idle, wake := seq == l.next, l.wake
		l.mu.Unlock()

		for _, e := range piece {
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
		if !idle {
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return
		}
	}
}
