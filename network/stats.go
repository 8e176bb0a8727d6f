package network

import (
	"context"

	"linkspan/cnm"
)

// Stats implements Service. A container that shares another's sandbox has that
// one's counters; one in the host's has none, as in Docker.
func (c *Controller) Stats(ctx context.Context, containerID string) ([]InterfaceStats, error) {
	s, ok := c.Sandbox(containerID)
	if !ok {
		return nil, cnm.NotFound("container %.12s is on no network: it does not run", containerID)
	}
	if s.Host || c.cfg.LinkStats == nil {
		return nil, nil
	}
	links, err := c.cfg.LinkStats(ctx, s.Path)
	if err != nil {
		return nil, err
	}
	var out []InterfaceStats
	for _, l := range links {
		if l.Name != "lo" {
			out = append(out, InterfaceStats(l))
		}
	}
	return out, nil
}
