package mesh

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// steward keeps this host's own record true, finds out when it was forgotten or when
// the store was restored, and compares what it has with what the store says is its.
func (m *Mesh) steward(ctx context.Context) {
	again := time.NewTicker(m.cfg.Resync)
	defer again.Stop()
	failed := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.checkBell:
		case <-again.C:
			m.mu.Lock()
			m.auditAll = true
			m.mu.Unlock()
		}
		err := m.check(ctx)
		if err == nil {
			err = m.auditDue(ctx)
			m.auditAsks()
		}
		if err != nil && ctx.Err() == nil {
			m.log.Debug("this host's place in the mesh is looked at again", "err", err)
			failed++
			if pause(ctx, retry(4+failed)) != nil {
				return
			}
			m.checkBell.ring()
			continue
		}
		failed = 0
	}
}

// identify says whether the store is this mesh's.
func (m *Mesh) identify(ctx context.Context) error {
	_, _, err := m.identity(ctx)
	return err
}

// identity reads the mesh's record and this host's, and errs for a store of another
// mesh, or of none: such a store is not believed.
func (m *Mesh) identity(ctx context.Context) (Record, store.Entry, error) {
	e, ok, err := m.get(ctx, recordKey)
	if err != nil {
		return Record{}, store.Entry{}, err
	}
	r, valid := decode[Record](e.Value)
	m.mu.Lock()
	switch want := m.cfg.Mesh; {
	case !ok:
		m.foreign = cnm.Errorf(cnm.ErrUnavailable, "the store holds no mesh: it is empty, or another's; if its data was lost, restore a backup (linkspan mesh restore)")
	case !valid:
		m.foreign = cnm.Errorf(cnm.ErrUnavailable, "the mesh's record in the store cannot be read; restore a backup (linkspan mesh restore)")
	case want != "" && r.ID != want:
		m.foreign = cnm.Errorf(cnm.ErrUnavailable, "the store is that of mesh %s (%s), and this host belongs to mesh %s; name the right servers, or leave this mesh (linkspan mesh leave) and join that one", r.Name, r.ID, want)
	default:
		m.foreign = nil
		m.cfg.Mesh = r.ID
		m.record, m.recordRev = r, e.Rev
	}
	err = m.foreign
	m.mu.Unlock()
	if err != nil {
		return r, store.Entry{}, err
	}
	h, _, err := m.get(ctx, hostKeys+m.id)
	return r, h, err
}

// check looks at this host's own record in the store: there, gone, of before a restore,
// or not what it should be.
func (m *Mesh) check(ctx context.Context) error {
	m.mu.Lock()
	left, fenced := m.left, m.fenced != ""
	m.mu.Unlock()
	if left || fenced {
		return nil
	}
	m.mu.Lock()
	suspect := m.suspect
	m.mu.Unlock()
	r, e, err := m.identity(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	if m.cache.generation == "" { // the first time: as it was when this host joined
		m.cache.generation = m.cfg.Self.Generation
		if m.cache.generation == "" {
			m.cache.generation = r.Generation
		}
	}
	told := r.Generation != m.cache.generation
	restored := suspect || told
	if restored && time.Since(m.restored) > time.Minute {
		m.restored = time.Now()
	}
	m.mu.Unlock()
	if suspect && !told {
		// Nobody said so (Restored): then the first who finds out tells all others.
		m.mu.Lock()
		rev := m.recordRev
		m.mu.Unlock()
		r.Generation = NewID()
		if _, err := m.commit(ctx, store.Op{Key: recordKey, Value: encode(r), Guard: true, IfRev: rev}); err != nil {
			return err
		}
	}
	if e.Rev == 0 && !restored {
		m.fence("it was forgotten by the others (linkspan mesh forget)")
		return nil
	}
	if e.Rev == 0 {
		if e.Rev, err = m.reenrol(ctx, r); err != nil {
			return err
		}
	} else if h, ok := decode[Host](e.Value); ok {
		m.mu.Lock()
		m.storedSelf(h, e.Rev)
		m.mu.Unlock()
	}
	m.mu.Lock()
	m.selfRev = max(m.selfRev, e.Rev)
	if restored {
		m.selfRev = e.Rev
	}
	if !m.confirmed {
		m.confirmed = true
		m.auditAll = true
	}
	m.mu.Unlock()
	m.aliveBell.ring()
	m.writeBell.ring()
	if restored {
		m.log.Warn("the mesh's store was restored from a backup: this host puts back what is its own")
		if err := m.putBack(ctx); err != nil {
			return err
		}
		m.mu.Lock()
		m.cache.generation = r.Generation
		m.auditAll = false
		if m.suspect == suspect {
			m.suspect = false
		}
		m.cacheBell.ring()
		m.askBell.ring()
		m.mu.Unlock()
		m.writeBell.ring()
	}
	return m.writeSelf(ctx)
}

// storedSelf takes what others may change of this host's record. The caller holds mu.
func (m *Mesh) storedSelf(h Host, rev int64) {
	was := m.stored
	m.stored, m.selfRev = h, rev
	m.self.Role, m.self.Number, m.self.Joined, m.self.Name = h.Role, h.Number, h.Joined, h.Name
	// What this process was not told yet stays as its last life wrote it: without a key, if
	// only for a moment, the others would drop what they encrypt for this host.
	if !m.set.key {
		m.self.Key = h.Key
	}
	if !m.set.prefixes {
		m.self.Prefixes = h.Prefixes
	}
	if !reflect.DeepEqual(was, h) && m.cfg.OnSelf != nil {
		m.job(func(context.Context, Sink) { m.cfg.OnSelf(h, false) })
	}
}

// writeSelf writes this host's record if it is not as it should be. New prefixes of its
// own are checked against networks that are made in the same moment: through space.
func (m *Mesh) writeSelf(ctx context.Context) error {
	m.mu.Lock()
	m.self.Generation = m.cache.generation
	self, stored, rev := m.self, m.stored, m.selfRev
	m.mu.Unlock()
	if string(encode(self)) == string(encode(stored)) || rev == 0 {
		return nil
	}
	ops := []store.Op{{Key: hostKeys + m.id, Value: encode(self), Guard: true, IfRev: rev}}
	if !reflect.DeepEqual(self.Prefixes, stored.Prefixes) {
		space, _, err := m.get(ctx, spaceKey)
		if err != nil {
			return err
		}
		ops = append(ops, store.Op{Key: spaceKey, Value: bump(space.Value), Guard: true, IfRev: space.Rev})
	}
	at, err := m.commit(ctx, ops...)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.stored, m.selfRev = self, at
	for _, n := range m.networks {
		if err := fits(self, []store.Entry{{Value: encode(n)}}); err != nil {
			m.log.Warn("a network of the mesh overlaps what this host uses itself", "err", err)
		}
	}
	m.mu.Unlock()
	return nil
}

// fence ends this host's part: it was forgotten. What it had may be another's now.
func (m *Mesh) fence(why string) {
	m.mu.Lock()
	if m.fenced != "" {
		m.mu.Unlock()
		return
	}
	m.fenced = why
	h := m.self
	for network, o := range m.own {
		o.Blocks, o.Singles, o.Grants = nil, nil, map[netip.Addr]string{}
		m.cached(ownKeys+network, nil)
	}
	for network, f := range m.follows {
		if f.active {
			m.pend(network).whole = true
		}
	}
	m.queue = queue{queued: map[string]bool{}, present: map[string]bool{}, releases: map[string]bool{}}
	m.tellPeers()
	if m.cfg.OnSelf != nil {
		m.job(func(context.Context, Sink) { m.cfg.OnSelf(h, true) })
	}
	m.aliveBell.ring()
	m.cacheBell.ring()
	m.mu.Unlock()
	m.log.Error("this host is no member of the mesh any more; its tunnels end", "why", why, "cure", "linkspan mesh join")
	m.flush(context.Background())
}

// reenrol puts this host's record back into a store that was restored from a backup of
// before it joined.
func (m *Mesh) reenrol(ctx context.Context, r Record) (int64, error) {
	m.mu.Lock()
	self := m.self
	m.mu.Unlock()
	self.Generation = "" // not until all is back
	number := hostNumberKeys + strconv.Itoa(self.Number)
	name := hostNameKeys + strings.ToLower(self.Name)
	for _, key := range []string{number, name} {
		e, ok, err := m.get(ctx, key)
		if err != nil {
			return 0, err
		}
		if ok && string(e.Value) != m.id {
			m.fence("the mesh was restored from a backup of before it joined, and another host has its name or number (" + key + ") now")
			return 0, cnm.Errorf(cnm.ErrUnavailable, "fenced")
		}
	}
	rev, err := m.commit(ctx,
		store.Op{Key: hostKeys + m.id, Value: encode(self), Guard: true},
		store.Op{Key: number, Value: []byte(m.id)},
		store.Op{Key: name, Value: []byte(m.id)})
	if err == nil {
		m.mu.Lock()
		m.storedSelf(self, rev)
		m.mu.Unlock()
		m.log.Warn("this host's record was not in the restored store and is put back", "mesh", r.Name)
	}
	return rev, err
}

// live holds this host's liveness key while it is a member.
func (m *Mesh) live(ctx context.Context) {
	failed := 0
	for {
		m.mu.Lock()
		ours := m.confirmed && m.member() == nil
		m.mu.Unlock()
		if !ours {
			select {
			case <-ctx.Done():
				return
			case <-m.aliveBell:
			}
			continue
		}
		if err := m.hold(ctx); err != nil {
			failed++
		} else {
			failed = 0
		}
		if pause(ctx, retry(3+failed)) != nil {
			return
		}
	}
}

var errLost = errors.New("lost")
