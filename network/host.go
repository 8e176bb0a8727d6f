package network

import (
	"context"
	"sync"
	"time"

	"linkspan/ipam"
)

// hostSpace is what the host uses, as it was a moment ago: the routes of a host
// with thousands of networks take longer to read than a network takes to make.
type hostSpace struct {
	mu    sync.Mutex
	space *ipam.Space
	at    time.Time
}

// hostFresh is how old the host's routes may be.
const hostFresh = time.Second

// hostUses returns the prefixes that the host uses, default routes left out. The
// caller only reads it.
func (c *Controller) hostUses(ctx context.Context) (*ipam.Space, error) {
	h := &c.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.space != nil && time.Since(h.at) < hostFresh {
		return h.space, nil
	}
	s := &ipam.Space{}
	if c.cfg.HostRoutes != nil {
		routes, err := c.cfg.HostRoutes(ctx)
		if err != nil {
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
