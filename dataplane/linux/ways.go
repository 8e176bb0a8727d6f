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
	mu   sync.Mutex
	made map[way]netip.Addr // where it leads
	gone map[way]time.Time
}

// way is an entry: dst is of those of which there are several only.
type way struct {
	index  int
	mac    string
	master bool
	dst    netip.Addr
}

// goneHeard is far more than is between a deletion and its news.
const goneHeard = 10 * time.Second

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
	if w.made == nil {
		w.made, w.gone = map[way]netip.Addr{}, map[way]time.Time{}
	}
	k := wayOf(index, o)
	if !del {
		delete(w.gone, k)
		w.made[k] = o.Dst
		return
	}
	delete(w.made, k)
	w.gone[k] = time.Now()
}

// ours says that an entry that came, or went, did so by an operation of ours. What we
// took away, nobody wants: so it does not matter who else did.
func (w *ways) ours(index int, o dataplane.FDB, del bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := wayOf(index, o)
	if del {
		_, ok := w.gone[k]
		return ok
	}
	dst, ok := w.made[k]
	return ok && dst == o.Dst
}

// forget is for a link that is gone, and for news of long ago.
func (w *ways) forget(index int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.made {
		if k.index == index {
			delete(w.made, k)
		}
	}
	for k, at := range w.gone {
		if k.index == index || time.Since(at) > goneHeard {
			delete(w.gone, k)
		}
	}
}
