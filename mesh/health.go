package mesh

import (
	"context"
	"errors"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// health is what is known of the way to the common store.
type health struct {
	reached bool          // ever
	since   time.Time     // of being reachable, or not
	err     error         // the last; nil: reachable
	rev     int64         // the highest revision seen
	silent  chan struct{} // closed while err is not nil
}

// Silent is closed while no news is to be waited for, since the store cannot be reached
// or is another mesh's. Once that is over there is a new one.
func (m *Mesh) Silent() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.member() == nil {
		return m.health.silent
	}
	none := make(chan struct{})
	close(none)
	return none
}

// awayError is a store that did not answer, or not clearly: no decision of its.
type awayError struct{ err error }

func (e *awayError) Error() string { return e.err.Error() }
func (e *awayError) Unwrap() error { return e.err }

// heard takes note of how a call of the store ended, and marks an error of one that did
// not answer.
func (m *Mesh) heard(ctx context.Context, err error, rev int64) error {
	if ctx.Err() != nil {
		if err != nil {
			err = &awayError{err}
		}
		return err // it was we who ended it
	}
	up := err == nil || errors.Is(err, store.ErrCompare) || errors.Is(err, store.ErrCompacted) || errors.Is(err, cnm.ErrInvalid)
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &m.health
	h.rev = max(h.rev, rev)
	switch {
	case up && (!h.reached || h.err != nil):
		if h.reached || h.err != nil {
			m.log.Info("the mesh's store is reachable", "after", time.Since(h.since).Round(time.Millisecond))
		}
		*h = health{reached: true, since: time.Now(), rev: h.rev, silent: make(chan struct{})}
		m.writeBell.ring()
		m.checkBell.ring()
		m.aliveBell.ring()
		m.auditAll = true
	case !up && (h.err == nil):
		m.log.Warn("the mesh's store cannot be reached: what runs goes on", "err", err)
		h.since, h.err = time.Now(), err
		close(h.silent)
	case !up:
		h.err = err
	}
	if !up {
		err = &awayError{err}
	}
	return err
}

// patience is how long one call may take. While the store is known to be away, people
// are told so soon; the mirrors' listings, which have all the time, find out when it is
// back.
func (m *Mesh) patience() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.health.err != nil {
		return min(m.cfg.Timeout, time.Second)
	}
	return m.cfg.Timeout
}

func (m *Mesh) get(ctx context.Context, key string) (store.Entry, bool, error) {
	c, cancel := context.WithTimeout(ctx, m.patience())
	defer cancel()
	e, ok, err := m.cfg.Store.Get(c, key)
	return e, ok, m.heard(ctx, err, e.Rev)
}

func (m *Mesh) list(ctx context.Context, prefix string) ([]store.Entry, int64, error) {
	c, cancel := context.WithTimeout(ctx, 4*m.cfg.Timeout) // a large network's list is long
	defer cancel()
	m.mu.Lock()
	before := m.health.rev
	m.mu.Unlock()
	entries, rev, err := m.cfg.Store.List(c, prefix)
	if err == nil && rev < before {
		// A store answers with what was true when it was asked, or later. This one has
		// forgotten: it was restored from a backup.
		m.mu.Lock()
		if m.health.rev == before {
			m.health.rev = rev
			m.suspect = true
			m.log.Warn("the mesh's store went back in time: it was restored from a backup", "revision", rev, "before", before)
		}
		m.mu.Unlock()
		m.checkBell.ring()
		return nil, 0, store.ErrCompare // nothing is decided by it before all was put back
	}
	return entries, rev, m.heard(ctx, err, rev)
}

func (m *Mesh) commit(ctx context.Context, ops ...store.Op) (int64, error) {
	c, cancel := context.WithTimeout(ctx, m.patience())
	defer cancel()
	rev, err := m.cfg.Store.Commit(c, ops...)
	return rev, m.heard(ctx, err, rev)
}

// unreachable makes an error of a store that did not answer, in the words of who wanted
// what. Other errors stay what they are.
func (m *Mesh) unreachable(what string, err error) error {
	var away *awayError
	if !errors.As(err, &away) {
		return err
	}
	err = away.err
	m.mu.Lock()
	since := m.health.since
	m.mu.Unlock()
	ago := ""
	if !since.IsZero() {
		ago = " for " + time.Since(since).Round(time.Second).String()
	}
	return cnm.Errorf(cnm.ErrUnavailable, "%s: the mesh's store cannot be reached%s (%w); what runs goes on, and new containers on this host get addresses of its own blocks; "+
		"look at linkspan mesh status, and try again", what, ago, err)
}

// member says why this host may not write: it is none of the mesh's, or was forgotten.
// The caller holds mu.
func (m *Mesh) member() error {
	switch {
	case m.left:
		return cnm.Errorf(cnm.ErrUnavailable, "this host has left the mesh; join again with linkspan mesh join")
	case m.fenced != "":
		return cnm.Errorf(cnm.ErrUnavailable, "this host is no member of the mesh any more: %s; join again with linkspan mesh join", m.fenced)
	case m.foreign != nil:
		return m.foreign
	}
	return nil
}

// guardSelf is the condition that this host is still a member: what a forgotten one
// writes late must fail. The caller holds mu.
func (m *Mesh) guardSelf() store.Op {
	return unchanged(hostKeys+m.id, m.selfRev)
}

// unchanged is the condition that a key is there as it was seen. Of one that was not
// seen it never holds: revision 0 would mean that the key must not be there.
func unchanged(key string, rev int64) store.Op {
	if rev == 0 {
		rev = -1
	}
	return store.Op{Key: key, Guard: true, IfRev: rev, Keep: true}
}

// settle makes sure that this host's own record's revision is known, for guards.
func (m *Mesh) settle(ctx context.Context) error {
	m.mu.Lock()
	err, rev := m.member(), m.selfRev
	m.mu.Unlock()
	if err != nil || rev != 0 {
		return err
	}
	if err := m.check(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.member()
}
