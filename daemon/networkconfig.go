package daemon

import (
	"linkspan/config"
	"linkspan/driver"
	"linkspan/ipam"
	"linkspan/network"
)

// networkConfig hands the daemon's options to the controller.
func (e *engine) networkConfig() network.Config {
	c := e.cfg
	return network.Config{
		Store: e.store, Kernel: e.kernel, Drivers: e.Drivers, Predefined: e.Networks, Ports: hooked(e.keeper, e.hook), Events: e.events,
		Table: e.table(), PinDir: e.pins(), HostPath: e.hostPin(), ID: e.id, Log: e.log,
		HostRoutes: e.kernel.HostRoutes, HostLink: e.kernel.HostLink, LinkStats: e.kernel.LinkStats, Resolver: resolverSockets, RALinks: raLinks,
		Env: func() driver.Env {
			return driver.Env{Table: e.table(), BridgeNF: e.kernel.BridgeNF(), MTU: c.MTU, DirectRouting: c.AllowDirectRouting}
		},
		BindIP: c.DefaultBindIP, HostGateway: c.HostGatewayIPs, NoForwarding: !c.IPForward,
		AddressPools: addressPools(c), DefaultOptions: c.NetworkOpts, Bridge: defaultBridge(c),
	}
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
