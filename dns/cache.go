package dns

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes of caches, in bytes of what they hold: the host's is everyone's, a view's
// is for its own servers' answers.
const (
	hostCache = 8 << 20
	viewCache = 512 << 10

	itemOverhead = 250 // what an item takes besides its message and its key
	maxItem      = 16 << 10
	cacheShards  = 8

	// staleFor is how long an answer may be given after its time when upstreams do
	// not answer (RFC 8767 5: one to three days at most).
	staleFor = 24 * time.Hour
	// staleTTL is what it then lives, in seconds (RFC 8767 5).
	staleTTL = 30
	// recheck is how long nobody waits again for upstreams that just failed.
	recheck = 5 * time.Second
	// failureLife is how long a failure is kept (RFC 9520: at least a second).
	failureLife = time.Second
)

// item is an answer that is kept.
type item struct {
	*message
	key        string
	born       time.Duration // on the group's clock
	expires    time.Duration
	uses       atomic.Uint32
	refreshing atomic.Bool
	recheckAt  atomic.Int64 // on the group's clock: until then upstreams need not be waited for

	older, newer *item // by last use
	bytes        int
}

// fresh says whether it is within its time.
func (it *item) fresh(now time.Duration) bool { return now < it.expires }

// failure says whether it is no answer but that there is none.
func (it *item) failure() bool { return it.rcode != rcodeSuccess && it.rcode != rcodeNXDomain }

// cache keeps answers, the least recently used go first.
type cache struct {
	seed   maphash.Seed
	shards []cacheShard
}

type cacheShard struct {
	mu             sync.Mutex
	items          map[string]*item
	oldest, newest *item
	bytes, limit   int
}

func newCache(seed maphash.Seed, limit int) *cache {
	n := cacheShards
	if limit < hostCache {
		n = 1
	}
	c := &cache{seed: seed, shards: make([]cacheShard, n)}
	for i := range c.shards {
		c.shards[i].limit = limit / n
	}
	return c
}

func (c *cache) shard(key []byte) *cacheShard {
	if len(c.shards) == 1 {
		return &c.shards[0]
	}
	return &c.shards[maphash.Bytes(c.seed, key)%uint64(len(c.shards))]
}

// get finds an answer, which may be stale; nil: there is none.
func (c *cache) get(key []byte, now time.Duration) *item {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.items[string(key)]
	if it == nil {
		return nil
	}
	if now >= it.expires+staleFor || it.failure() && !it.fresh(now) {
		s.remove(it)
		return nil
	}
	if s.newest != it {
		s.unlink(it)
		s.link(it)
	}
	return it
}

// put keeps an answer for its life.
func (c *cache) put(key string, m *message, life, now time.Duration) {
	if life <= 0 || len(m.wire) > maxItem {
		return
	}
	// The wire's array is the buffer it was read into.
	kept := *m
	kept.wire = append(make([]byte, 0, len(m.wire)), m.wire...)
	it := &item{message: &kept, key: key, born: now, expires: now + life}
	it.bytes = itemOverhead + len(key) + len(kept.wire) + 2*len(kept.ttls)
	s := c.shard([]byte(key))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.items == nil {
		s.items = map[string]*item{}
	}
	if old := s.items[key]; old != nil {
		s.remove(old)
	}
	s.items[key] = it
	s.bytes += it.bytes
	s.link(it)
	for s.bytes > s.limit && s.oldest != it {
		s.remove(s.oldest)
	}
}

func (s *cacheShard) remove(it *item) {
	delete(s.items, it.key)
	s.bytes -= it.bytes
	s.unlink(it)
}

func (s *cacheShard) link(it *item) {
	it.older, it.newer = s.newest, nil
	if s.newest != nil {
		s.newest.newer = it
	} else {
		s.oldest = it
	}
	s.newest = it
}

func (s *cacheShard) unlink(it *item) {
	if it.older != nil {
		it.older.newer = it.newer
	} else {
		s.oldest = it.newer
	}
	if it.newer != nil {
		it.newer.older = it.older
	} else {
		s.newest = it.older
	}
}

// clear forgets all: other servers say other things.
func (c *cache) clear() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.items, s.oldest, s.newest, s.bytes = nil, nil, nil, 0
		s.mu.Unlock()
	}
}

func (c *cache) size() (entries, bytes int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		entries += len(s.items)
		bytes += s.bytes
		s.mu.Unlock()
	}
	return entries, bytes
}
