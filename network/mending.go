package network

import (
	"maps"
	"strings"
	"sync"
	"time"

	"linkspan/dataplane"
)

// When another program undoes a repair again and again, the object is left alone for a
// while, longer each time, and tried again at its end: neither side's work is of use to
// anyone meanwhile. A person who breaks something a few times by hand does not meet it.
const (
	fightAfter = 4           // repairs of one object, more than one each fightSoon
	fightSoon  = time.Second // what "soon" is
	fightFirst = 250 * time.Millisecond
	fightMost  = time.Minute
)

// RepairStats is what the repair has done since the daemon started.
type RepairStats struct {
	// Objects that are declared, when the host was last compared as a whole.
	Objects int
	// Repairs by kind of object ("link", "element", …), and those that failed.
	Repairs, Failures map[string]uint64
	// Looks are how often news was looked at, whether anything was wrong or not.
	Looks uint64
	// BackOffs counts how often an object was left alone since somebody keeps undoing
	// its repair (or it keeps failing); BackingOff are those now.
	BackOffs   uint64
	BackingOff int
	// Checks of the whole host; when the last one began, and how long it took.
	Checks    uint64
	LastCheck time.Time
	LastTook  time.Duration
}

// RepairStats returns them.
func (c *Controller) RepairStats() RepairStats {
	m := &c.mending
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.Repairs, s.Failures = maps.Clone(s.Repairs), maps.Clone(s.Failures)
	for _, f := range m.fights {
		if time.Now().Before(f.until) {
			s.BackingOff++
		}
	}
	return s
}

// mending is what the repair remembers.
type mending struct {
	mu     sync.Mutex
	stats  RepairStats
	fights map[string]*fight // by key
	half   map[string]bool   // veths whose other end could not be made whole
	later  dataplane.Touch   // what could not be looked at
	at     time.Time         // when that is tried again
}

// fight is what is known of one object that was repaired lately.
type fight struct {
	object dataplane.Object
	times  float64 // how often, less one for each fightSoon of peace
	last   time.Time
	delay  time.Duration
	until  time.Time // it is left alone until then
	waits  bool      // and is to be repaired then
	by     string    // who made that necessary, if known
}

// mended is one op of a repair, done.
type mended struct {
	op  dataplane.Op
	was string
	err error
	// skipped: it was not tried, since another object of its owner failed.
	skipped bool
	// delay is set when the object is left alone for now.
	delay time.Duration
}

func kindOf(o dataplane.Object) string {
	kind, _, _ := strings.Cut(o.Key(), " ")
	return kind
}

func count(in *map[string]uint64, kind string) {
	if *in == nil {
		*in = map[string]uint64{}
	}
	(*in)[kind]++
}

func (m *mending) looked() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Looks++
}

func (m *mending) checked(at time.Time, took time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Checks++
	if err == nil {
		m.stats.LastCheck, m.stats.LastTook = at, took
	}
}

// halfMade are the veths whose other end could not be made whole.
func (m *mending) halfMade() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.half)
}

// stands for an object: what is inside of a sandbox comes and goes with its wire.
func standsFor(o dataplane.Object, wires map[place]dataplane.Veth) dataplane.Object {
	if p, in := insideOf(o); in {
		if v, ok := wires[p]; ok {
			return v
		}
	}
	return o
}

// allowed leaves out what has to wait, and what hangs on it.
func (m *mending) allowed(ops []dataplane.Op, wires map[place]dataplane.Veth, by string, now time.Time) (out []dataplane.Op) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, op := range ops {
		if f := m.waiting(standsFor(op.Object, wires), now); f != nil {
			f.waits, f.by = true, by
		} else {
			out = append(out, op)
		}
	}
	return out
}

// waiting is the fight because of which an object has to wait: its own, or that about
// the link or table that it hangs on.
func (m *mending) waiting(o dataplane.Object, now time.Time) *fight {
	keys := []string{o.Key()}
	on := func(link string) { keys = append(keys, dataplane.Bridge{Name: link}.Key()) }
	switch o := o.(type) {
	case dataplane.Veth:
		on(o.Master)
	case dataplane.VXLAN:
		on(o.Master)
	case dataplane.FDB:
		on(o.Dev)
	case dataplane.Neighbour:
		on(o.Link)
	case dataplane.Addr:
		on(o.Link)
	case dataplane.Up:
		on(o.Link)
	case dataplane.Route:
		on(o.Link)
	case dataplane.Sysctl:
		on(dataplane.SysctlLink(o.Name))
	case dataplane.Element:
		keys = append(keys, dataplane.Page{Family: o.Family, Table: o.Table}.Key())
	}
	if dataplane.InSandbox(o) != "" {
		keys = keys[:1] // a link of the same name is not the same link
	}
	for _, k := range keys {
		if f := m.fights[k]; f != nil && now.Before(f.until) {
			return f
		}
	}
	return nil
}

// done counts what was repaired, and decides what is left alone from now on.
func (m *mending) done(all []mended, wires map[place]dataplane.Veth, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, f := range m.fights {
		if !f.waits && now.Sub(f.last) > fightAfter*fightSoon+2*f.delay {
			delete(m.fights, k)
		}
	}
	failed := map[string]bool{}
	for _, d := range all {
		kind := kindOf(d.op.Object)
		switch {
		case d.skipped:
		case d.err != nil:
			count(&m.stats.Failures, kind)
		default:
			count(&m.stats.Repairs, kind)
		}
		key := standsFor(d.op.Object, wires).Key()
		failed[key] = failed[key] || d.err != nil
	}
	if m.fights == nil {
		m.fights = map[string]*fight{}
	}
	if m.half == nil {
		m.half = map[string]bool{}
	}
	for i, d := range all {
		o := standsFor(d.op.Object, wires)
		if bad, first := failed[o.Key()]; first {
			delete(failed, o.Key()) // counted once
			if v, wire := o.(dataplane.Veth); wire {
				if delete(m.half, v.Name); bad {
					m.half[v.Name] = true
				}
			}
			m.again(o, bad, now)
		}
		if f := m.fights[o.Key()]; now.Before(f.until) {
			all[i].delay = f.delay
		}
	}
}

// unfinished notes that what is inside of a sandbox could not be made whole.
func (m *mending) unfinished(objs []dataplane.Object, wires map[place]dataplane.Veth) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range objs {
		if v, wire := standsFor(o, wires).(dataplane.Veth); wire {
			if m.half == nil {
				m.half = map[string]bool{}
			}
			m.half[v.Name] = true
		}
	}
}

// again notes one more repair of an object.
func (m *mending) again(o dataplane.Object, failed bool, now time.Time) {
	f := m.fights[o.Key()]
	if f == nil {
		f = &fight{}
		m.fights[o.Key()] = f
	}
	since := f.last // time that it was left alone is no peace
	if f.until.After(since) {
		since = f.until
	}
	f.times = max(0, f.times-now.Sub(since).Seconds()/fightSoon.Seconds())
	f.object, f.last, f.waits, f.by = o, now, failed, ""
	if f.times++; f.times <= fightAfter-1 && !failed {
		return
	}
	f.delay = min(max(2*f.delay, fightFirst), fightMost)
	f.until = now.Add(f.delay)
	m.stats.BackOffs++
}

// timer fires when something that waits is to be tried again.
func (m *mending) timer() (<-chan time.Time, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.at
	for _, f := range m.fights {
		if f.waits && (next.IsZero() || f.until.Before(next)) {
			next = f.until
		}
	}
	if next.IsZero() {
		return nil, func() {}
	}
	t := time.NewTimer(time.Until(next))
	return t.C, func() { t.Stop() }
}

// due is where that is.
func (m *mending) due(now time.Time) dataplane.Touch {
	m.mu.Lock()
	defer m.mu.Unlock()
	var t dataplane.Touch
	if !m.at.IsZero() && !now.Before(m.at) {
		t, m.later, m.at = m.later, dataplane.Touch{}, time.Time{}
	}
	for _, f := range m.fights {
		if f.waits && !now.Before(f.until) {
			f.waits = false
			one := dataplane.TouchOf(f.object)
			one.By = f.by
			if one.Empty() {
				one.All = true // inside of a sandbox: the wire is looked at by a full check
			}
			t.Add(one)
		}
	}
	return t
}

// postpone has news looked at again.
func (m *mending) postpone(t dataplane.Touch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.later.Add(t)
	m.at = time.Now().Add(time.Second)
}

// counted takes note of what is declared.
func (c *Controller) counted(want *dataplane.State) {
	c.mending.mu.Lock()
	c.mending.stats.Objects = want.Len()
	c.mending.mu.Unlock()
	if c.cfg.Expect == nil {
		return
	}
	var all []dataplane.Sysctl
	for _, o := range want.All() {
		if s, ok := o.(dataplane.Sysctl); ok && s.NS == "" {
			all = append(all, s)
		}
	}
	c.cfg.Expect(all)
}
