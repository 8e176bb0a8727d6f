package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"syscall"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/driver"
	"linkspan/events"
)

// Join implements Service.
func (c *Controller) Join(ctx context.Context, r Request) (*cnm.Sandbox, error) {
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
// come back into the same one.
func (c *Controller) enter(ctx context.Context, s *cnm.Sandbox, r Request) (*cnm.Sandbox, error) {
	if slices.Contains(s.Members, r.ContainerID) {
		return s, nil
	}
	s.Members = append(s.Members, r.ContainerID)
	if s.Owner == r.ContainerID {
		s.OwnerName = r.ContainerName // it may have been renamed
	}
	if err := c.commit(ctx, s.ID, s); err != nil {
		return nil, err
	}
	return clone(s), nil
}

// make makes a sandbox: addresses, reserved ports, one commit, and the barrier.
func (c *Controller) make(ctx context.Context, r Request) (_ *cnm.Sandbox, err error) {
	env := make(chan driver.Env, 1)
	go func() { env <- c.cfg.Env() }() // looking at the host takes as long as a link does
	s, err := c.draft(r, c.allocate)
	if err != nil {
		c.giveBack(s)
		return nil, err
	}
	undo := func() {
		// The request may be over; what it took must go back all the same.
		ctx := context.WithoutCancel(ctx)
		if len(r.Publish) > 0 {
			if err := c.cfg.Ports.Release(ctx, s.ID); err != nil {
				c.log.Warn("reserved ports are not released yet; the next reconciliation does", "container", r.ContainerName, "err", err)
			}
		}
		c.giveBack(s)
	}
	if err := c.choose(ctx, s, r.Publish); err != nil {
		undo()
		return nil, err
	}
	if err := c.commit(ctx, s.ID, s); err != nil {
		undo()
		return nil, err
	}
	objs, err := c.sandboxObjects(<-env, s)
	if err == nil {
		err = c.cfg.Kernel.Apply(ctx, diff.Create(objs))
	}
	if err != nil {
		return nil, errors.Join(asked(fmt.Errorf("network of container %s: %w", r.ContainerName, err)), c.release(context.WithoutCancel(ctx), s))
	}
	c.tell("connect", s)
	return clone(s), nil
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

// draft fills in a new sandbox for a request; give hands out each address. On
// an error the sandbox holds what was given until then.
func (c *Controller) draft(r Request, give func(n *cnm.Network, holder string, wish netip.Addr) ([]netip.Prefix, error)) (*cnm.Sandbox, error) {
	s := &cnm.Sandbox{ID: randomID(), Owner: r.ContainerID, OwnerName: r.ContainerName, Members: []string{r.ContainerID}, Sysctls: r.Sysctls}
	s.Path = filepath.Join(c.cfg.PinDir, s.ID[:12])
	number := 0
	for _, w := range r.Endpoints {
		n, err := c.Network(w.Network)
		if err != nil {
			return s, err
		}
		d, err := c.cfg.Drivers.Get(n.Driver)
		if err != nil {
			return s, err
		}
		t := d.Traits()
		if t.HostSandbox {
			s.Host, s.Path, s.Sysctls = true, c.cfg.HostPath, nil
		}
		e := cnm.Endpoint{ID: randomID(), NetworkID: n.ID, NetworkName: n.Name, MAC: w.MAC, Aliases: w.Aliases, DriverOpts: w.DriverOpts}
		if t.IfPrefix != "" {
			e.IfName, e.HostIf = fmt.Sprintf("%s%d", t.IfPrefix, number), "veth"+e.ID[:7]
			number++
		}
		if t.Addresses {
			if e.Addrs, err = give(n, s.ID, w.IPv4); err != nil {
				return s, err
			}
			if e.MAC == "" {
				e.MAC = cnm.MACFor(e.Addr4().Addr())
			}
			e.Gateways = gateways(n, s.Endpoints)
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s, nil
}

// gateways are the network's gateways of the families for which no earlier
// endpoint of the sandbox has one.
func gateways(n *cnm.Network, earlier []cnm.Endpoint) []netip.Addr {
	var out []netip.Addr
	for _, p := range n.Pools {
		taken := slices.ContainsFunc(earlier, func(e cnm.Endpoint) bool { return e.Gateway(p.Subnet.Addr().Is4()).IsValid() })
		if g := n.RouterOf(p); g.IsValid() && !taken && !n.Internal {
			out = append(out, g)
		}
	}
	return out
}

// allocate hands out an address of each of the network's pools.
func (c *Controller) allocate(n *cnm.Network, holder string, wish netip.Addr) (addrs []netip.Prefix, err error) {
	c.mu.RLock()
	pools := c.pools[n.ID]
	c.mu.RUnlock()
	for _, p := range pools {
		sub := p.Pool().Subnet
		a := wish
		if wish.IsValid() && wish.Is4() == sub.Addr().Is4() {
			err = p.AllocateSpecific(a, holder)
		} else {
			a, err = p.Allocate(holder)
		}
		if err != nil {
			for i, got := range addrs {
				pools[i].Release(got.Addr())
			}
			return nil, err
		}
		addrs = append(addrs, netip.PrefixFrom(a, sub.Bits()))
	}
	return addrs, nil
}

// giveBack returns a sandbox's addresses to their pools.
func (c *Controller) giveBack(s *cnm.Sandbox) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, e := range s.Endpoints {
		for _, p := range c.pools[e.NetworkID] {
			for _, a := range e.Addrs {
				if p.Pool().Subnet.Contains(a.Addr()) {
					p.Release(a.Addr())
				}
			}
		}
	}
}

// Leave implements Service.
func (c *Controller) Leave(ctx context.Context, containerID string, keep bool) error {
	s, ok := c.Sandbox(containerID)
	if !ok || keep {
		return nil
	}
	defer c.locks.lock(s.Owner)()
	c.world.RLock()
	defer c.world.RUnlock()
	if s, ok = c.Sandbox(containerID); !ok {
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
	if err := c.commit(ctx, s.ID, nil); err != nil {
		return err
	}
	err = c.cfg.Kernel.Apply(ctx, diff.Delete(objs))
	if len(s.Ports) > 0 {
		err = errors.Join(err, c.cfg.Ports.Release(ctx, s.ID))
	}
	c.giveBack(s)
	c.tell("disconnect", s)
	if err != nil {
		c.log.Warn("something of a released sandbox is left; the next reconciliation takes it", "container", s.OwnerName, "err", err)
	}
	return nil
}

// tell publishes Docker's network events of a sandbox.
func (c *Controller) tell(action string, s *cnm.Sandbox) {
	for _, e := range s.Endpoints {
		n, err := c.Network(e.NetworkID)
		if err != nil || c.cfg.Events == nil {
			continue
		}
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
