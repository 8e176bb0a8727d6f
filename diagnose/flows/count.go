package flows

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	"linkspan/dataplane/reading"
)

// PortFlow is a published port as connections use it: the port that was dialled, and
// where it leads.
type PortFlow struct {
	Proto string
	Port  uint16
	To    netip.AddrPort
}

// Counter counts new connections per published port. It costs the kernel one message
// per connection while it runs, and nothing while it does not.
type Counter struct {
	tap  reading.Tap
	log  *slog.Logger
	mu   sync.Mutex
	n    map[PortFlow]uint64
	lost uint64
}

// counterMost bounds what is counted: so many ports are published nowhere.
const counterMost = 1 << 17

// NewCounter makes one; Run has it count.
func NewCounter(tap reading.Tap, log *slog.Logger) *Counter {
	return &Counter{tap: tap, log: log, n: map[PortFlow]uint64{}}
}

// Run counts until ctx ends.
func (c *Counter) Run(ctx context.Context) {
	for wait, told := retryFirst, false; ; wait = min(2*wait, retryMost) {
		err := c.tap.Changes(ctx, "", []string{reading.FlowNew}, c.take)
		if ctx.Err() != nil {
			return
		}
		if !told {
			told = true
			c.log.Warn("connections to published ports are not counted", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (c *Counter) take(batch []reading.FlowChange, lost int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost += uint64(lost)
	for _, e := range batch {
		f := e.Flow
		if !f.DNAT || e.Kind != reading.FlowNew {
			continue
		}
		key := PortFlow{f.Proto, f.Original.Dst.Port(), f.Reply.Src}
		if _, ok := c.n[key]; ok || len(c.n) < counterMost {
			c.n[key]++
		}
	}
}

// Counts are the connections so far, and how many times more happened than could be
// read (the counts are too small then).
func (c *Counter) Counts() (n map[PortFlow]uint64, lost uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.n), c.lost
}
