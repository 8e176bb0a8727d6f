package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/events"
)

// Join implements Service.
func (c *Controller) Join(ctx context.Context, r Request) (*cnm.Sandbox, error) {
	var s *cnm.Sandbox
	err := c.claiming(ctx, func() (err error) {
		s, err = c.join(ctx, r)
		return err
	})
	if err == nil {
		c.awaitNews(ctx, s)
		c.relink(ctx, r.ContainerID)
	}
	return s, err
}

func (c *Controller) join(ctx context.Context, r Request) (*cnm.Sandbox, error) {
	owner := r.ContainerID
	if r.Target != "" {
		t, ok := c.Sandbox(r.Target)
		if !ok {
			return nil, cnm.Conflict("cannot join network of a non running container: %s; start it first", r.Target)
		}
		owner = t.Owner
	}
	defer c.locks.lock(owner)()
	c.world.RLock()
	defer c.world.RUnlock()
	if s, ok := c.owned(owner); ok {
		return c.enter(ctx, s, r)
	}
	if r.Target != "" {
		return nil, cnm.Conflict("cannot join network of a non running container: %s; start it first", r.Target)
	}
	return c.make(ctx, r)
}

// enter puts a container into a sandbox that lives: a dependent, or the owner
// come back into the same one, which is brought to its definition as it is now.
func (c *Controller) enter(ctx context.Context, s *cnm.Sandbox, r Request) (*cnm.Sandbox, error) {
	back, came := s.Owner == r.ContainerID, false
	if !slices.Contains(s.Members, r.ContainerID) {
		s.Members = append(s.Members, r.ContainerID)
		if back {
			s.OwnerName = r.ContainerName // it may have been renamed
		}
		if err := c.commit(ctx, s.ID, s); err != nil {
			return nil, err
		}
		came = true
	}
	if back {
		if err := c.update(ctx, clone(s), r); err != nil {
			if came {
				s.Members = slices.DeleteFunc(s.Members, func(m string) bool { return m == r.ContainerID })
				err = errors.Join(err, c.commit(context.WithoutCancel(ctx), s.ID, s))
			}
			return nil, err
		}
		s, _ = c.owned(r.ContainerID)
	}
	return clone(s), nil
}

// make makes a sandbox: addresses, reserved ports, one commit, and the barrier. The
// commit and the kernel need not wait for each other: whatever a crash leaves of the
// two, the start that follows makes or removes a whole sandbox.
func (c *Controller) make(ctx context.Context, r Request) (_ *cnm.Sandbox, err error) {
	s, err := c.compose(r, nil, (*real)(c))
	undo := func() {
		// The request may be over; what it took must go back all the same.
		ctx := context.WithoutCancel(ctx)
		if len(s.Ports) > 0 {
			if err := c.cfg.Ports.Release(ctx, s.ID); err != nil {
				c.log.Warn("reserved ports are not released yet; the next reconciliation does", "container", r.ContainerName, "err", err)
			}
		}
		c.giveBack(s, nil)
		c.unlist(s, nil)
		c.depart(ctx, c.networksOf(s)...)
	}
	if err == nil {
		err = c.choose(ctx, s, r.Publish)
	}
	var objs []dataplane.Object
	if err == nil {
		objs, err = c.sandboxObjects(c.cfg.Env(), s)
	}
	if err == nil {
		err = c.arrive(ctx, s)
	}
	if err != nil {
		undo()
		return nil, err
	}
	c.publish(nil, s)
	stored, err := c.meanwhile(true,
		func() error { return c.commit(ctx, s.ID, s) },
		func() error {
			known := doing(func() error { return c.known(ctx, nil, s) })
			err := c.cfg.Kernel.Apply(ctx, diff.Create(objs))
			if err == nil {
				err = c.viewed(ctx, nil, s) // needs the namespace
			}
			return errors.Join(err, <-known)
		})
	if stored != nil {
		c.publish(s, nil)
		c.dismantle(context.WithoutCancel(ctx), s, objs)
		undo()
		return nil, stored
	}
	if err != nil {
		return nil, errors.Join(asked(fmt.Errorf("network of container %s: %w", r.ContainerName, err)), c.release(context.WithoutCancel(ctx), s))
	}
	for i := range s.Endpoints {
		c.tell("connect", s, &s.Endpoints[i])
	}
	return clone(s), nil
}

// dismantle takes away what was made of a sandbox that is not to be.
func (c *Controller) dismantle(ctx context.Context, s *cnm.Sandbox, objs []dataplane.Object) {
	err := errors.Join(c.cfg.Kernel.Apply(ctx, diff.Delete(objs)), c.named(ctx, s, nil))
	if err != nil {
		c.log.Warn("something of a sandbox that could not be made is left; the next reconciliation takes it", "container", s.OwnerName, "err", err)
	}
}

// asked tells apart what the kernel refused of the request's own values: with
// another --sysctl the start would succeed.
func asked(err error) error {
	var f *dataplane.Failure
	if errors.As(err, &f) {
		_, sysctl := f.Op.Object.(dataplane.Sysctl)
		if sysctl && (errors.Is(f.Err, fs.ErrNotExist) || errors.Is(f.Err, syscall.EINVAL) || errors.Is(f.Err, syscall.ERANGE)) {
			return cnm.Invalid("%w", err)
		}
	}
	return err
}

// Leave implements Service.
func (c *Controller) Leave(ctx context.Context, containerID string, keep bool) error {
	s, ok := c.Sandbox(containerID)
	if !ok || keep {
		return nil
	}
	err := c.leave(ctx, s.Owner, containerID)
	if err == nil {
		c.relink(ctx, s.Owner)
	}
	return err
}

func (c *Controller) leave(ctx context.Context, owner, containerID string) error {
	defer c.locks.lock(owner)()
	c.world.RLock()
	defer c.world.RUnlock()
	s, ok := c.Sandbox(containerID)
	if !ok {
		return nil
	}
	if len(s.Members) == 1 {
		return c.release(ctx, s)
	}
	s.Members = slices.DeleteFunc(s.Members, func(m string) bool { return m == containerID })
	return c.commit(ctx, s.ID, s)
}

// release ends a sandbox: first the wish, then the kernel, then what others may
// have again.
func (c *Controller) release(ctx context.Context, s *cnm.Sandbox) error {
	objs, err := c.sandboxObjects(c.cfg.Env(), s)
	if err != nil {
		return err
	}
	networks := c.networksOf(s) // which may go once nobody is on them
	if err := c.commit(ctx, s.ID, nil); err != nil {
		return err
	}
	c.publish(s, nil)
	err = c.cfg.Kernel.Apply(ctx, diff.Delete(objs))
	if len(s.Ports) > 0 {
		err = errors.Join(err, c.cfg.Ports.Release(ctx, s.ID))
	}
	err = errors.Join(err, c.named(ctx, s, nil))
	c.giveBack(s, nil)
	c.depart(context.WithoutCancel(ctx), networks...)
	for _, n := range networks {
		c.tellOf("disconnect", s, n)
	}
	if err != nil {
		c.log.Warn("something of a released sandbox is left; the next reconciliation takes it", "container", s.OwnerName, "err", err)
	}
	return nil
}

// networksOf are a sandbox's, in the order of its endpoints; nil for one that is gone.
func (c *Controller) networksOf(s *cnm.Sandbox) []*cnm.Network {
	out := make([]*cnm.Network, len(s.Endpoints))
	for i, e := range s.Endpoints {
		out[i], _ = c.Network(e.NetworkID)
	}
	return out
}

// tell publishes Docker's network event of an endpoint.
func (c *Controller) tell(action string, s *cnm.Sandbox, e *cnm.Endpoint) {
	n, _ := c.Network(e.NetworkID)
	c.tellOf(action, s, n)
}

func (c *Controller) tellOf(action string, s *cnm.Sandbox, n *cnm.Network) {
	if n != nil && c.cfg.Events != nil {
		c.cfg.Events.Publish(events.Event{Type: "network", Action: action, ID: n.ID,
			Attributes: map[string]string{"container": s.Owner, "name": n.Name, "type": n.Driver}})
	}
}

// randomID is a new 64-digit id, as Docker's.
func randomID() string {
	b := make([]byte, 32)
	rand.Read(b)
	return hex.EncodeToString(b)
}
