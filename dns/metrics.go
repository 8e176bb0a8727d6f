package dns

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// counters count since the start.
type counters struct {
	Queries, TCP, Dropped, Refused, Local           atomic.Uint64
	Cached, Stale, Forwarded, Joined, Failed, Turns atomic.Uint64
}

// Metrics are a server's counts since its start.
type Metrics struct {
	Queries   uint64 // messages received
	TCP       uint64 // of them, over TCP
	Dropped   uint64 // not answered: no questions
	Refused   uint64 // malformed, or of a kind that is not served
	Local     uint64 // answered from names of ours, or kept from leaking
	Cached    uint64 // answered from what upstreams said before
	Stale     uint64 // answered with what they said long before, as they do not answer now
	Forwarded uint64 // questions that upstreams were asked
	Joined    uint64 // questions that waited for the same one's answer
	Failed    uint64 // SERVFAIL, since no upstream answered
	Turned    uint64 // SERVFAIL, since the sandbox asks for too much at once

	Views, Zones, Names      int
	CacheEntries, CacheBytes int
	Upstreams                []UpstreamMetrics
}

// UpstreamMetrics are one server's, as one group asks it.
type UpstreamMetrics struct {
	Group      string // "host" or "sandbox ID"
	Server     netip.AddrPort
	Down       bool
	RTT        time.Duration // smoothed; 0: not known yet
	Asked      uint64
	Answered   uint64
	Failed     uint64 // errors, and no answer in time
	Mismatched uint64 // answers that were none to what was asked
	TCP        uint64 // asked again, since the answer was cut
}

// Metrics tells the counts.
func (s *Server) Metrics() Metrics {
	c := &s.count
	m := Metrics{
		Queries: c.Queries.Load(), TCP: c.TCP.Load(), Dropped: c.Dropped.Load(), Refused: c.Refused.Load(), Local: c.Local.Load(),
		Cached: c.Cached.Load(), Stale: c.Stale.Load(), Forwarded: c.Forwarded.Load(), Joined: c.Joined.Load(), Failed: c.Failed.Load(), Turned: c.Turns.Load(),
	}
	s.mu.Lock()
	groups := []*group{s.host}
	m.Views, m.Zones = len(s.views), len(s.zones)
	for _, v := range s.views {
		v.mu.Lock()
		if v.upstream != nil {
			groups = append(groups, v.upstream)
		}
		v.mu.Unlock()
	}
	for _, z := range s.zones {
		z.mu.Lock()
		m.Names += z.keys
		z.mu.Unlock()
	}
	s.mu.Unlock()
	for _, g := range groups {
		entries, bytes := g.cache.size()
		m.CacheEntries, m.CacheBytes = m.CacheEntries+entries, m.CacheBytes+bytes
		m.Upstreams = append(m.Upstreams, g.metrics()...)
	}
	slices.SortStableFunc(m.Upstreams, func(a, b UpstreamMetrics) int {
		return slices.Compare([]byte(a.Group), []byte(b.Group))
	})
	return m
}
