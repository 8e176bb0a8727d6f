package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

const (
	recordPrefix = "containers/"
	execPrefix   = "execs/"
)

// commit writes a new version of a container's record, guarded by the revision
// of the one it was made from. what names the step for the fail points.
func (e *Engine) commit(ctx context.Context, what string, old, c *Container) error {
	value, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("container %s: %w", c.Name, err)
	}
	op := store.Op{Key: recordPrefix + c.ID, Value: value, Guard: true}
	if old != nil {
		op.IfRev = old.Rev
	}
	rev, err := e.write(ctx, what, op)
	if err != nil {
		return fmt.Errorf("container %s: %w", c.Name, err)
	}
	c.Rev = rev
	return nil
}

// write is the one place where the engine commits.
func (e *Engine) write(ctx context.Context, what string, ops ...store.Op) (int64, error) {
	e.cfg.Hook("container.commit." + what + ".before")
	rev, err := e.cfg.Store.Commit(ctx, ops...)
	e.cfg.Hook("container.commit." + what + ".after")
	switch {
	case errors.Is(err, store.ErrFull):
		return 0, cnm.Errorf(cnm.ErrExhausted, "the data root is full: %w; free some space in %s and try again", err, e.cfg.Root)
	case errors.Is(err, store.ErrClosed):
		return 0, cnm.Errorf(cnm.ErrUnavailable, "the daemon is shutting down: %w", err)
	}
	return rev, err
}

// change applies f to a copy of the record and commits it; nothing changes when
// the commit fails.
func (e *Engine) change(ctx context.Context, en *entry, what string, f func(*Container)) (*Container, error) {
	en.commitMu.Lock()
	defer en.commitMu.Unlock()
	old := en.load()
	c := *old
	f(&c)
	if err := e.commit(lasting(ctx), what, old, &c); err != nil {
		return old, err
	}
	en.current.Store(&c)
	return &c, nil
}

// observe is change for what has happened already, which no full disk undoes:
// memory follows in any case, and the store as soon as it can.
func (e *Engine) observe(en *entry, what string, f func(*Container)) *Container {
	c, err := e.change(e.ctx, en, what, f)
	if err == nil {
		return c
	}
	e.log.Error("a container's state cannot be written; it is tried again", "container", c.Name, "step", what, "error", err)
	en.commitMu.Lock()
	next := *en.load()
	f(&next)
	en.current.Store(&next)
	en.commitMu.Unlock()
	e.work.Go(func() { e.writeLater(en, what) })
	return &next
}

// writeLater commits the record as it then is, until it succeeds.
func (e *Engine) writeLater(en *entry, what string) {
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		select {
		case <-e.ctx.Done():
			return
		case <-time.After(wait):
		}
		en.mu.Lock()
		gone := en.gone
		en.mu.Unlock()
		if gone {
			return
		}
		if _, err := e.change(e.ctx, en, what, func(*Container) {}); err == nil {
			return
		}
	}
}

// records reads all containers from the store.
func (e *Engine) records(ctx context.Context) ([]*Container, error) {
	entries, _, err := e.cfg.Store.List(ctx, recordPrefix)
	if err != nil {
		return nil, fmt.Errorf("containers: %w", err)
	}
	var list []*Container
	for _, en := range entries {
		c := &Container{}
		if err := json.Unmarshal(en.Value, c); err != nil {
			return nil, fmt.Errorf("container %s in the store: %w", strings.TrimPrefix(en.Key, recordPrefix), err)
		}
		c.Rev = en.Rev
		list = append(list, c)
	}
	return list, nil
}
