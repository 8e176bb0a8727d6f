package linux

import (
	"net/netip"
	"sync"
	"time"

	"linkspan/dataplane"
)

// ways remembers what this Kernel's operations did to the forwarding databases of
// tunnels: the kernel does not say who changed an entry (vxlan_fdb_notify and
// br_fdb_notify name no sender). As madeLinks, it is no truth: what is not in it is looked at.
type ways struct {
	mu sync.Mutex
	by map[way]made
	// most is how many there may be before what is old is purged.
	most int
}

// made is what was done to an entry last, and before that: its news comes later.
type made struct {
	dst, was netip.Addr
	gone     bool
	// owed are deletions of ours of which nothing was heard yet: it may have been made again
	// since.
	owed int
	at   time.Time
}

// way is an entry: dst is of those of which there are several only.
type way struct {
	index  int
	mac    string
	master bool
	dst    netip.Addr
}

// wayHeard is far more than is between an operation and its news.
const wayHeard = 10 * time.Second

func wayOf(index int, o dataplane.FDB) way {
	w := way{index: index, mac: o.MAC, master: !o.Dst.IsValid()}
	if o.MAC == dataplane.FDBDefault {
		w.dst = o.Dst
	}
	return w
}

// note is called before the operation, so that what another does after it is never
// taken for ours.
func (w *ways) note(index int, o dataplane.FDB, del bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[way]made{}
	}
	k, now := wayOf(index, o), time.Now()
	was, known := w.by[k]
	if !known && len(w.by) >= w.most {
		w.purge()
		w.most = 2*len(w.by) + 1024
	}
	switch {
	case del:
		w.by[k] = made{dst: was.dst, was: was.was, gone: true, owed: was.owed + 1, at: now}
	case known && was.dst == o.Dst && !was.gone:
	default:
		w.by[k] = made{dst: o.Dst, was: was.dst, owed: was.owed, at: now}
	}
}

// nothing is called when there was nothing to delete, so that no news comes of it.
func (w *ways) nothing(index int, o dataplane.FDB) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m, ok := w.by[wayOf(index, o)]; ok && m.owed > 0 {
		m.owed--
		w.by[wayOf(index, o)] = m
	}
}

// ours says that an entry that came, or went, did so by an operation of ours. What we
// took away, nobody wants: so it does not matter who else did.
func (w *ways) ours(index int, o dataplane.FDB, del bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, ok := w.by[wayOf(index, o)]
	late := time.Since(m.at) < wayHeard
	if del {
		if ok && m.owed > 0 {
			m.owed--
			w.by[wayOf(index, o)] = m
			return true
		}
		return ok && m.gone
	}
	return ok && (m.dst == o.Dst && (late || !m.gone) || m.was == o.Dst && late)
}

// lost is called when news was: no deletion is owed any more.
func (w *ways) lost() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, m := range w.by {
		if m.owed > 0 {
			m.owed = 0
			w.by[k] = m
		}
	}
}

// forget is for a link that is gone.
func (w *ways) forget(index int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.by {
		if k.index == index {
			delete(w.by, k)
		}
	}
}

// purge forgets deletions of which everything was heard; the caller holds mu.
func (w *ways) purge() {
	for k, m := range w.by {
		if m.gone && time.Since(m.at) > wayHeard {
			delete(w.by, k)
		}
	}
}
