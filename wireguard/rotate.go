package wireguard

import (
	"context"
	"os"
	"time"

	"linkspan/cnm"
)

// A key is changed in steps, each of which a crash may follow:
//
//  1. the next key is made and kept beside the one in use;
//  2. it is published in this host's record;
//  3. the record is seen to have it: the device gets it, and it takes the place of the
//     former one. The other hosts see the record at the same time and put the new key in
//     the place of the old, with its addresses.
//
// Whoever is first sends an empty packet, and so does the other: the later of the two
// succeeds, so that a session is there a round trip after both have done it. Until then
// packets wait in the device; those under way in the former session are still taken by the
// host that changed its key, and lost at a peer that was faster than it.

// Rotate gives this host another key, and waits until it is in use here. If the common
// store cannot be reached, the former one stays, and the change is made when it can: then
// it errs with cnm.ErrUnavailable.
func (m *Manager) Rotate(ctx context.Context) error {
	m.mu.Lock()
	if m.dev == nil {
		defer m.mu.Unlock()
		return m.err
	}
	if m.keys == nil {
		defer m.mu.Unlock()
		return cnm.Errorf(cnm.ErrUnavailable, "this host has no WireGuard key yet: %w", m.err)
	}
	if err := m.begin(); err != nil {
		m.mu.Unlock()
		return err
	}
	settled := m.settled
	m.mu.Unlock()
	m.Kick()
	select {
	case <-settled:
		return nil
	case <-ctx.Done():
		return cnm.Errorf(cnm.ErrUnavailable, "the next WireGuard key is made and not published yet: the mesh's store does not answer (%w); this host goes on with the former one, and changes it when the store is back", context.Cause(ctx))
	}
}

// begin is the first step, unless it was done.
func (m *Manager) begin() error {
	if m.settled == nil {
		m.settled = make(chan struct{})
	}
	if !m.keys.Next().IsZero() {
		return nil
	}
	if _, err := m.keys.Begin(); err != nil {
		m.settled = nil
		return err
	}
	return nil
}

// settle holds the key in the host's record against those that are kept here, and does
// the step that is due.
func (m *Manager) settle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.wanted.Known {
		return
	}
	published, err := ParsePublicKey(m.wanted.Published)
	if err != nil {
		published = PublicKey{}
	}
	current, next := m.keys.Current().Public(), m.keys.Next().Public()
	switch {
	case !next.IsZero() && published == next:
		if err := m.keys.Finish(); err != nil {
			m.log.Error("the published key cannot be taken into use", "err", err)
			return
		}
		m.log.Info("this host's WireGuard key was changed", "key", next.Short(), "was", current.Short())
		if m.settled != nil {
			close(m.settled)
			m.settled = nil
		}
	case published == current:
		if !next.IsZero() {
			m.publish(next)
		}
	default:
		// The record has none, or one of another life of this host.
		if !next.IsZero() && m.settled == nil {
			if err := m.keys.Abandon(); err != nil {
				m.log.Warn("a change of the key that was left half done", "err", err)
			}
			next = PublicKey{}
		}
		if next.IsZero() {
			m.publish(current)
		} else {
			m.publish(next)
		}
	}
}

func (m *Manager) publish(k PublicKey) {
	if m.asked == k && time.Since(m.askedAt) < m.cfg.CheckEvery {
		return
	}
	m.asked, m.askedAt = k, time.Now()
	go m.cfg.Publish(k)
}

// renew begins a change of the key when it is old.
func (m *Manager) renew(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ready || !m.wanted.Known || !m.keys.Next().IsZero() || m.wanted.Published != m.keys.Current().Public().String() {
		return
	}
	made, err := m.keys.Made()
	if err != nil || now.Sub(made) < m.cfg.RotateEvery {
		return
	}
	if err := m.begin(); err != nil {
		m.log.Error("this host's WireGuard key is due to be changed", "err", err)
		return
	}
	m.Kick()
}

// Made is when the key in use was made: its file's time.
func (k *Keys) Made() (time.Time, error) {
	info, err := os.Stat(k.path)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}
