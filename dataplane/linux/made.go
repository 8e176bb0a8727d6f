package linux

import (
	"net/netip"
	"sync"
	"time"

	"linkspan/dataplane"
)

// madeLinks remembers links of the host as this Kernel's operations left them, so that
// what the kernel tells of these operations is no news to the watch. It is no truth:
// what is not in it, or different, is looked at.
type madeLinks struct {
	mu   sync.Mutex
	by   map[string]madeLink
	busy map[string]int // operations that are at a link right now
}

// begin says that an operation is at a link, until end is called: what is heard of the
// link meanwhile is judged after.
func (m *madeLinks) begin(name string) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy == nil {
		m.busy = map[string]int{}
	}
	m.busy[name]++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.busy[name]--; m.busy[name] == 0 {
			delete(m.busy, name)
		}
	}
}

func (m *madeLinks) isBusy(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.busy[name] > 0
}

type madeLink struct {
	kind              string
	master, mtu       int
	mac               string     // a bridge's or VXLAN device's
	local             netip.Addr // a VXLAN device's, as the next two
	dev               int
	lax               bool
	hairpin, isolated bool
	nfCall            bool
	up                bool
}

func (m *madeLinks) note(name string, fresh bool, l madeLink) {
	m.mu.Lock()
	defer m.mu.Unlock()
	had, known := m.by[name]
	if !fresh && !known {
		return // whether it is up was not heard
	}
	if !fresh {
		l.up = had.up
	}
	if m.by == nil {
		m.by = map[string]madeLink{}
	}
	m.by[name] = l
}

func (m *madeLinks) noteUp(name string, up bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l, known := m.by[name]; known {
		l.up = up
		m.by[name] = l
	}
}

func (m *madeLinks) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.by, name)
}

// asMade says that a link is as our own operations left it.
func (k *Kernel) asMade(l *link) bool {
	k.made.mu.Lock()
	defer k.made.mu.Unlock()
	m, known := k.made.by[l.name]
	now := madeLink{kind: l.kind, master: l.master, mtu: l.mtu, hairpin: l.port.hairpin, isolated: l.port.isolated, nfCall: l.nfCall, up: l.up()}
	if l.kind == "bridge" {
		now.mac = l.mac.String()
	}
	if l.vxlan != nil {
		now.mac, now.local, now.dev, now.lax = l.mac.String(), l.vxlan.local, l.vxlan.dev, l.lax()
	}
	return known && now == m
}

func (k *Kernel) madeBridge(o dataplane.Bridge, fresh bool) {
	mac, err := k.mac(o.Name, o.MAC)
	if err == nil {
		k.made.note(o.Name, fresh, madeLink{kind: "bridge", mtu: mtuOf(o.MTU), mac: mac.String(), nfCall: o.NFCall})
	}
}

func (k *Kernel) madeVeth(o dataplane.Veth, master int, fresh bool) {
	k.made.note(o.Name, fresh, madeLink{kind: "veth", master: master, mtu: mtuOf(o.MTU), hairpin: o.Hairpin, isolated: o.Isolated})
}

func (k *Kernel) madeVXLAN(o dataplane.VXLAN, master, dev *link, fresh bool) {
	m := madeLink{kind: "vxlan", mtu: o.InnerMTU(), local: o.Local}
	if mac, err := k.mac(o.Name, o.MAC); err == nil {
		m.mac = mac.String()
	}
	if master != nil {
		m.master = master.index
	}
	if dev != nil {
		m.dev = dev.index
	}
	k.made.note(o.Name, fresh, m)
}

// runs are the processes that run nft for us now, or did and are still to be heard of.
// Process ids come again: each counts for one transaction, and not for long.
type runs struct {
	mu   sync.Mutex
	pids map[int]time.Time
}

// runHeard is far more than is between a run and its news.
const runHeard = 5 * time.Second

func (r *runs) add(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pids == nil {
		r.pids = map[int]time.Time{}
	}
	r.pids[pid] = time.Now()
}

// forget is for a run that changed nothing.
func (r *runs) forget(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pids, pid)
}

// heard says whether a transaction was a run of ours.
func (r *runs) heard(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, at := range r.pids {
		if time.Since(at) > runHeard+nftTimeout {
			delete(r.pids, p)
		}
	}
	_, ours := r.pids[pid]
	delete(r.pids, pid)
	return ours
}
