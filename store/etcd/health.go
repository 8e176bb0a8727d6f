package etcd

import (
	"slices"
	"sync"
	"time"
)

// Health is how the cluster was when it was asked last.
type Health struct {
	// OK says that it answered.
	OK bool
	// Since is since when it has been so; zero with OK false: it was never asked.
	Since time.Time
	// Err is why not, in a person's words.
	Err error
}

// health is when calls went well last, and since when they have not.
type health struct {
	mu  sync.Mutex
	now Health
}

func (h *health) get() Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// good notes an answer; was says that there was none before, since when.
func (h *health) good() (since time.Time, was bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now.OK {
		return since, false
	}
	since, was = h.now.Since, !h.now.Since.IsZero()
	h.now = Health{OK: true, Since: time.Now()}
	return since, was
}

// bad notes that a call begun then had no answer; turned says that it is the first.
func (h *health) bad(begun time.Time, err error) (turned bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	turned = h.now.OK || h.now.Since.IsZero()
	if turned {
		h.now = Health{Since: begun}
	}
	h.now.Err = err
	return turned
}

// notes are what went wrong on the way to each member, last: gRPC makes text of it.
type notes struct {
	mu   sync.Mutex
	last map[string]error // by HOST:PORT
}

func (n *notes) set(ep string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == nil {
		n.last = map[string]error{}
	}
	n.last[ep] = err
}

func (n *notes) get(ep string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last[ep]
}

// clear forgets everything: the cluster answered.
func (n *notes) clear() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.last)
}

func (n *notes) keep(eps []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ep := range n.last {
		if !slices.Contains(eps, ep) {
			delete(n.last, ep)
		}
	}
}
