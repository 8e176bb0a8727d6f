package network

import (
	"context"

	"linkspan/dataplane"
	"linkspan/store"
)

// offloadsBack gives features of devices back that were off for our tunnels' sake, once
// nothing declares them any more; of a device that is gone there is nothing to give. The
// caller holds the world.
func (c *Controller) offloadsBack(ctx context.Context) {
	was := map[string]dataplane.Offload{}
	c.mu.RLock()
	for name, prior := range c.shared {
		if o, ok := dataplane.OffloadOf(name, prior); ok {
			was[name] = o
		}
	}
	c.mu.RUnlock()
	if len(was) == 0 {
		return
	}
	want, _, err := c.desired(ctx)
	if err != nil {
		c.log.Warn("features of devices that were turned off are not looked after", "err", err)
		return
	}
	for name, o := range was {
		if _, declared := want.Get(o.Key()); declared {
			continue
		}
		if err := c.cfg.Kernel.Apply(ctx, []dataplane.Op{{Verb: dataplane.Change, Object: o}}); err != nil {
			c.log.Debug("a feature of a device that was turned off is not given back: the device may be gone", "link", o.Link, "feature", o.Feature, "err", err)
		}
		if _, err := c.cfg.Store.Commit(ctx, store.Op{Key: sharedKeys + name}); err != nil {
			c.log.Warn("what a device's feature was before is still written down", "link", o.Link, "feature", o.Feature, "err", err)
			continue
		}
		c.mu.Lock()
		delete(c.shared, name)
		c.mu.Unlock()
	}
}
