package mesh

import (
	"bytes"
	"context"
	"math/rand/v2"
	"time"

	"linkspan/store"
)

// mirror is a copy of what the common store has under a prefix: listed, then watched,
// and listed again when the watch ended, or from time to time.
type mirror struct {
	prefix  string
	network string // of one that is followed; else empty
	// The rest is guarded by Mesh.mu.
	items map[string]item
	// known: what is here came from the cache or the store. listed: from the store,
	// since this process began.
	known, listed bool
	// cached: its changes are written to the cache.
	cached bool
	change func(key string, was, is []byte, rev int64)
	whole  func() // after each listing
}

type item struct {
	value []byte
	rev   int64
}

func newMirror(prefix, network string) *mirror {
	return &mirror{prefix: prefix, network: network, items: map[string]item{}}
}

// follow keeps a mirror true until ctx ends.
func (m *Mesh) follow(ctx context.Context, v *mirror) {
	failed := 0
	for ctx.Err() == nil {
		entries, rev, err := m.list(ctx, v.prefix)
		if err != nil {
			if pause(ctx, retry(4+failed)) != nil {
				return
			}
			failed++
			continue
		}
		failed = 0
		if !m.trusted(ctx, v) || m.early(v) {
			if pause(ctx, retry(8)) != nil {
				return
			}
			continue
		}
		m.replace(v, entries)
		m.watch(ctx, v, rev)
		// Hosts that lost the same server do not all list in the same moment.
		if pause(ctx, rand.N(m.cfg.Jitter)) != nil {
			return
		}
	}
}

// watch applies events until the watch ends, or it is time to compare.
func (m *Mesh) watch(ctx context.Context, v *mirror, rev int64) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := m.cfg.Store.Watch(ctx, v.prefix, rev)
	if err != nil {
		_ = m.heard(ctx, err, 0)
		return
	}
	again := time.NewTimer(m.cfg.Resync + rand.N(m.cfg.Resync/4))
	defer again.Stop()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			m.mu.Lock()
			if e.Rev > m.health.rev {
				m.health.rev = e.Rev
			}
			m.apply(v, e)
			// What comes together is told together.
			for more := true; more; {
				select {
				case e, ok := <-events:
					if more = ok; ok {
						m.apply(v, e)
					}
				default:
					more = false
				}
			}
			m.mu.Unlock()
		case <-again.C:
			return
		}
	}
}

// trusted says whether the store is this mesh's: of another nothing is believed, least
// of all that this host is not in it.
func (m *Mesh) trusted(ctx context.Context, v *mirror) bool {
	if v.prefix == recordKey {
		return true
	}
	m.mu.Lock()
	known := m.base[recordKey].listed && m.foreign == nil && !m.suspect
	m.mu.Unlock()
	if known {
		return true
	}
	return m.identify(ctx) == nil
}

// putBackTime is how long after a restore from a backup what seems to be gone is still
// believed: all hosts are putting it back.
const putBackTime = 3 * time.Second

// early says whether a listing would take away what is about to be put back.
func (m *Mesh) early(v *mirror) bool {
	if v.network == "" && v.prefix != hostKeys && v.prefix != networkKeys {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return v.known && (m.suspect || !m.restored.IsZero() && time.Since(m.restored) < putBackTime)
}

// apply takes one event. The caller holds mu.
func (m *Mesh) apply(v *mirror, e store.Event) {
	was, had := v.items[e.Key]
	if e.Value == nil {
		if had {
			delete(v.items, e.Key)
			m.remembered(v, e.Key, nil)
			v.change(e.Key, was.value, nil, e.Rev)
		}
		return
	}
	v.items[e.Key] = item{e.Value, e.Rev}
	if had && bytes.Equal(was.value, e.Value) {
		v.change(e.Key, e.Value, e.Value, e.Rev) // the revision is another
		return
	}
	m.remembered(v, e.Key, e.Value)
	v.change(e.Key, was.value, e.Value, e.Rev)
}

// replace makes a listing all that there is.
func (m *Mesh) replace(v *mirror, entries []store.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	there := make(map[string]bool, len(entries))
	for _, e := range entries {
		there[e.Key] = true
	}
	for key := range v.items {
		if !there[key] {
			m.apply(v, store.Event{Key: key})
		}
	}
	for _, e := range entries {
		// In a store that was restored, another value can have the same revision.
		if was, ok := v.items[e.Key]; !ok || was.rev != e.Rev || !bytes.Equal(was.value, e.Value) {
			m.apply(v, store.Event(e))
		}
	}
	v.known, v.listed = true, true
	if v.whole != nil {
		v.whole()
	}
}

// remembered writes a change of a mirror behind. The caller holds mu.
func (m *Mesh) remembered(v *mirror, key string, value []byte) {
	if v.cached {
		m.cached(cacheKeys+key, value)
	}
}
