package dns

import (
	"cmp"
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// ttl is how long clients may keep a name of ours, in seconds: a container that
// comes back with another address is found again within it.
const ttl = 5

// Lengths of records whose owner is a pointer to the question: pointer, type,
// class, TTL, length, address.
const (
	aLen    = 2 + 2 + 2 + 4 + 2 + 4
	aaaaLen = 2 + 2 + 2 + 4 + 2 + 16
)

// entry is what one name, or one address, leads to in a zone. It does not change,
// but for whose turn it is.
type entry struct {
	recs []*rec // by endpoint
	// a and aaaa are the answers' records, ready for the wire: fixed in length, so
	// that turning them is copying two parts.
	a, aaaa []byte
	turns   [2]atomic.Uint32
}

// rec is a Record, prepared.
type rec struct {
	Record
	keys    []string // of names and addresses
	a, aaaa []byte
}

func newRec(r Record) *rec {
	p := &rec{Record: r}
	for _, n := range r.Names {
		if k, ok := key(n); ok && !slices.Contains(p.keys, k) {
			p.keys = append(p.keys, k)
		}
	}
	p.a, p.aaaa = answers(r.Addrs)
	for _, a := range r.Addrs {
		if a.IsValid() {
			p.keys = append(p.keys, addrKey(a))
		}
	}
	slices.Sort(p.keys)
	p.keys = slices.Compact(p.keys)
	return p
}

// answers are the records of addresses, ready for the wire.
func answers(addrs []netip.Addr) (a, aaaa []byte) {
	for _, addr := range addrs {
		switch addr = addr.Unmap(); {
		case addr.Is4():
			b := addr.As4()
			a = append(append(a, 0xc0, headerLen, 0, typeA, 0, classIN, 0, 0, 0, ttl, 0, 4), b[:]...)
		case addr.Is6():
			b := addr.As16()
			aaaa = append(append(aaaa, 0xc0, headerLen, 0, typeAAAA, 0, classIN, 0, 0, 0, ttl, 0, 16), b[:]...)
		}
	}
	return a, aaaa
}

func newEntry(recs []*rec) *entry {
	e := &entry{recs: recs}
	if len(recs) == 1 {
		e.a, e.aaaa = recs[0].a, recs[0].aaaa
		return e
	}
	for _, r := range recs {
		e.a = append(e.a, r.a...)
		e.aaaa = append(e.aaaa, r.aaaa...)
	}
	return e
}

// without is an entry without an endpoint; nil when nothing is left.
func (e *entry) without(endpoint string) *entry {
	if e == nil {
		return nil
	}
	recs := slices.DeleteFunc(slices.Clone(e.recs), func(r *rec) bool { return r.Endpoint == endpoint })
	if len(recs) == 0 {
		return nil
	}
	return newEntry(recs)
}

// with is an entry with a record in its endpoint's place.
func (e *entry) with(r *rec) *entry {
	if e == nil || len(e.recs) == 1 && e.recs[0].Endpoint == r.Endpoint {
		return newEntry([]*rec{r})
	}
	recs := slices.Clone(e.recs)
	i, found := slices.BinarySearchFunc(recs, r.Endpoint, func(r *rec, id string) int { return cmp.Compare(r.Endpoint, id) })
	if found {
		recs[i] = r
	} else {
		recs = slices.Insert(recs, i, r)
	}
	return newEntry(recs)
}

// table finds entries. Readers take no lock: a shard is a map that is never
// written, and is replaced by a changed copy. So one change costs a copy of one
// shard, which is kept at some dozens of keys, whatever the zone's size.
type table struct {
	shards []atomic.Pointer[map[string]*entry] // a power of two
}

// perShard bounds the average of a shard's keys.
const perShard = 48

func newTable(keys int) *table {
	n := 1
	for keys > n*perShard/2 && n < 1<<16 {
		n *= 2
	}
	return &table{shards: make([]atomic.Pointer[map[string]*entry], n)}
}

func (t *table) get(hash uint64, key []byte) *entry {
	m := t.shards[hash&uint64(len(t.shards)-1)].Load()
	if m == nil {
		return nil
	}
	return (*m)[string(key)]
}

// zone is one network's names.
type zone struct {
	seed  maphash.Seed
	table atomic.Pointer[table]

	mu      sync.Mutex // writers
	records map[string]*rec
	keys    int
}

func newZone(seed maphash.Seed) *zone {
	z := &zone{seed: seed, records: map[string]*rec{}}
	z.table.Store(newTable(0))
	return z
}

// set puts records in; whole takes out all others.
func (z *zone) set(records []Record, whole bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	var gone []string
	if whole {
		stay := map[string]bool{}
		for _, r := range records {
			stay[r.Endpoint] = true
		}
		for id := range z.records {
			if !stay[id] {
				gone = append(gone, id)
			}
		}
	}
	z.change(records, gone)
}

// remove takes endpoints out.
func (z *zone) remove(endpoints []string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.change(nil, endpoints)
}

// all are the records, by endpoint.
func (z *zone) all() []Record {
	z.mu.Lock()
	defer z.mu.Unlock()
	list := make([]Record, 0, len(z.records))
	for _, id := range slices.Sorted(maps.Keys(z.records)) {
		list = append(list, z.records[id].Record)
	}
	return list
}

// change writes each shard that is touched once. Readers see a record that
// changes either before or after per name, never without it.
func (z *zone) change(put []Record, gone []string) {
	t := z.table.Load()
	w := writer{zone: z, table: t, shards: map[uint64]map[string]*entry{}}
	for _, id := range gone {
		if old := z.records[id]; old != nil {
			delete(z.records, id)
			w.take(old, nil)
		}
	}
	for _, r := range put {
		old := z.records[r.Endpoint]
		if old != nil && same(old.Record, r) {
			continue
		}
		p := newRec(r)
		z.records[r.Endpoint] = p
		if old != nil {
			w.take(old, p.keys)
		}
		for _, k := range p.keys {
			m := w.shard(k)
			if m[k] == nil {
				z.keys++
			}
			m[k] = m[k].with(p)
		}
	}
	for i, m := range w.shards {
		t.shards[i].Store(&m)
	}
	// Grown or shrunk a lot: others share the cost of the new size.
	if n := len(t.shards); z.keys > n*perShard || n > 1 && z.keys < n*perShard/16 {
		z.table.Store(t.resized(z.seed, z.keys))
	}
}

func same(a, b Record) bool {
	return a.Endpoint == b.Endpoint && slices.Equal(a.Names, b.Names) && slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.Ports, b.Ports)
}

// resized is the same table with as many shards as keys need.
func (t *table) resized(seed maphash.Seed, keys int) *table {
	n := newTable(keys)
	shards := make([]map[string]*entry, len(n.shards))
	for i := range t.shards {
		m := t.shards[i].Load()
		if m == nil {
			continue
		}
		for k, e := range *m {
			at := maphash.String(seed, k) & uint64(len(shards)-1)
			if shards[at] == nil {
				shards[at] = map[string]*entry{}
			}
			shards[at][k] = e
		}
	}
	for i := range shards {
		if shards[i] != nil {
			n.shards[i].Store(&shards[i])
		}
	}
	return n
}

// writer holds the copies of the shards that a change touches.
type writer struct {
	zone   *zone
	table  *table
	shards map[uint64]map[string]*entry
}

func (w *writer) shard(key string) map[string]*entry {
	at := maphash.String(w.zone.seed, key) & uint64(len(w.table.shards)-1)
	m, ok := w.shards[at]
	if !ok {
		if old := w.table.shards[at].Load(); old != nil {
			m = maps.Clone(*old)
		} else {
			m = map[string]*entry{}
		}
		w.shards[at] = m
	}
	return m
}

// take removes a record from all its keys but those in keep.
func (w *writer) take(r *rec, keep []string) {
	for _, k := range r.keys {
		if _, stays := slices.BinarySearch(keep, k); stays {
			continue
		}
		m := w.shard(k)
		if e := m[k].without(r.Endpoint); e != nil {
			m[k] = e
		} else {
			delete(m, k)
			w.zone.keys--
		}
	}
}
