// Package store is the one truth that the engine is reconciled to: a small
// ordered map of keys to bytes with compare-and-set commits and watches.
// bbolt serves one host (store/bolt), memory serves tests (store/mem), etcd
// serves a mesh (store/etcd); all pass the same suite (store/storetest).
package store

import (
	"context"
	"errors"
	"time"
)

// Errors that every store answers with.
var (
	// ErrCompare: a condition of a commit did not hold; nothing was written.
	ErrCompare = errors.New("store: compare failed")
	// ErrCompacted: the revision to watch from is gone; list again.
	ErrCompacted = errors.New("store: revision compacted")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store: closed")
	// ErrFull: the medium has no room; nothing was written.
	ErrFull = errors.New("store: no space left")
	// ErrUnclear: a commit left for the store and no answer came: it is written, or not,
	// or will be in a while (it may wait in a server that is cut off). Only a store
	// elsewhere (etcd) answers this. What a caller may do:
	//   - a commit all of whose writes are of keys that only the caller writes, and say all
	//     there is to say: commit again what is true then;
	//   - a commit with a guard that it breaks itself (a put or a delete with IfRev not 0, or
	//     a put with IfRev 0): commit the very same again. At most one of the two is written.
	//     If the second answers ErrCompare, either the first was written or another came
	//     before: read back and look for what only this caller can have written (its own
	//     name in the value);
	//   - anything else: read back, and count with both.
	ErrUnclear = errors.New("store: it is not known whether it was written")
)

// Entry is one key with its value. Rev is the revision of the commit that last
// wrote the key; it is never 0 for a key that exists.
type Entry struct {
	Key   string
	Value []byte
	Rev   int64
}

// Op is one write of a commit. A nil Value deletes the key.
// With Guard set, the commit fails with ErrCompare unless the key's Rev is
// IfRev at that moment (0: the key must not exist).
type Op struct {
	Key   string
	Value []byte
	Guard bool
	IfRev int64
	// Keep, with Guard, leaves the key as it is: the op is a condition on it and no
	// write (etcd's compare without a put). Value is ignored, and no event comes of it.
	Keep bool
}

// Event is one change seen by a watch, in commit order. Value is nil for a delete.
type Event struct {
	Key   string
	Value []byte
	Rev   int64
}

// Store is safe for concurrent use.
type Store interface {
	// Get returns the entry, or ok false.
	Get(ctx context.Context, key string) (e Entry, ok bool, err error)
	// List returns the entries under a prefix in key order, and the store's
	// revision at that moment, from which a Watch misses nothing.
	List(ctx context.Context, prefix string) (entries []Entry, rev int64, err error)
	// Commit writes all ops or none, durably, and returns the new revision.
	Commit(ctx context.Context, ops ...Op) (rev int64, err error)
	// Watch delivers the events after rev under prefix until ctx ends. The
	// channel closes then, or when the watch cannot go on (list again).
	Watch(ctx context.Context, prefix string, rev int64) (<-chan Event, error)
	// Close frees the store. Later calls answer ErrClosed.
	Close() error
}

// Leaser is a store that takes keys back from whoever is gone: etcd and memory do,
// one host's file has no need to.
type Leaser interface {
	// Hold writes a key that exists as long as ctx does: it is renewed, deleted when ctx
	// ends, and deleted by the store ttl after the last renewal when this process dies or
	// is cut off. With op.Guard the first write is conditional, as in Commit. lost is
	// closed when the key is gone although ctx has not ended; Hold again then.
	Hold(ctx context.Context, op Op, ttl time.Duration) (lost <-chan struct{}, err error)
}
