package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"linkspan/cnm"
	"linkspan/dataplane/diff"
	"linkspan/driver"
)

// Update implements Service.
func (c *Controller) Update(ctx context.Context, r Request) error {
	if r.Target != "" {
		return nil
	}
	err := func() error {
		defer c.locks.lock(r.ContainerID)()
		c.world.RLock()
		defer c.world.RUnlock()
		s, ok := c.owned(r.ContainerID)
		if !ok {
			return nil
		}
		return c.update(ctx, s, r)
	}()
	if err == nil {
		c.relink(ctx, r.ContainerID)
	}
	return err
}

// update brings a living sandbox to its owner's wish: addresses for what comes,
// one commit, the difference in the kernel, keeper and resolver; then what went is
// given back. The caller holds the owner's lock and the world.
func (c *Controller) update(ctx context.Context, was *cnm.Sandbox, r Request) (err error) {
	now, err := c.compose(r, was, (*real)(c))
	chosen := false
	undo := func() {
		if chosen {
			if err := c.cfg.Ports.Release(context.WithoutCancel(ctx), now.ID); err != nil {
				c.log.Warn("reserved ports are not released yet; the next reconciliation does", "container", r.ContainerName, "err", err)
			}
		}
		c.giveBack(now, was)
		c.unlist(now, was)
	}
	if err == nil && len(was.Ports) == 0 && len(r.Publish) > 0 {
		// It had no network that publishes until now.
		if err = c.choose(ctx, now, r.Publish); err == nil {
			chosen = len(now.Ports) > 0
		}
	}
	if err != nil {
		undo()
		return err
	}
	if same(was, now) {
		return nil
	}
	env := c.look()
	if err := c.commit(ctx, now.ID, now); err != nil {
		undo()
		return err
	}
	if err := c.move(ctx, env(), was, now); err != nil {
		c.revert(context.WithoutCancel(ctx), now, was)
		undo()
		return asked(fmt.Errorf("network of container %s: %w", r.ContainerName, err))
	}
	for i := range was.Endpoints {
		if e := &was.Endpoints[i]; !holds(now, e) {
			c.tell("disconnect", now, e)
		}
	}
	for i := range now.Endpoints {
		if e := &now.Endpoints[i]; !holds(was, e) {
			c.tell("connect", now, e)
		}
	}
	c.giveBack(was, now)
	return nil
}

// move brings kernel, keeper and resolver from one committed form of a sandbox to
// another: what is new is made first, then what is no longer goes.
func (c *Controller) move(ctx context.Context, env driver.Env, was, now *cnm.Sandbox) error {
	from, err := c.sandboxObjects(env, was)
	if err != nil {
		return err
	}
	to, err := c.sandboxObjects(env, now)
	if err != nil {
		return err
	}
	// The resolver is another process, and needs nothing of what the kernel is told.
	names := make(chan error, 1)
	go func() { names <- c.named(ctx, was, now) }()
	if ops := diff.Update(from, to); len(ops) > 0 {
		err = c.cfg.Kernel.Apply(ctx, ops)
	}
	if err == nil {
		err = c.retarget(ctx, was, now)
	}
	return errors.Join(err, <-names)
}

// revert writes the former wish of a sandbox back, and brings everything to it.
func (c *Controller) revert(ctx context.Context, now, was *cnm.Sandbox) {
	err := c.commit(ctx, was.ID, was)
	if err == nil {
		err = c.move(ctx, c.cfg.Env(), now, was)
	}
	if err != nil {
		c.log.Error("a change that failed could not be taken back whole; the next reconciliation does", "container", was.OwnerName, "err", err)
	}
}

// holds says whether a sandbox has this very endpoint.
func holds(s *cnm.Sandbox, e *cnm.Endpoint) bool {
	return slices.ContainsFunc(s.Endpoints, func(o cnm.Endpoint) bool { return o.ID == e.ID })
}

// same compares what is stored.
func same(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}
