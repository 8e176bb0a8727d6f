package network

import (
	"cmp"
	"net/netip"
	"slices"
)

// PoolUse is how much of a network's subnet is in use.
type PoolUse struct {
	Network string
	Subnet  netip.Prefix
	// Used are addresses that endpoints have, Free those that one can get.
	Used, Free uint64
}

// PoolUse tells it of all networks, by name.
func (c *Controller) PoolUse() []PoolUse {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []PoolUse
	for id, pools := range c.pools {
		n := c.networks[id]
		if n == nil {
			continue // it is being made or removed
		}
		for _, p := range pools {
			used, free := p.Count()
			out = append(out, PoolUse{Network: n.Name, Subnet: p.Pool().Subnet, Used: uint64(used), Free: free})
		}
	}
	slices.SortFunc(out, func(a, b PoolUse) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), a.Subnet.Addr().Compare(b.Subnet.Addr()))
	})
	return out
}
