package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/driver"
)

// Update implements Service.
func (c *Controller) Update(ctx context.Context, r Request) error {
	if r.Target != "" {
		return nil
	}
	err := c.claiming(ctx, func() error {
		defer c.locks.lock(r.ContainerID)()
		c.world.RLock()
		defer c.world.RUnlock()
		s, ok := c.owned(r.ContainerID)
		if !ok {
			return nil
		}
		return c.update(ctx, s, r)
	})
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
		c.depart(context.WithoutCancel(ctx), c.networksOf(now)...)
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
	ops, err := c.difference(c.cfg.Env(), was, now)
	if err == nil {
		err = c.arrive(ctx, now)
	}
	if err != nil {
		undo()
		return err
	}
	left := c.networksOf(was)
	c.publish(was, now)
	stored, err := c.meanwhile(apart(ops, was, now),
		func() error { return c.commitWith(ctx, now.ID, now, r.With) },
		func() error { return c.move(ctx, ops, was, now) })
	if stored != nil || err != nil {
		c.publish(now, was)
		c.revert(context.WithoutCancel(ctx), now, was, stored == nil)
		undo()
		if stored != nil {
			return stored
		}
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
	c.depart(context.WithoutCancel(ctx), left...)
	return nil
}

// meanwhile writes a wish and makes it so: both at once where the two may be done
// in any order, for the disk and the kernel need not wait for each other; else the
// wish comes first, and what could not be written is not made.
func (c *Controller) meanwhile(atOnce bool, write, make func() error) (stored, made error) {
	if !atOnce {
		if stored = write(); stored == nil {
			made = make()
		}
		return stored, made
	}
	written := doing(write)
	// To the disk first: it works alone once it is told, and the kernel's answers come
	// so quickly that the scheduler would not look at anybody else until all are there.
	runtime.Gosched()
	made = make()
	return <-written, made
}

// doing has something done while the caller does something else.
func doing(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// difference is what the kernel has to do between two forms of a sandbox.
func (c *Controller) difference(env driver.Env, was, now *cnm.Sandbox) ([]dataplane.Op, error) {
	from, err := c.sandboxObjects(env, was)
	if err != nil {
		return nil, err
	}
	to, err := c.sandboxObjects(env, now)
	if err != nil {
		return nil, err
	}
	return diff.Update(from, to), nil
}

// apart says that a change touches nothing inside the sandbox of the interfaces that
// were there and stay. Then it does not matter what a crash leaves, of the wish and of
// the change: the start that follows makes or removes whole pairs, with all on them.
// What it finds different inside it leaves alone, so there the wish must come first.
func apart(ops []dataplane.Op, was, now *cnm.Sandbox) bool {
	stays := map[string]bool{}
	for i := range was.Endpoints {
		if e := &was.Endpoints[i]; holds(now, e) {
			stays[e.IfName] = true
		}
	}
	for _, op := range ops {
		switch o := op.Object.(type) {
		case dataplane.Element:
		case dataplane.Veth:
			if op.Verb == dataplane.Change {
				return false
			}
		case dataplane.Addr:
			if o.NS == "" || stays[o.Link] {
				return false
			}
		case dataplane.Route:
			if o.NS == "" || stays[o.Link] {
				return false
			}
		case dataplane.Up:
			if o.NS != "" && stays[o.Link] {
				return false
			}
		case dataplane.Sysctl:
			if link := linkOf(o.Name); o.NS == "" || link == "" || stays[link] {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// linkOf is the interface in parameters like net/ipv6/conf/eth1/disable_ipv6.
func linkOf(sysctl string) string {
	w := strings.Split(sysctl, "/")
	if len(w) == 5 && w[0] == "net" && (w[2] == "conf" || w[2] == "neigh") && w[3] != "all" && w[3] != "default" {
		return w[3]
	}
	return ""
}

// move brings kernel, keeper and resolver from one form of a sandbox to another:
// what is new is made first, then what is no longer goes.
func (c *Controller) move(ctx context.Context, ops []dataplane.Op, was, now *cnm.Sandbox) (err error) {
	// The resolver is another process, and needs nothing of what the kernel is told.
	names := doing(func() error { return c.named(ctx, was, now) })
	if len(ops) > 0 {
		err = c.cfg.Kernel.Apply(ctx, ops)
	}
	if err == nil {
		err = c.retarget(ctx, was, now)
	}
	return errors.Join(err, <-names)
}

// revert writes the former wish of a sandbox back, if the new one was written, and
// brings everything to it.
func (c *Controller) revert(ctx context.Context, now, was *cnm.Sandbox, stored bool) {
	var err error
	if stored {
		err = c.commit(ctx, was.ID, was)
	}
	if err == nil {
		var ops []dataplane.Op
		if ops, err = c.difference(c.cfg.Env(), now, was); err == nil {
			err = c.move(ctx, ops, now, was)
		}
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
