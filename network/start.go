package network

import (
	"context"
	"fmt"
	"slices"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane/diff"
	"linkspan/store"
)

// The predefined networks.
const (
	BridgeNetwork = "bridge"
	HostNetwork   = "host"
	NoneNetwork   = "none"
)

// Start makes the predefined networks, then brings kernel and keeper to what is
// committed: what matches is kept as it is, so that no packet is lost.
func (c *Controller) Start(ctx context.Context) (*Report, error) {
	c.world.Lock()
	defer c.world.Unlock()
	for _, n := range append([]cnm.Network{{Name: HostNetwork, Driver: "host"}, {Name: NoneNetwork, Driver: "null"}}, c.cfg.Predefined...) {
		if _, err := c.Network(n.Name); err == nil {
			continue
		}
		if err := c.add(ctx, &n); err != nil {
			return nil, err
		}
	}
	if err := c.defaultBridge(ctx, true); err != nil {
		return nil, fmt.Errorf("default bridge: %w", err)
	}
	c.restored()
	r, err := c.resume(ctx)
	c.followed()
	// What the cache of the mesh has lost is this host's all the same; who was given it is
	// told, should there be anybody.
	if lost := c.strays(); len(lost) > 0 && c.Mesh() != nil {
		go c.reclaim(context.WithoutCancel(ctx), c.Mesh(), lost)
	}
	return r, err
}

// resume is reconcile for a daemon that starts: it looks into those sandboxes alone in
// which its predecessor may have been killed at work. What people changed inside of the
// others is theirs, and walking through five hundred of them is most of a start; the
// first full check tells of it.
func (c *Controller) resume(ctx context.Context) (*Report, error) {
	if err := c.noteForwarding(ctx); err != nil {
		return nil, err
	}
	want, _, err := c.desired(ctx)
	if err != nil {
		return nil, err
	}
	have, err := c.cfg.Kernel.Observe(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("observe the kernel: %w", err)
	}
	c.counted(want)
	half := diff.Half(want, have)
	if len(half) > 0 {
		if have, err = c.cfg.Kernel.Observe(ctx, half); err != nil {
			return nil, fmt.Errorf("observe the kernel: %w", err)
		}
	}
	for _, o := range want.All() {
		if p, inside := insideOf(o); inside {
			if _, look := slices.BinarySearch(half, p.ns); !look {
				want.Remove(o.Key())
			}
		}
	}
	if err := c.askNamed(ctx, want, have); err != nil {
		return nil, err
	}
	return c.bring(ctx, diff.Compute(want, have))
}

// add commits a predefined network.
func (c *Controller) add(ctx context.Context, n *cnm.Network) error {
	n.ID, n.Created, n.Predefined, n.IPAMDriver = randomID(), time.Now(), true, "default"
	return c.putNetwork(ctx, n)
}

// putNetwork commits a predefined network and opens its pools, if they are others
// than before: on an error nothing is changed.
func (c *Controller) putNetwork(ctx context.Context, n *cnm.Network) error {
	d, err := c.cfg.Drivers.Get(n.Driver)
	if err != nil {
		return err
	}
	if err := d.Check(n); err != nil {
		return err
	}
	c.mu.RLock()
	old, open := c.networks[n.ID], c.pools[n.ID]
	c.mu.RUnlock()
	if old == nil || !same(old.Pools, n.Pools) {
		open = nil
		for _, p := range n.Pools {
			pool, err := c.pool(n, p)
			if err != nil {
				return err
			}
			open = append(open, pool)
		}
	}
	if err := c.store(ctx, n); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old != nil {
		c.vacate(old)
	}
	c.networks[n.ID], c.names[n.Name], c.pools[n.ID] = n, n.ID, open
	c.occupy(n)
	return nil
}

// NoteShared commits the prior value of a host-wide sysctl that is about to be
// changed; the first value noted stays.
func (c *Controller) NoteShared(ctx context.Context, name, prior string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.shared[name]; known {
		return nil
	}
	if _, err := c.cfg.Store.Commit(ctx, store.Op{Key: sharedKeys + name, Value: []byte(prior)}); err != nil {
		return err
	}
	c.shared[name] = prior
	return nil
}
