package network

import (
	"errors"
	"net/netip"

	"linkspan/cnm"
	"linkspan/ipam"
)

// real hands out addresses for good. Where this host needs one more block of addresses
// for it, the error is a *needError.
type real Controller

func (r *real) enlist(n *cnm.Network, s *cnm.Sandbox) error { return (*Controller)(r).enlist(n, s) }

func (r *real) give(n *cnm.Network, owner string, w EndpointWish) (addrs []netip.Prefix, err error) {
	pools := (*Controller)(r).poolsOf(n.ID)
	if err := covered(n, pools, w); err != nil {
		return nil, err
	}
	for _, p := range pools {
		a := wishOf(w, p)
		if a.IsValid() {
			err = p.AllocateSpecific(a, owner)
		} else {
			a, err = p.Allocate(owner)
		}
		if err != nil {
			for i, got := range addrs {
				pools[i].Release(got.Addr())
			}
			return nil, needs(n, p, err)
		}
		addrs = append(addrs, netip.PrefixFrom(a, p.Pool().Subnet.Bits()))
	}
	return addrs, nil
}

// dry says which addresses real would hand out; with full set, it takes any address
// of a full pool, for what is only to be checked.
type dry struct {
	c       *Controller
	lineage string
	full    bool
}

func (d dry) enlist(*cnm.Network, *cnm.Sandbox) error { return nil }

func (d dry) give(n *cnm.Network, owner string, w EndpointWish) (addrs []netip.Prefix, err error) {
	pools := d.c.poolsOf(n.ID)
	if err := covered(n, pools, w); err != nil {
		return nil, err
	}
	for _, p := range pools {
		a := wishOf(w, p)
		if a.IsValid() {
			err = p.Available(a, owner, d.lineage)
		} else if a, err = p.Peek(); err != nil && d.full {
			a, err = p.Pool().Subnet.Addr().Next(), nil
		}
		if need := (*needError)(nil); errors.As(needs(n, p, err), &need) {
			// It would be asked for: what only the other hosts can tell is told at the start.
			if err = nil; !a.IsValid() {
				a = p.Pool().Subnet.Addr().Next()
			}
		}
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, netip.PrefixFrom(a, p.Pool().Subnet.Bits()))
	}
	return addrs, nil
}

// wishOf is the address that is wished for of a pool.
func wishOf(w EndpointWish, p *ipam.Pool) netip.Addr {
	if p.Pool().Subnet.Addr().Is4() {
		return w.IPv4.Unmap()
	}
	return w.IPv6
}

// covered refuses a wished address of a family that the network has not.
func covered(n *cnm.Network, pools []*ipam.Pool, w EndpointWish) error {
	for _, a := range []netip.Addr{w.IPv4, w.IPv6} {
		if !a.IsValid() {
			continue
		}
		found := false
		for _, p := range pools {
			found = found || p.Pool().Subnet.Addr().Is4() == a.Unmap().Is4()
		}
		if !found {
			return cnm.Invalid("invalid endpoint settings: no configured subnet contains IP address %s: network %s has %s; leave the address away, or make the network with such a subnet", a, n.Name, listOf(n))
		}
	}
	return nil
}

func listOf(n *cnm.Network) string {
	out := ""
	for i, s := range subnets(n) {
		if i > 0 {
			out += " and "
		}
		out += s
	}
	if out == "" {
		return "no subnet"
	}
	return "only " + out
}

// giveBack returns the addresses of a sandbox's endpoints to their pools, besides
// of those that keep has too (nil: of all).
func (c *Controller) giveBack(s, keep *cnm.Sandbox) {
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if keep != nil {
			if k := endpointOn(keep, e.NetworkID); k != nil && k.ID == e.ID {
				continue
			}
		}
		for _, p := range c.poolsOf(e.NetworkID) {
			for _, a := range e.Addrs {
				if p.Pool().Subnet.Contains(a.Addr()) {
					p.Release(a.Addr())
				}
			}
		}
	}
}
