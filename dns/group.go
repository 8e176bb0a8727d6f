package dns

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxAsking is how many questions of one sandbox wait for upstreams at once, and
	// maxFlights how many of a group are under way: whoever asks for more hears
	// SERVFAIL, and the others go on.
	maxAsking, maxFlights = 512, 2048
	// staleAfter is how long a client waits for upstreams when there is an old answer
	// (RFC 8767 5: 1.8 seconds).
	staleAfter = 1800 * time.Millisecond
	// prefetchFrom is the life of answers that are asked for again shortly before
	// their end, when they were used at least prefetchUses times.
	prefetchFrom = 10 * time.Second
	prefetchUses = 3
)

// group are upstreams that are asked together, with what they said.
type group struct {
	server *Server
	name   string
	source source
	dial   Dialer
	cache  *cache
	start  time.Time // the clock's zero
	log    *slog.Logger
	seen   atomic.Pointer[settings]
	turn   atomic.Uint32 // rotate
	silent atomic.Bool   // nobody answered the last time

	mu      sync.Mutex
	flights map[string]*flight
	known   map[netip.AddrPort]*upstream
}

func newGroup(s *Server, name string, size int, from source, d Dialer) *group {
	return &group{
		server: s, name: name, source: from, dial: d, cache: newCache(s.seed, size), start: s.config.Now(),
		log: s.log.With("upstreams", name), flights: map[string]*flight{}, known: map[netip.AddrPort]*upstream{},
	}
}

func (g *group) now() time.Duration { return g.server.config.Now().Sub(g.start) }

// current are the settings of now; what other servers said is forgotten.
func (g *group) current() *settings {
	set := g.source.settings()
	old := g.seen.Load()
	if old == set {
		return set
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if old = g.seen.Load(); old == set {
		return set
	}
	if old != nil && !slices.Equal(old.servers, set.servers) {
		g.cache.clear()
	}
	known := map[netip.AddrPort]*upstream{}
	for _, a := range set.servers {
		u := g.known[a]
		if u == nil {
			u = &upstream{addr: a}
		}
		known[a] = u
	}
	g.known = known
	g.seen.Store(set)
	return set
}

// ranked are the servers in the order to ask them, and how many of them are to be
// asked at once, the others' health being a question too.
func (g *group) ranked() (set *settings, list, probes []*upstream) {
	set = g.current()
	g.mu.Lock()
	for _, a := range set.servers {
		if u := g.known[a]; u != nil {
			list = append(list, u)
		}
	}
	g.mu.Unlock()
	if set.rotate && len(list) > 1 {
		n := int(g.turn.Add(1)) % len(list)
		list = append(list[n:], list[:n]...)
	}
	if len(list) < 2 {
		return set, list, nil
	}
	now := g.now()
	ranks := map[*upstream]int{}
	for _, u := range list {
		ranks[u] = u.rank(now)
	}
	slices.SortStableFunc(list, func(a, b *upstream) int { return ranks[a] - ranks[b] })
	for _, u := range list[1:] {
		if ranks[u] > 0 && u.probe(now) {
			probes = append(probes, u)
			break
		}
	}
	return set, list, probes
}

func (g *group) metrics() (list []UpstreamMetrics) {
	g.mu.Lock()
	defer g.mu.Unlock()
	set := g.seen.Load()
	if set == nil {
		return nil
	}
	for _, a := range set.servers {
		u := g.known[a]
		m := UpstreamMetrics{Group: g.name, Server: a, Asked: u.asked.Load(), Answered: u.answered.Load(),
			Failed: u.failed.Load(), Mismatched: u.mismatched.Load(), TCP: u.tcp.Load()}
		u.mu.Lock()
		m.RTT, m.Down = u.rtt, u.fails >= downAfter
		u.mu.Unlock()
		list = append(list, m)
	}
	return list
}

// client is where an answer goes that takes its time.
type client struct {
	udp  *net.UDPConn
	addr netip.AddrPort
	tcp  *tcpClient
}

// send never waits: a client that does not read its connection holds up nobody else's
// answer. msg is used again by the caller.
func (c client) send(msg []byte) {
	if c.tcp == nil {
		_, _ = c.udp.WriteToUDPAddrPort(msg, c.addr)
		return
	}
	msg = slices.Clone(msg)
	go func() { // bounded by maxPipelined per connection and tcpWrite
		c.tcp.send(msg)
		c.tcp.done()
	}()
}

// waiter is a question on its way.
type waiter struct {
	query
	client
	view *view
}

// flight is one question that upstreams are asked, for all who ask it meanwhile.
type flight struct {
	ask
	key     string
	old     *item // what there is if they do not answer
	waiters []waiter
	stale   bool // the waiters were given old
}

// key is what an answer is kept by: flags of the question make it another.
func (q *query) cacheKey(b []byte) []byte {
	bits := byte(q.flags>>8&1) | byte(q.flags&(flagAD|flagCD))
	if q.do {
		bits |= 2
	}
	return append(append(b, q.name...), byte(q.qtype>>8), byte(q.qtype), bits)
}

// ask answers from the cache, or makes the client wait for the upstreams, in which
// case nothing is appended to out.
func (v *view) ask(g *group, q *query, out []byte, c client) []byte {
	count := &v.server.count
	set, now := g.current(), g.now()
	var b [maxName + 4]byte
	key := q.cacheKey(b[:0])
	it := g.cache.get(key, now)
	switch {
	case it == nil:
	case it.fresh(now):
		count.Cached.Add(1)
		if uses, life := it.uses.Add(1), it.expires-it.born; uses >= prefetchUses && life >= prefetchFrom && it.expires-now <= life/10 && it.refreshing.CompareAndSwap(false, true) {
			g.refresh(q, string(key), it)
		}
		return it.appendTo(out, q, now-it.born, 0, nil)
	case int64(now) < it.recheckAt.Load() || len(set.servers) == 0:
		return v.staleAnswer(it, q, out)
	}
	if len(set.servers) == 0 {
		count.Failed.Add(1)
		return failure(q, rcodeServFail).appendTo(out, q, 0, 0, &reason{reasonUnreachable, g.name + ": no server is known"})
	}
	w := waiter{query: *q, client: c, view: v}
	w.msg = slices.Clone(q.msg[:q.end])
	k := string(key)
	g.mu.Lock()
	f := g.flights[k]
	switch {
	case f != nil && f.stale:
		g.mu.Unlock()
		return v.staleAnswer(f.old, q, out)
	case v.asking.Load() >= maxAsking, f == nil && len(g.flights) >= maxFlights:
		g.mu.Unlock()
		count.Turns.Add(1)
		return failure(q, rcodeServFail).appendTo(out, q, 0, 0, &reason{reasonUnreachable, "too many questions at once"})
	case f == nil:
		f = newFlight(q, k, it)
		g.flights[k] = f
		v.server.busy.Go(func() { g.server.guard(g.name, func() { g.fly(f) }) })
	default:
		count.Joined.Add(1)
	}
	v.asking.Add(1)
	f.waiters = append(f.waiters, w)
	g.mu.Unlock()
	return out
}

func (v *view) staleAnswer(it *item, q *query, out []byte) []byte {
	v.server.count.Stale.Add(1)
	return it.appendTo(out, q, 0, staleTTL, &reason{code: reasonStale})
}

func newFlight(q *query, key string, old *item) *flight {
	return &flight{key: key, old: old, ask: ask{name: slices.Clone(q.name), qtype: q.qtype, flags: q.flags & (flagRD | flagAD | flagCD), do: q.do}}
}

// refresh asks again for what is about to end.
func (g *group) refresh(q *query, key string, it *item) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.flights[key] == nil && len(g.flights) < maxFlights {
		f := newFlight(q, key, it)
		g.flights[key] = f
		g.server.busy.Go(func() { g.server.guard(g.name, func() { g.fly(f) }) })
	}
}

// fly asks, keeps the answer and gives it to who waits.
func (g *group) fly(f *flight) {
	g.server.count.Forwarded.Add(1)
	if f.old != nil {
		defer time.AfterFunc(staleAfter, func() { g.giveStale(f) }).Stop()
	}
	asked := g.seen.Load()
	m, errs := g.race(&f.ask)
	now := g.now()
	var why *reason
	if m == nil && g.silent.CompareAndSwap(false, true) {
		g.log.Warn("dns: no upstream answers", "tried", errs)
	} else if m != nil && g.silent.CompareAndSwap(true, false) {
		g.log.Info("dns: upstreams answer again")
	}
	good := m != nil && (m.rcode == rcodeSuccess || m.rcode == rcodeNXDomain)
	switch {
	case good:
		if g.seen.Load() == asked { // else others are asked now, who may say another thing
			life := m.life
			if asked.stub() {
				life = min(life, stubLife)
			}
			g.cache.put(f.key, m, life, now)
		}
	case f.old != nil:
		f.old.recheckAt.Store(int64(now + recheck))
		g.giveStale(f)
	case m == nil:
		g.server.count.Failed.Add(1)
		why = &reason{reasonNetwork, clip(strings.Join(errs, "; "))}
		m = failure(&query{name: f.name, qtype: f.qtype}, rcodeServFail)
		fallthrough
	default:
		g.cache.put(f.key, m, failureLife, now)
	}
	g.mu.Lock()
	delete(g.flights, f.key)
	waiters := f.waiters
	f.waiters = nil
	g.mu.Unlock()
	give(waiters, m, 0, why)
}

// giveStale gives the old answer to those who have waited enough; the flight goes on.
func (g *group) giveStale(f *flight) {
	g.mu.Lock()
	f.stale = true
	waiters := f.waiters
	f.waiters = nil
	g.mu.Unlock()
	g.server.count.Stale.Add(uint64(len(waiters)))
	give(waiters, f.old.message, staleTTL, &reason{code: reasonStale})
}

func give(waiters []waiter, m *message, fixed uint32, why *reason) {
	var out []byte
	for i := range waiters {
		w := &waiters[i]
		w.name = w.buf[:len(w.name)]
		out = m.appendTo(out[:0], &w.query, 0, fixed, why)
		w.send(out)
		w.view.asking.Add(-1)
	}
}

// clip keeps an explanation short enough for an answer.
func clip(s string) string {
	if len(s) > 200 {
		s = fmt.Sprintf("%.200s…", s)
	}
	return s
}
