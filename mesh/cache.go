package mesh

import (
	"context"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// Keys of the host's own store.
const (
	localKeys = "mesh/"
	cacheKeys = localKeys + "cache/" // and a key of the common store
	ownKeys   = localKeys + "own/"   // <network>: ownNet
	stateKey  = localKeys + "state"  // localState
)

// localState is what this host remembers of itself.
type localState struct {
	// Host is whose cache this is: one who joined anew begins with none.
	Host       string `json:"host"`
	Mesh       string `json:"mesh"`
	Generation string `json:"generation"`
	Rev        int64  `json:"rev"`
	Fenced     string `json:"fenced,omitempty"`
}

// cache is what is to be written to the host's own store, soon. nil deletes.
type cache struct {
	dirty map[string][]byte
	state localState // as written
	// generation is the store's that this host's own records are known to be in.
	generation string
}

// cached has a key of the host's own store written soon; nil takes it away. The caller
// holds mu.
func (m *Mesh) cached(key string, value []byte) {
	if m.cfg.Local != nil {
		m.cache.dirty[key] = value
		m.cacheBell.ring()
	}
}

// load reads the cache. Only New calls it.
func (m *Mesh) load(ctx context.Context) error {
	for _, v := range m.base {
		m.wire(v)
	}
	if m.cfg.Local == nil {
		return nil
	}
	all, _, err := m.cfg.Local.List(ctx, localKeys)
	if err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "what is known of the mesh cannot be read from this host's own state: %w", err)
	}
	byKey := make(map[string][]byte, len(all))
	for _, e := range all {
		byKey[e.Key] = e.Value
	}
	state, _ := decode[localState](byKey[stateKey])
	if state.Host != m.id || m.cfg.Mesh != "" && state.Mesh != "" && state.Mesh != m.cfg.Mesh {
		// From now on it is this host's: what is claimed and granted is written below it at
		// once, and must be found again.
		if err := m.forgetLocal(ctx); err != nil {
			return cnm.Errorf(cnm.ErrUnavailable, "what was known of another mesh cannot be taken out of this host's own state: %w", err)
		}
		m.cache.state = localState{Host: m.id, Mesh: m.cfg.Mesh, Generation: m.cfg.Self.Generation}
		m.cache.generation = m.cfg.Self.Generation
		if _, err := m.cfg.Local.Commit(ctx, store.Op{Key: stateKey, Value: encode(m.cache.state)}); err != nil {
			return cnm.Errorf(cnm.ErrUnavailable, "this host's own state cannot be written: %w", err)
		}
		return nil
	}
	m.cache.state, m.cache.generation, m.fenced, m.health.rev = state, state.Generation, state.Fenced, state.Rev
	if m.cfg.Mesh == "" {
		m.cfg.Mesh = state.Mesh
	}
	for key, value := range byKey {
		if network, ok := strings.CutPrefix(key, ownKeys); ok {
			if o, ok := decode[ownNet](value); ok && o.Network != nil {
				o.fill()
				m.own[network] = &o
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, value := range byKey {
		if key, ok := strings.CutPrefix(key, cacheKeys); ok {
			if v := m.mirrorOf(key); v != nil && v.cached {
				v.known = true
				m.apply(v, store.Event{Key: key, Value: value})
			}
		}
	}
	clear(m.cache.dirty) // what was just read
	m.loadPaths(byKey)
	m.lookWays() // who plans with them must not believe first that all are behind a router
	return nil
}

// mirrorOf is where a cached key belongs. The caller holds mu.
func (m *Mesh) mirrorOf(key string) *mirror {
	for _, prefix := range basePrefixes {
		if strings.HasPrefix(key, prefix) {
			return m.base[prefix]
		}
	}
	for _, kind := range []string{blockKeys, endpointKeys} {
		if p, ok := parts(key, kind, 2); ok {
			f := m.follows[p[0]]
			if f == nil { // parked: told of when somebody follows it again
				f = m.newFollow(p[0])
			}
			if kind == blockKeys {
				return f.blocks
			}
			return f.endpoints
		}
	}
	return nil
}

// keep writes the cache behind, until ctx ends.
func (m *Mesh) keep(ctx context.Context) {
	if m.cfg.Local == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.cacheBell:
		}
		// At once, so that a process that is killed next has it; then not for a while: a
		// disk's sync is dear, and who comes in a crowd is written together.
		m.flush(ctx)
		if pause(ctx, 500*time.Millisecond) != nil {
			return
		}
	}
}

// flush writes what is dirty now.
func (m *Mesh) flush(ctx context.Context) {
	if m.cfg.Local == nil {
		return
	}
	m.mu.Lock()
	dirty := m.cache.dirty
	m.cache.dirty = map[string][]byte{}
	state := localState{Host: m.id, Mesh: m.cfg.Mesh, Generation: m.cache.generation, Rev: m.health.rev, Fenced: m.fenced}
	if m.left {
		m.mu.Unlock()
		return
	}
	// The revision alone is not worth a write.
	if was := m.cache.state; len(dirty) > 0 || was.Host != state.Host || was.Mesh != state.Mesh || was.Generation != state.Generation || was.Fenced != state.Fenced {
		dirty[stateKey] = encode(state)
		m.cache.state = state
	}
	m.mu.Unlock()
	ops := make([]store.Op, 0, min(len(dirty), 500))
	write := func() {
		if len(ops) == 0 {
			return
		}
		if _, err := m.cfg.Local.Commit(ctx, ops...); err != nil {
			m.log.Warn("what is known of the mesh could not be written to this host's own state; it is tried again", "err", err)
			m.mu.Lock()
			for _, op := range ops {
				if _, newer := m.cache.dirty[op.Key]; !newer {
					m.cache.dirty[op.Key] = op.Value
				}
			}
			m.mu.Unlock()
			m.cacheBell.ring()
		}
		ops = ops[:0]
	}
	for key, value := range dirty {
		if ops = append(ops, store.Op{Key: key, Value: value}); len(ops) == 500 {
			write()
		}
	}
	write()
}

// forgetLocal takes all of the cache away: this host has left.
func (m *Mesh) forgetLocal(ctx context.Context) error {
	if m.cfg.Local == nil {
		return nil
	}
	all, _, err := m.cfg.Local.List(ctx, localKeys)
	if err != nil {
		return err
	}
	for len(all) > 0 {
		n := min(len(all), 500)
		var ops []store.Op
		for _, e := range all[:n] {
			ops = append(ops, store.Op{Key: e.Key})
		}
		if _, err := m.cfg.Local.Commit(ctx, ops...); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}
