package mesh

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"linkspan/store"
)

// queue is what is to be written of this host: keys, in the order in which they became
// stale. What is written is what is true when it is written: a key that changes ten
// times while the store is away is written once.
type queue struct {
	keys   []string
	queued map[string]bool
	// flying are those of the commit that is on its way.
	flying map[string]bool
	// present are the networks in which this host's presence is in the store.
	present map[string]bool
	// arrivals counts how often that became known, by network.
	arrivals map[string]int
	// releases are keys of asks that are to be given back; true: in this moment.
	releases map[string]bool
}

// arrived takes note of whether this host is present on a network in the store.
func (q *queue) arrived(network string, present bool) {
	q.present[network] = present
	if q.arrivals == nil {
		q.arrivals = map[string]int{}
	}
	q.arrivals[network]++
}

func (q *queue) add(key string) {
	if !q.queued[key] {
		q.queued[key] = true
		q.keys = append(q.keys, key)
	}
}

// stale queues a key that the store has otherwise, unless it is on its way.
func (q *queue) stale(key string) {
	if !q.flying[key] {
		q.add(key)
	}
}

// write sends the queue, until ctx ends. While the store is there, a change goes out at
// once; what comes while a commit is on its way goes together in the next.
func (m *Mesh) write(ctx context.Context) {
	failed := 0
	for ctx.Err() == nil {
		again, err := m.writeBatch(ctx)
		switch {
		case err != nil:
			failed++
			if pause(ctx, retry(3+failed)) != nil {
				return
			}
		case !again:
			failed = 0
			select {
			case <-ctx.Done():
				return
			case <-m.writeBell:
			}
		default:
			failed = 0
		}
	}
}

// writeBatch writes one commit's worth, and says whether there is more.
func (m *Mesh) writeBatch(ctx context.Context) (more bool, err error) {
	m.mu.Lock()
	empty := len(m.queue.keys)+len(m.queue.releases) == 0 || m.member() != nil
	m.mu.Unlock()
	if empty {
		return false, nil
	}
	if err := m.settle(ctx); err != nil {
		return false, err
	}
	m.mu.Lock()
	if m.suspect || m.selfRev == 0 {
		m.mu.Unlock()
		return false, store.ErrCompare // the steward is at it
	}
	taken, ops, networks := m.batch()
	m.queue.flying = make(map[string]bool, len(taken))
	for _, key := range taken {
		m.queue.flying[key] = true
	}
	m.mu.Unlock()
	if len(taken) == 0 {
		return false, m.release(ctx)
	}
	_, err = m.commit(ctx, ops...)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue.flying = nil
	if err == nil {
		for _, op := range ops {
			if s, ok := parts(op.Key, presentKeys, 2); ok && s[1] == m.id {
				m.queue.arrived(s[0], op.Value != nil)
			}
		}
		for _, network := range networks {
			m.tidy(network)
		}
		return len(m.queue.keys)+len(m.queue.releases) > 0, nil
	}
	// Back to the front, as far as they are not there again.
	back := slices.DeleteFunc(taken, func(key string) bool { return m.queue.queued[key] })
	for _, key := range back {
		m.queue.queued[key] = true
	}
	m.queue.keys = append(back, m.queue.keys...)
	if errors.Is(err, store.ErrCompare) {
		// This host's record, or a network, is another or gone.
		m.selfRev = 0
		for _, network := range networks {
			delete(m.queue.present, network)
			delete(m.netRevs, network)
		}
		m.auditAll = true
		m.checkBell.ring()
	}
	return true, err
}

// tidy forgets a network that this host has nothing of. The caller holds mu.
func (m *Mesh) tidy(network string) {
	o := m.own[network]
	if o != nil && !o.wanted() && len(o.Blocks)+len(o.Singles)+len(o.Grants) == 0 && !m.queue.present[network] {
		delete(m.own, network)
	}
}

// batch takes keys off the queue and makes one commit of them. The caller holds mu.
func (m *Mesh) batch() (taken []string, ops []store.Op, networks []string) {
	ops = append(ops, m.guardSelf())
	arriving := map[string]bool{}
	seen := map[string]bool{}
	var left []string
	for i, key := range m.queue.keys {
		// A network that is new here costs three more.
		if len(ops)+4 > m.cfg.BatchOps {
			left = append(left, m.queue.keys[i:]...)
			break
		}
		op, network, ok := m.desired(key)
		if !ok { // nothing to write any more
			delete(m.queue.queued, key)
			continue
		}
		o := m.own[network]
		if op.Value != nil && (o.stuck != "" || !m.arrived(network, arriving, &ops)) {
			left = append(left, key) // until the network is known, or put back
			continue
		}
		if !strings.HasPrefix(key, presentKeys) || op.Value == nil {
			ops = append(ops, op)
		}
		delete(m.queue.queued, key)
		taken = append(taken, key)
		seen[network] = true
	}
	m.queue.keys = left
	return taken, ops, slices.Collect(maps.Keys(seen))
}

// arrived sees to it that this host is present on a network in the same commit as, or
// before, what it writes there: whoever removes the network then sees it, since the
// members' key is another. The caller holds mu.
func (m *Mesh) arrived(network string, arriving map[string]bool, ops *[]store.Op) bool {
	if m.queue.present[network] || arriving[network] {
		return true
	}
	rev := m.netRevs[network]
	if rev == 0 {
		m.auditAll = true
		m.checkBell.ring()
		return false
	}
	arriving[network] = true
	*ops = append(*ops,
		unchanged(networkKeys+network, rev),
		store.Op{Key: presentKey(network, m.id), Value: []byte("{}")},
		m.bumpMembers(network))
	return true
}

// bumpMembers gives the members' key of a network another revision.
func (m *Mesh) bumpMembers(network string) store.Op {
	return store.Op{Key: memberKeys + network, Value: []byte(strconv.FormatInt(time.Now().UnixMilli(), 10))}
}

// desired is what a key of this host's is to be. The caller holds mu.
func (m *Mesh) desired(key string) (op store.Op, network string, ok bool) {
	op.Key = key
	if s, ok := parts(key, endpointKeys, 3); ok {
		if o := m.own[s[0]]; o != nil {
			op.Value = o.endpoints[s[2]]
		}
		return op, s[0], true
	}
	if s, ok := parts(key, presentKeys, 2); ok {
		if o := m.own[s[0]]; o != nil && o.wanted() {
			op.Value = []byte("{}")
		}
		return op, s[0], op.Value == nil || !m.queue.present[s[0]]
	}
	return op, "", false
}

// unstick tries a network again that is there now. The caller holds mu.
func (m *Mesh) unstick(network string) {
	if o := m.own[network]; o != nil {
		o.stuck = ""
		if n := m.networks[network]; n != nil {
			c := *n
			o.Network = &c
		}
		m.writeBell.ring()
	}
}

// Flush waits until all that was told is written.
func (m *Mesh) Flush(ctx context.Context) error {
	for {
		m.mu.Lock()
		n, err := len(m.queue.keys)+len(m.queue.releases), m.member()
		m.mu.Unlock()
		if n == 0 || err != nil {
			return err
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}
