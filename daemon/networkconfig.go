package daemon

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/config"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/ipam"
	"linkspan/network"
)

// networkConfig hands the daemon's options to the controller, at the start and at
// each reload.
func (e *engine) networkConfig(c *config.Config) network.Config {
	return network.Config{
		Store: e.store, Kernel: e.kernel, Drivers: e.Drivers, Predefined: e.Networks, Ports: hooked(e.keeper, e.hook), Events: e.events,
		Table: e.table(), PinDir: e.pins(), HostPath: e.hostPin(), ID: e.id, Log: e.log,
		HostRoutes: e.kernel.HostRoutes, HostLink: e.kernel.HostLink, LinkStats: e.kernel.LinkStats, Resolver: resolverSockets, RALinks: raLinks,
		Env: func() driver.Env { return e.env(c) }, Mesh: e.networkMesh(), Allow: e.span.encryption.manager.Allow,
		BindIP: c.DefaultBindIP, HostGateway: c.HostGatewayIPs, NoForwarding: !c.IPForward, AcceptMark: dataplane.Mark(c.AcceptMark),
		BridgeNFUsers: e.kernel.BridgeNFUsers, ObserveTouched: e.kernel.ObserveTouched, Expect: e.kernel.Expect, CheckEvery: c.CheckInterval,
		AddressPools: addressPools(c), DefaultOptions: c.NetworkOpts, Bridge: defaultBridge(c),
	}
}

// env is what drivers plan with; the controller adds where this host is in the mesh.
func (e *engine) env(c *config.Config) driver.Env {
	return driver.Env{Table: e.table(), BridgeNF: e.kernel.BridgeNF(), DirectRouting: c.AllowDirectRouting}
}

func addressPools(c *config.Config) (out []ipam.Base) {
	for _, p := range c.AddressPools {
		out = append(out, ipam.Base{Prefix: p.Base, Bits: p.Size})
	}
	return out
}

// defaultBridge is what the flags say of the network "bridge".
func defaultBridge(c *config.Config) network.DefaultBridge {
	b := network.DefaultBridge{
		Name: c.Bridge, BIP: c.BIP, BIP6: c.BIP6, Range: c.FixedCIDR, Range6: c.FixedCIDR6,
		Gateway: c.DefaultGateway, Gateway6: c.DefaultGateway6, IPv6: c.IPv6,
		NoICC: !c.ICC, NoMasquerade: !c.IPMasq, MTU: c.MTU,
	}
	if c.Bridge == config.BridgeNone {
		b.Name, b.None = "", true
	}
	return b
}

// checkNetworkOpts refuses options that no network could be made with: said at the
// start or the reload, not at each network.
func (e *engine) checkNetworkOpts(c *config.Config) error {
	for _, name := range slices.Sorted(maps.Keys(c.NetworkOpts)) {
		d, err := e.Drivers.Get(name)
		if err != nil {
			return cnm.Invalid("default-network-opts: %w", err)
		}
		opts := maps.Clone(c.NetworkOpts[name])
		for key, word := range opts {
			if key == "com.docker.network.enable_ipv4" || key == "com.docker.network.enable_ipv6" { // the controller's own
				if _, err := strconv.ParseBool(word); err != nil {
					return cnm.Invalid("default-network-opts: %s of %s: want true or false, have %q", key, name, word)
				}
				delete(opts, key)
			}
		}
		any4, any6 := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64") // RFC 5737, RFC 3849
		n := &cnm.Network{ID: strings.Repeat("0", 64), Name: "(any)", Driver: name, Options: opts, IPv6: true,
			Pools: []cnm.Pool{{Subnet: any4, Gateway: any4.Addr().Next()}, {Subnet: any6, Gateway: any6.Addr().Next()}}}
		if err := d.Check(n); err != nil {
			return cnm.Invalid("default-network-opts: %w", err)
		}
	}
	return nil
}
