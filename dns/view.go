package dns

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
)

// view is one sandbox's resolver.
type view struct {
	server *Server
	id     string
	data   atomic.Pointer[viewData]
	asking atomic.Int32 // questions on their way to upstreams

	mu       sync.Mutex // of what follows; the server's lock comes first
	sockets  *listeners
	upstream *group // of View.Upstreams; nil: the host's
}

// viewData is what a view answers from. It does not change: a change is another.
type viewData struct {
	View
	seed    maphash.Seed
	own     map[string]*entry
	links   map[string]target
	zones   []place
	search  []string // on the wire
	forward *group   // nil: closed
}

// place is a zone as a view has it.
type place struct {
	*zone
	// name is the network's, as written and lowered, on the wire; may be empty.
	name, key string
}

// target is where a link leads.
type target struct {
	zone *zone
	key  string
	hash uint64
}

// newViewData prepares a view; zone gives the zone of an id.
func newViewData(v View, seed maphash.Seed, zone func(id string) *zone, forward *group) *viewData {
	d := &viewData{View: v, seed: seed, own: map[string]*entry{}, links: map[string]target{}, forward: forward}
	for _, h := range v.Own {
		if k, ok := key(h.Name); ok {
			var e entry
			if old := d.own[k]; old != nil {
				e.a, e.aaaa = old.a, old.aaaa
			}
			a, aaaa := answers(h.Addrs)
			e.a, e.aaaa = append(e.a, a...), append(e.aaaa, aaaa...)
			d.own[k] = &e
		}
	}
	for _, l := range v.Links {
		k, ok := key(l.Name)
		t, ok2 := key(l.Target)
		if ok && ok2 {
			d.links[k] = target{zone(l.Zone), t, maphash.String(seed, t)}
		}
	}
	for i, id := range v.Zones {
		p := place{zone: zone(id)}
		if i < len(v.ZoneNames) {
			if w, ok := wireName(v.ZoneNames[i]); ok {
				p.name, p.key = w, lower(w)
			}
		}
		d.zones = append(d.zones, p)
	}
	for _, s := range v.Search {
		if k, ok := key(s); ok {
			d.search = append(d.search, k)
		}
	}
	if v.Closed {
		d.forward = nil
	}
	return d
}

// found is what a name leads to: in several zones, the first with an address of
// the family asked for counts.
type found struct {
	entry *entry // the first
	zone  *place // in which; nil: own or a link
	a     *entry // the first with IPv4
	aaaa  *entry // the first with IPv6
}

func (f *found) add(e *entry, p *place) {
	if e == nil {
		return
	}
	if f.entry == nil {
		f.entry, f.zone = e, p
	}
	if f.a == nil && len(e.a) > 0 {
		f.a = e
	}
	if f.aaaa == nil && len(e.aaaa) > 0 {
		f.aaaa = e
	}
}

// find looks a name up: as it is, as name.network, and either with one of the
// sandbox's search domains appended.
func (d *viewData) find(name []byte) (f found) {
	if f = d.lookup(name); f.entry != nil {
		return f
	}
	for _, s := range d.search {
		if n, ok := cut(name, s); ok {
			if f = d.lookup(n); f.entry != nil {
				return f
			}
		}
	}
	return f
}

func (d *viewData) lookup(name []byte) (f found) {
	if e := d.own[string(name)]; e != nil {
		f.add(e, nil)
		return f
	}
	if len(d.links) > 0 {
		if l, ok := d.links[string(name)]; ok {
			if e := l.zone.table.Load().get(l.hash, []byte(l.key)); e != nil {
				f.add(e, nil)
				return f
			}
		}
	}
	if len(d.zones) == 0 {
		return f
	}
	hash := maphash.Bytes(d.seed, name)
	for i := range d.zones {
		p := &d.zones[i]
		f.add(p.table.Load().get(hash, name), p)
	}
	if f.entry != nil {
		return f
	}
	for i := range d.zones {
		p := &d.zones[i]
		if p.key == "" {
			continue
		}
		if n, ok := cut(name, p.key); ok {
			f.add(p.table.Load().get(maphash.Bytes(d.seed, n), n), p)
		}
	}
	return f
}

// address finds who has an address.
func (d *viewData) address(a netip.Addr) (f found) {
	var b [17]byte
	k := putAddrKey(&b, a)
	hash := maphash.Bytes(d.seed, k)
	for i := range d.zones {
		p := &d.zones[i]
		f.add(p.table.Load().get(hash, k), p)
	}
	return f
}

// ours says whether an address is in one of the sandbox's networks.
func (d *viewData) ours(a netip.Addr) bool {
	for _, p := range d.Subnets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// within says whether all of these addresses are in one of the sandbox's networks.
func (d *viewData) within(p netip.Prefix) bool {
	for _, s := range d.Subnets {
		if s.Bits() <= p.Bits() && s.Contains(p.Addr()) {
			return true
		}
	}
	return false
}
