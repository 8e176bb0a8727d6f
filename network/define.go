package network

import (
	"context"
	"errors"
	"net/netip"

	"linkspan/cnm"
)

// definition is what a container's definition holds, whether it runs or not.
type definition struct {
	name    string
	request Request
	held    []heldAddress // its static addresses, on the networks that are there
}

type heldAddress struct {
	network string // id
	addr    netip.Addr
}

// Define implements Service.
func (c *Controller) Define(ctx context.Context, r Request) error {
	defer c.locks.lock("define " + r.ContainerID)()
	d := &definition{name: r.ContainerName, request: r}
	for _, w := range r.Endpoints {
		n, err := c.Network(w.Network)
		if err != nil {
			continue // made later, it is held then; gone, the start says so
		}
		for _, a := range []netip.Addr{w.IPv4.Unmap(), w.IPv6} {
			if !a.IsValid() {
				continue
			}
			err := c.claiming(ctx, func() error { return c.hold(n, a, r.ContainerID, r.Lineage) })
			if n.Global() && errors.Is(err, cnm.ErrUnavailable) {
				continue // what only the other hosts can tell is told at the start
			}
			if err != nil {
				c.replace(r.ContainerID, d, c.definition(r.ContainerID))
				return err
			}
			d.held = append(d.held, heldAddress{n.ID, a})
		}
	}
	c.replace(r.ContainerID, c.definition(r.ContainerID), d)
	return nil
}

// Undefine implements Service.
func (c *Controller) Undefine(containerID string) {
	defer c.locks.lock("define " + containerID)()
	c.replace(containerID, c.definition(containerID), nil)
}

func (c *Controller) definition(containerID string) *definition {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.defined[containerID]
}

// hold keeps an address of a network for a container.
func (c *Controller) hold(n *cnm.Network, a netip.Addr, containerID, lineage string) error {
	pools := c.poolsOf(n.ID)
	if err := covered(n, pools, EndpointWish{IPv4: a}); err != nil {
		return err
	}
	for _, p := range pools {
		if p.Pool().Subnet.Addr().Is4() == a.Is4() {
			return needs(n, p, p.Hold(a, containerID, lineage))
		}
	}
	return nil
}

// replace makes one definition count in place of another: what only that one held
// is free.
func (c *Controller) replace(containerID string, was, is *definition) {
	if was != nil {
		keep := map[heldAddress]bool{}
		if is != nil {
			for _, h := range is.held {
				keep[h] = true
			}
		}
		for _, h := range was.held {
			if keep[h] {
				continue
			}
			for _, p := range c.poolsOf(h.network) {
				p.Unhold(h.addr, containerID)
			}
		}
	}
	if was != nil {
		defer c.returnHeld(was.held)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.defined[containerID]; old != nil {
		for _, w := range old.request.Endpoints {
			if delete(c.refs[w.Network], containerID); len(c.refs[w.Network]) == 0 {
				delete(c.refs, w.Network)
			}
		}
	}
	if is == nil {
		delete(c.defined, containerID)
		return
	}
	c.defined[containerID] = is
	for _, w := range is.request.Endpoints {
		if c.refs[w.Network] == nil {
			c.refs[w.Network] = map[string]bool{}
		}
		c.refs[w.Network][containerID] = true
	}
}

// returnHeld gives addresses back that other hosts lent us for a definition.
func (c *Controller) returnHeld(held []heldAddress) {
	for _, h := range held {
		if n, err := c.Network(h.network); err == nil && n.Global() {
			c.returnSingles(n)
		}
	}
}

// redefine has the definitions that name a network hold what they hold of it, once
// it came or went. Addresses that it has not are told at their start.
func (c *Controller) redefine(n *cnm.Network) {
	c.mu.RLock()
	var rs []Request
	for _, ref := range []string{n.Name, n.ID} {
		for id := range c.refs[ref] {
			rs = append(rs, c.defined[id].request)
		}
	}
	c.mu.RUnlock()
	for _, r := range rs {
		if err := c.Define(context.Background(), r); err != nil {
			c.log.Warn("a container's address is not to be had on the new network", "container", r.ContainerName, "network", n.Name, "err", err)
		}
	}
}
