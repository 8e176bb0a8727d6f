package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
)

// under has a wanted default bridge keep what containers that live on it stand on:
// its device, its subnets with the bridge's own addresses, its MTU. It says what that
// is. The rest are elements, flags of the bridge, and what later containers get.
func under(old, n *cnm.Network) (kept []string) {
	if old.Options[optBridgeName] != n.Options[optBridgeName] || old.Borrowed != n.Borrowed {
		kept = append(kept, fmt.Sprintf("device %s, wanted %s", old.Options[optBridgeName], n.Options[optBridgeName]))
	}
	stands := len(kept) == 0 && len(old.Pools) == len(n.Pools)
	for i := range n.Pools {
		stands = stands && old.Pools[i].Subnet == n.Pools[i].Subnet && old.Pools[i].Gateway == n.Pools[i].Gateway
	}
	if !stands {
		if len(kept) == 0 {
			kept = append(kept, fmt.Sprintf("address %s, wanted %s", own(old), own(n)))
		}
		stay(old, n)
	}
	if was, want := old.Options[optMTU], n.Options[optMTU]; was != want {
		kept = append(kept, fmt.Sprintf("mtu %s, wanted %s", was, want))
		n.Options[optMTU] = was
	}
	return kept
}

// stay has a wanted default bridge be where it was.
func stay(old, n *cnm.Network) {
	n.Pools, n.IPv6, n.Borrowed = old.Pools, old.IPv6, old.Borrowed
	n.Options[optBridgeName] = old.Options[optBridgeName]
}

// own are a bridge's addresses, as --bip and --bip6 have them.
func own(n *cnm.Network) string {
	var out []string
	for _, p := range n.Pools {
		out = append(out, netip.PrefixFrom(p.Gateway, p.Subnet.Bits()).String())
	}
	return strings.Join(out, " and ")
}

// routerFlags are the flags behind the notes on routers.
var routerFlags = map[string]string{cnm.DefaultGatewayAux: "--default-gateway", cnm.DefaultGatewayAux6: "--default-gateway-v6"}

// routerFree refuses a default gateway that is the address of a container.
func (c *Controller) routerFree(n *cnm.Network) error {
	for key, flag := range routerFlags {
		for _, p := range n.Pools {
			router, said := p.Aux[key]
			for _, s := range c.on(n.ID) {
				if e := endpointOn(s, n.ID); said && e != nil && slices.Contains(addresses(e), router) {
					return cnm.Conflict("Address already in use: %s %s is the address of container %s; choose another, or remove that container", flag, router, s.OwnerName)
				}
			}
		}
	}
	return nil
}
