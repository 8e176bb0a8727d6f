package container

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"linkspan/cnm"
)

// entry is one container in memory. The record in it is immutable: a change
// commits a new one and swaps the pointer.
type entry struct {
	id string
	// op serialises what changes the container: start, the handling of its exit,
	// pause, rename, removal. Waiting for an exit happens outside of it.
	op chan struct{}

	// entering is held (shared) while an exec is made and (alone) while the
	// container is frozen: a half-made exec that freezes too would hold the shim,
	// and with it the container's kill, until somebody thaws it.
	entering sync.RWMutex

	// joining is held while the sandbox is brought to a definition and the definition
	// committed, so that two of them never mix. It is taken after op.
	joining sync.Mutex

	// files is held while the files that the container has from us are written.
	files sync.Mutex

	current atomic.Pointer[Container]
	// commitMu serialises commits of the record.
	commitMu sync.Mutex

	mu sync.Mutex
	// run is the task that lives; nil at rest.
	run *run
	// pending is a restart that waits for its time.
	pending *restart
	backoff backoff
	// nextExit and removed are those who wait.
	nextExit, removed []chan WaitResult
	gone              bool
}

// run is one life of a container's process.
type run struct {
	pid     int
	started time.Time
	// done closes when the exit is handled: output drained, state committed,
	// network left.
	done chan struct{}

	// Guarded by entry.mu:
	stopping   bool // a person ends it: no restart policy applies
	restarting bool // a person's restart: the sandbox is kept
	oom        bool
}

func newEntry(c *Container) *entry {
	en := &entry{id: c.ID, op: make(chan struct{}, 1)}
	en.current.Store(c)
	return en
}

func (en *entry) load() *Container { return en.current.Load() }

// lock takes the container for an operation, or gives up with ctx.
func (en *entry) lock(ctx context.Context) error {
	select {
	case en.op <- struct{}{}:
		return nil
	default:
	}
	select {
	case en.op <- struct{}{}:
		return nil
	case <-ctx.Done():
		return cnm.Errorf(cnm.ErrUnavailable, "container %s is busy with another operation: %w", en.id, ctx.Err())
	}
}

func (en *entry) unlock() { <-en.op }

func (en *entry) currentRun() *run {
	en.mu.Lock()
	defer en.mu.Unlock()
	return en.run
}

// running says that a task lives. A restarting container is between two.
func (p Phase) running() bool { return p == Running || p == Paused }

// find resolves an id, a name or a unique id prefix, in Docker's order.
func (e *Engine) find(ref string) (*entry, error) {
	ref = strings.TrimPrefix(ref, "/")
	e.mu.Lock()
	defer e.mu.Unlock()
	if en, ok := e.entries[ref]; ok {
		return en, nil
	}
	if id, ok := e.names[ref]; ok {
		if en, ok := e.entries[id]; ok {
			return en, nil
		}
	}
	if en := e.byLink(ref); en != nil {
		return en, nil
	}
	var found *entry
	if ref != "" {
		for id, en := range e.entries {
			if strings.HasPrefix(id, ref) {
				if found != nil {
					return nil, cnm.Invalid("multiple IDs found with provided prefix: %s", ref)
				}
				found = en
			}
		}
	}
	if found == nil {
		return nil, cnm.NotFound("No such container: %s", ref)
	}
	return found, nil
}

// byLink resolves the second name that a link gives to its target: "web/db". The
// caller holds e.mu.
func (e *Engine) byLink(ref string) *entry {
	parent, alias, ok := strings.Cut(ref, "/")
	en := e.entries[e.names[parent]]
	if !ok || en == nil {
		return nil
	}
	for _, l := range en.load().Links {
		if l.Alias == alias {
			return e.entries[l.Target]
		}
	}
	return nil
}

// locked finds a container and takes it.
func (e *Engine) locked(ctx context.Context, ref string) (*entry, *Container, error) {
	en, err := e.find(ref)
	if err != nil {
		return nil, nil, err
	}
	if err := en.lock(ctx); err != nil {
		return nil, nil, err
	}
	en.mu.Lock()
	gone := en.gone
	en.mu.Unlock()
	if gone {
		en.unlock()
		return nil, nil, cnm.NotFound("No such container: %s", ref)
	}
	return en, en.load(), nil
}

func sortNewestFirst(list []*Container) {
	slices.SortFunc(list, func(a, b *Container) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
}
