package bridge_test

import (
	"net/netip"
	"testing"

	"linkspan/cnm"
	"linkspan/driver"
	"linkspan/driver/bridge"
	"linkspan/driver/drivertest"
)

func internal(n *cnm.Network) { n.Internal = true }

func borrowed(n *cnm.Network) { n.Borrowed = true; n.Options["com.docker.network.bridge.name"] = "br0" }

// onlySix makes a network, and its endpoint, of IPv6 alone.
func onlySix(n *cnm.Network) { six(n); n.NoIPv4, n.IPv6, n.Pools = true, true, n.Pools[1:] }

func sandboxOnlySix(s *cnm.Sandbox) {
	sandbox6(s)
	e := &s.Endpoints[0]
	e.Addrs, e.Gateways, e.MAC = e.Addrs[1:], e.Gateways[1:], "02:42:01:02:03:04"
}

func noGateway(s *cnm.Sandbox) { s.Endpoints[0].Gateways = nil }

func endpointOption(k, v string) func(*cnm.Sandbox) {
	return func(s *cnm.Sandbox) {
		if s.Endpoints[0].DriverOpts == nil {
			s.Endpoints[0].DriverOpts = map[string]string{}
		}
		s.Endpoints[0].DriverOpts[k] = v
	}
}

func linked(s *cnm.Sandbox) {
	s.Endpoints[0].Links = []cnm.Link{
		{Target: "t1", Alias: "db", Ports: []string{"3306/tcp", "33060/tcp"}, Addrs: []netip.Addr{netip.MustParseAddr("172.17.0.9"), netip.MustParseAddr("fd00:17::9")}},
		{Target: "t1", Alias: "mysql", Ports: []string{"3306/tcp"}, Addrs: []netip.Addr{netip.MustParseAddr("172.17.0.9")}},
		{Target: "t2", Alias: "names", Ports: []string{"53/udp", "9"}, Addrs: []netip.Addr{netip.MustParseAddr("172.17.0.8")}},
		{Target: "t3", Alias: "stopped", Ports: []string{"80/tcp"}},
	}
}

const (
	keyICC       = "com.docker.network.bridge.enable_icc"
	keyMasq      = "com.docker.network.bridge.enable_ip_masquerade"
	keyInhibit   = "com.docker.network.bridge.inhibit_ipv4"
	keyMode4     = "com.docker.network.bridge.gateway_mode_ipv4"
	keyMode6     = "com.docker.network.bridge.gateway_mode_ipv6"
	keyTrusted   = "com.docker.network.bridge.trusted_host_interfaces"
	keyBinding   = "com.docker.network.bridge.host_binding_ipv4"
	keyMTU       = "com.docker.network.driver.mtu"
	keyPrefix    = "com.docker.network.container_iface_prefix"
	keyHost4     = "com.docker.network.host_ipv4"
	keyHost6     = "com.docker.network.host_ipv6"
	keyAdvertise = "com.docker.network.advertise_addr_nmsgs"
	keyEvery     = "com.docker.network.advertise_addr_ms"
	keyIfName    = "com.docker.network.endpoint.ifname"
	keySysctls   = "com.docker.network.endpoint.sysctls"
)

func TestPlans(t *testing.T) {
	env := driver.Env{Table: table}
	one := published(cnm.PublishedPort{Proto: "tcp", HostPort: 80, HostPortEnd: 80, Port: 80})
	// Two host ports to one of the container's, and one for the host alone.
	doubled := published(cnm.PublishedPort{Proto: "tcp", HostPort: 8080, HostPortEnd: 8080, Port: 80},
		cnm.PublishedPort{Proto: "tcp", HostPort: 8081, HostPortEnd: 8081, Port: 80},
		cnm.PublishedPort{Proto: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 9000, HostPortEnd: 9000, Port: 90})
	// The same numbers on both sides, of both families, of one, and on one address; and
	// just too few to be a range of the page.
	ranges := published(cnm.PublishedPort{Proto: "tcp", HostPort: 20000, HostPortEnd: 29999, Port: 20000},
		cnm.PublishedPort{Proto: "udp", HostIP: netip.IPv4Unspecified(), HostPort: 1, HostPortEnd: 65535, Port: 1},
		cnm.PublishedPort{Proto: "sctp", HostIP: netip.IPv6Unspecified(), HostPort: 16, HostPortEnd: 31, Port: 16},
		cnm.PublishedPort{Proto: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 30000, HostPortEnd: 30015, Port: 30000},
		cnm.PublishedPort{Proto: "sctp", HostPort: 40000, HostPortEnd: 40014, Port: 40000})
	openRanges := published(cnm.PublishedPort{Proto: "tcp", HostPort: 20000, HostPortEnd: 20200, Port: 20000},
		cnm.PublishedPort{Proto: "tcp", HostPort: 10000, HostPortEnd: 10100, Port: 20100}, // over the first
		cnm.PublishedPort{Proto: "udp", HostPort: 65408, HostPortEnd: 65535, Port: 65408})
	drivertest.Run(t, bridge.Driver{},
		drivertest.Case{Name: "default bridge", Env: env, Network: network(), Sandbox: sandbox()},
		drivertest.Case{Name: "published", Env: env, Network: network(), Sandbox: sandbox(everyKind)},
		drivertest.Case{Name: "ranges", Env: env, Network: network(six), Sandbox: sandbox(sandbox6, ranges)},
		drivertest.Case{Name: "routed ranges", Env: env, Network: network(option(keyMode4, "routed")), Sandbox: sandbox(openRanges)},
		drivertest.Case{Name: "bridge-nf", Env: driver.Env{Table: table, BridgeNF: true}, Network: network(), Sandbox: sandbox(one)},
		drivertest.Case{Name: "bridge-nf without ports", Env: driver.Env{Table: table, BridgeNF: true}, Network: network(), Sandbox: sandbox()},
		drivertest.Case{Name: "both families", Env: env, Network: network(six), Sandbox: sandbox(sandbox6, everyKind)},
		drivertest.Case{Name: "ipv6 only", Env: env, Network: network(onlySix), Sandbox: sandbox(sandboxOnlySix, everyKind)},
		drivertest.Case{Name: "no masquerade", Env: env, Network: network(option(keyMasq, "false")), Sandbox: sandbox()},
		drivertest.Case{Name: "closed", Env: env, Network: network(six, option(keyICC, "false")), Sandbox: sandbox(sandbox6, one)},
		drivertest.Case{Name: "linked", Env: env, Network: network(six, option(keyICC, "false")), Sandbox: sandbox(sandbox6, linked)},
		drivertest.Case{Name: "linked in the open", Env: env, Network: network(), Sandbox: sandbox(linked)},
		drivertest.Case{Name: "internal", Env: env, Network: network(six, internal), Sandbox: sandbox(sandbox6, noGateway)},
		drivertest.Case{Name: "isolated", Env: env, Network: network(six, internal, option(keyMode4, "isolated"), option(keyMode6, "isolated")), Sandbox: sandbox(sandbox6, noGateway)},
		drivertest.Case{Name: "routed", Env: env, Network: network(six, option(keyMode4, "routed"), option(keyMode6, "routed")), Sandbox: sandbox(sandbox6, everyKind)},
		drivertest.Case{Name: "routed ipv6", Env: env, Network: network(six, option(keyMode6, "routed")), Sandbox: sandbox(sandbox6, doubled)},
		drivertest.Case{Name: "unprotected", Env: env, Network: network(six, option(keyMode4, "nat-unprotected"), option(keyMode6, "nat-unprotected")), Sandbox: sandbox(sandbox6, one)},
		drivertest.Case{Name: "direct routing", Env: driver.Env{Table: table, DirectRouting: true}, Network: network(six), Sandbox: sandbox(sandbox6, doubled)},
		drivertest.Case{Name: "trusted", Env: env, Network: network(option(keyTrusted, "eth1:wg0")), Sandbox: sandbox(doubled)},
		drivertest.Case{Name: "inhibited", Env: env, Network: network(six, option(keyInhibit, "true")), Sandbox: sandbox(sandbox6)},
		drivertest.Case{Name: "source address", Env: env, Network: network(six, option(keyHost4, "60.191.82.107"), option(keyHost6, "2001:db8::107")), Sandbox: sandbox(sandbox6)},
		drivertest.Case{Name: "source address of an endpoint", Env: env, Network: network(six, option(keyHost4, "60.191.82.107")),
			Sandbox: sandbox(sandbox6, endpointOption(keyHost4, "60.191.82.105"), endpointOption(keyHost6, "2001:db8::105"))},
		drivertest.Case{Name: "borrowed", Env: env, Network: network(six, borrowed), Sandbox: sandbox(sandbox6, one)},
		drivertest.Case{Name: "borrowed and closed", Env: env, Network: network(borrowed, option(keyICC, "false")), Sandbox: sandbox(linked)},
		drivertest.Case{Name: "borrowed and closed with bridge-nf", Env: driver.Env{Table: table, BridgeNF: true}, Network: network(borrowed, option(keyICC, "false")), Sandbox: sandbox(linked, one)},
		drivertest.Case{Name: "borrowed and internal", Env: env, Network: network(six, borrowed, internal), Sandbox: sandbox(sandbox6, noGateway)},
		drivertest.Case{Name: "borrowed with a source address", Env: env, Network: network(borrowed, option(keyHost4, "60.191.82.107")), Sandbox: sandbox()},
		drivertest.Case{Name: "own mtu", Env: driver.Env{Table: table, MTU: 9000}, Network: network(option(keyMTU, "1400")), Sandbox: sandbox()},
		drivertest.Case{Name: "daemon mtu", Env: driver.Env{Table: table, MTU: 9000}, Sandbox: sandbox(),
			Network: network(func(n *cnm.Network) { n.Options = nil })},
		drivertest.Case{Name: "names", Env: env, Network: network(option(keyPrefix, "lan"), option(keyBinding, "10.0.0.1")),
			Sandbox: sandbox(func(s *cnm.Sandbox) { s.Endpoints[0].IfName = "wan.7" }, endpointOption(keyIfName, "wan.7"),
				endpointOption(keySysctls, "net.ipv4.conf.IFNAME.log_martians=1, net.ipv6.conf.ifname.disable_ipv6=0"))},
		drivertest.Case{Name: "link-local", Env: env, Network: network(),
			Sandbox: sandbox(func(s *cnm.Sandbox) {
				s.Endpoints[0].LinkLocal = []netip.Addr{netip.MustParseAddr("169.254.34.68"), netip.MustParseAddr("fe80::34:68")}
			})},
	)
}
