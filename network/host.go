package network

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"linkspan/ipam"
)

// hostSpace is what the host uses, as it was when last looked at: the routes of a
// host with 500 networks take longer to read than a network takes to make.
type hostSpace struct {
	watched atomic.Bool // somebody tells when it changes
	stale   atomic.Bool // and it did

	mu    sync.Mutex
	space *ipam.Space
	at    time.Time
}

// How old the host's routes may be, while nobody tells of changes and while somebody
// does.
const (
	hostFresh   = time.Second
	hostWatched = time.Minute
)

// HostWatched has the host's routes read again only when there is news of them. It
// returns when the channel closes.
func (c *Controller) HostWatched(news <-chan struct{}) {
	c.host.stale.Store(true)
	c.host.watched.Store(true)
	for range news {
		c.host.stale.Store(true)
	}
	c.host.watched.Store(false)
}

// hostUses returns the prefixes that the host uses, default routes left out. The
// caller only reads it.
func (c *Controller) hostUses(ctx context.Context) (*ipam.Space, error) {
	h := &c.host
	h.mu.Lock()
	defer h.mu.Unlock()
	fresh := hostFresh
	if h.watched.Load() {
		fresh = hostWatched
	}
	// Cleared before the reading: what changes meanwhile makes it stale again.
	if !h.stale.Swap(false) && h.space != nil && time.Since(h.at) < fresh {
		return h.space, nil
	}
	s := &ipam.Space{}
	if c.cfg.HostRoutes != nil {
		routes, err := c.cfg.HostRoutes(ctx)
		if err != nil {
			h.stale.Store(true)
			return nil, err
		}
		for _, r := range routes {
			if !ipam.DefaultRoute(r.Prefix) {
				s.Add(r.Prefix, r.What)
			}
		}
	}
	h.space, h.at = s, time.Now()
	return s, nil
}
