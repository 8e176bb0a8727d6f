// Package events is the daemon's event stream: what happened, to which object,
// in Docker's words.
package events

import (
	"context"
	"sync"
	"time"
)

// Event is one happening. Type and Action are Docker's ("container", "start").
type Event struct {
	Type   string
	Action string
	ID     string
	// Attributes always hold what a person knows the object by ("name").
	Attributes map[string]string
	Time       time.Time
}

// keep is how many past events a late subscriber can still ask for; dockerd
// keeps 256.
const keep = 1024

// Bus hands events to subscribers and remembers the last 1,024. The zero Bus is
// not usable; see New. Safe for concurrent use.
type Bus struct {
	mu   sync.Mutex
	past []Event
	subs map[chan Event]struct{}
}

// New makes a bus.
func New() *Bus { return &Bus{subs: map[chan Event]struct{}{}} }

// Publish hands an event to all subscribers. A subscriber that is 1,024 events
// behind is dropped (its channel closes) rather than let it block the engine.
func (b *Bus) Publish(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Times are strictly increasing, so that `--since` of one event's time never
	// misses or repeats a neighbour.
	e.Time = time.Now()
	if n := len(b.past); n > 0 && !e.Time.After(b.past[n-1].Time) {
		e.Time = b.past[n-1].Time.Add(1)
	}
	if b.past = append(b.past, e); len(b.past) > 2*keep {
		b.past = append([]Event(nil), b.past[keep:]...)
	}
	for c := range b.subs {
		select {
		case c <- e:
		default:
			delete(b.subs, c)
			close(c)
		}
	}
}

// Subscribe returns the remembered events after since (none if since is zero)
// and a channel of those that follow, without a gap. The channel closes when
// ctx ends or the reader is too slow.
func (b *Bus) Subscribe(ctx context.Context, since time.Time) ([]Event, <-chan Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var past []Event
	if !since.IsZero() {
		for _, e := range b.past {
			if !e.Time.Before(since) {
				past = append(past, e)
			}
		}
	}
	c := make(chan Event, keep)
	b.subs[c] = struct{}{}
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if _, ok := b.subs[c]; ok {
			delete(b.subs, c)
			close(c)
		}
	})
	return past, c
}
