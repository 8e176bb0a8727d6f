package network

import (
	"context"
	"fmt"

	"linkspan/driver"
)

// Reconfigure takes over what a running daemon's configuration can change: defaults
// of new networks and containers, the default bridge, what the page lets in. It goes
// the way of Start: the default bridge is computed again, and kernel and keeper are
// brought to what is then declared. A value that cannot be is an error, and nothing
// has changed. What containers stand on stays until they are gone, and is told.
// Everything else of cfg is left as New got it.
func (c *Controller) Reconfigure(ctx context.Context, cfg Config) (*Report, error) {
	c.world.Lock()
	defer c.world.Unlock()
	before, env := c.cfg, c.env.Load()
	c.adopt(cfg)
	c.env.Store(&cfg.Env)
	if err := c.defaultBridge(ctx, false); err != nil {
		c.adopt(before)
		c.env.Store(env)
		return nil, fmt.Errorf("default bridge: %w", err)
	}
	r, err := c.reconcile(ctx, false)
	if err != nil {
		// What is declared has changed already; as at any time, the next
		// reconciliation brings the kernel to it.
		r = &Report{Failures: []error{err}}
	}
	return r, nil
}

// adopt takes the settings that may change over. The caller has the world to itself:
// whoever reads them holds it shared.
func (c *Controller) adopt(from Config) {
	c.cfg.AddressPools, c.cfg.DefaultOptions = from.AddressPools, from.DefaultOptions
	c.cfg.HostGateway, c.cfg.BindIP = from.HostGateway, from.BindIP
	c.cfg.NoForwarding, c.cfg.AcceptMark = from.NoForwarding, from.AcceptMark
	c.cfg.Bridge = from.Bridge
}

// hostEnv are the host's facts, by the latest configuration. It may be asked without
// holding the world.
func (c *Controller) hostEnv() driver.Env {
	env := (*c.env.Load())()
	env.Underlay = c.spans.underlay.Load()
	return env
}
