package network

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"linkspan/cnm"
	"linkspan/ipam"
)

// needError says that an address needs one more block than this host has: Mesh.Claim
// may have it. Nobody waits for the mesh while the world is held: whoever started it
// claims, and tries again.
type needError struct {
	n      *cnm.Network
	subnet netip.Prefix
	addr   netip.Addr // zero: any
	err    error
}

func (e *needError) Error() string { return e.err.Error() }
func (e *needError) Unwrap() error { return e.err }

// needs turns what a pool says into a needError.
func needs(n *cnm.Network, p *ipam.Pool, err error) error {
	var elsewhere *ipam.ElsewhereError
	var full *ipam.FullError
	switch {
	case errors.As(err, &elsewhere):
		return &needError{n, p.Pool().Subnet, elsewhere.Addr, err}
	case errors.As(err, &full):
		return &needError{n, p.Pool().Subnet, netip.Addr{}, err}
	}
	return err
}

// claims is how often one request may come back for one more block: two families, and
// others who were quicker.
const claims = 8

// claiming does something that hands out addresses, claiming the blocks that it needs in
// between. The caller holds no lock.
func (c *Controller) claiming(ctx context.Context, f func() error) error {
	for i := 0; ; i++ {
		err := f()
		var need *needError
		if !errors.As(err, &need) {
			return err
		}
		if i == claims {
			return cnm.Errorf(cnm.ErrExhausted, "network %s: %w", need.n.Name, need.err)
		}
		if err := c.claimBlock(ctx, need); err != nil {
			return err
		}
	}
}

// claimBlock gets this host what an address needs. One claim of a network at a time: of
// many containers that start at once, one claims for all.
func (c *Controller) claimBlock(ctx context.Context, need *needError) error {
	m := c.Mesh()
	if m == nil {
		return c.meshless(need.n)
	}
	defer c.locks.lock("claim " + need.n.ID)()
	p := c.poolOf(need.n.ID, need.subnet)
	if p == nil {
		return cnm.NotFound("network %s not found", need.n.Name)
	}
	c.refreshBlocks(m, need.n)
	if need.met(p) {
		return nil
	}
	b, err := m.Claim(ctx, need.n, need.subnet, need.addr)
	if err != nil {
		return err
	}
	if err := p.AddBlock(b.Prefix); err != nil {
		return err
	}
	return c.rehome(ctx, need.n)
}

// met says that somebody else got what is needed.
func (need *needError) met(p *ipam.Pool) bool {
	if !need.addr.IsValid() {
		_, free := p.Count()
		return free > 0
	}
	blocks, _ := p.Blocks()
	return slices.ContainsFunc(blocks, func(b netip.Prefix) bool { return b.Contains(need.addr) })
}

func (c *Controller) poolOf(network string, subnet netip.Prefix) *ipam.Pool {
	for _, p := range c.poolsOf(network) {
		if p.Pool().Subnet == subnet {
			return p
		}
	}
	return nil
}

// refreshBlocks has a network's pools know all blocks that are this host's.
func (c *Controller) refreshBlocks(m Mesh, n *cnm.Network) {
	for _, b := range m.Blocks(n.ID) {
		for _, p := range c.poolsOf(n.ID) {
			if p.Pool().Subnet.Contains(b.Prefix.Addr()) {
				if err := p.AddBlock(b.Prefix); err != nil {
					c.log.Warn("a block of addresses of this host does not fit its network", "network", n.Name, "block", b.Prefix, "err", err)
				}
			}
		}
	}
}

// restrict has a network's pools hand out the addresses of this host's blocks and no
// others, without those that are lent: the mesh remembers both.
func (c *Controller) restrict(n *cnm.Network, pools []*ipam.Pool) error {
	if !n.Global() {
		return nil
	}
	own, lent := c.ownBlocks(n.ID), c.grants(n.ID)
	for _, p := range pools {
		var mine []netip.Prefix
		for _, b := range own {
			if s := p.Pool().Subnet; s.Contains(b.Prefix.Addr()) && b.Prefix.Bits() >= s.Bits() {
				mine = append(mine, b.Prefix.Masked())
			}
		}
		if err := p.SetBlocks(mine); err != nil {
			return err
		}
		for a, host := range lent {
			if !p.Pool().Subnet.Contains(a) {
				continue
			}
			if err := p.Grant(a, host); err != nil {
				c.log.Warn("an address that another host has cannot be kept for it", "network", n.Name, "addr", a, "host", host, "err", err)
			}
		}
	}
	return nil
}

// grants are the addresses of this host's blocks that others have, as the mesh remembers
// them, with the hosts' names.
func (c *Controller) grants(network string) map[netip.Addr]string {
	if g, ok := c.Mesh().(Granter); ok {
		return g.Granted(network)
	}
	return nil
}

// lend grants an address of a block of ours to another host. The mesh asks again after a
// restart, and never for two.
func (c *Controller) lend(network string, addr netip.Addr, host string) error {
	n, err := c.Network(network)
	if err != nil {
		return err
	}
	for _, p := range c.poolsOf(n.ID) {
		if !p.Pool().Subnet.Contains(addr) {
			continue
		}
		if to, lent := c.grants(network)[addr]; lent && p.GrantedTo(addr) == to {
			return nil
		}
		return p.Grant(addr, c.hostName(host))
	}
	return cnm.Invalid("address %s is in no subnet of network %s", addr, n.Name)
}

func (c *Controller) unlend(network string, addr netip.Addr) {
	for _, p := range c.poolsOf(network) {
		if p.Pool().Subnet.Contains(addr) {
			p.Ungrant(addr)
		}
	}
}

// returnSingles gives addresses back that other hosts lent us and that nobody here has
// any more.
func (c *Controller) returnSingles(n *cnm.Network) {
	r, ok := c.Mesh().(Releaser)
	if !ok {
		return
	}
	for _, p := range c.poolsOf(n.ID) {
		for _, single := range p.Idle() {
			if p.RemoveBlock(single) {
				r.Release(n.ID, single)
			}
		}
	}
}
