package bridge_test

import (
	"net/netip"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/driver/bridge"
)

const table = "linkspan_00000a"

func network(change ...func(*cnm.Network)) cnm.Network {
	n := cnm.Network{ID: strings.Repeat("0123456789abcdef", 4), Name: "bridge", Driver: "bridge",
		Pools: []cnm.Pool{{Subnet: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1")}},
		Options: map[string]string{
			"com.docker.network.bridge.default_bridge":       "true",
			"com.docker.network.bridge.enable_icc":           "true",
			"com.docker.network.bridge.enable_ip_masquerade": "true",
			"com.docker.network.bridge.host_binding_ipv4":    "0.0.0.0",
			"com.docker.network.bridge.name":                 "docker0",
			"com.docker.network.driver.mtu":                  "1500",
		}}
	for _, f := range change {
		f(&n)
	}
	return n
}

func option(k, v string) func(*cnm.Network) { return func(n *cnm.Network) { n.Options[k] = v } }

func six(n *cnm.Network) {
	n.Pools = append(n.Pools, cnm.Pool{Subnet: netip.MustParsePrefix("fd00:17::/64"), Gateway: netip.MustParseAddr("fd00:17::1")})
}

func sandbox(change ...func(*cnm.Sandbox)) *cnm.Sandbox {
	s := &cnm.Sandbox{ID: strings.Repeat("5a", 32), Owner: strings.Repeat("c0", 32), OwnerName: "web", Path: "/run/linkspan/netns/5a5a5a5a5a5a",
		Endpoints: []cnm.Endpoint{{ID: strings.Repeat("e1", 32), IfName: "eth0", HostIf: "vethe1e1e1e", MAC: "02:42:ac:11:00:02",
			Addrs: []netip.Prefix{netip.MustParsePrefix("172.17.0.2/16")}, Gateways: []netip.Addr{netip.MustParseAddr("172.17.0.1")}}}}
	for _, f := range change {
		f(s)
	}
	return s
}

func published(ps ...cnm.PublishedPort) func(*cnm.Sandbox) {
	return func(s *cnm.Sandbox) { s.Ports = ps }
}

func sandbox6(s *cnm.Sandbox) {
	e := &s.Endpoints[0]
	e.Addrs = append(e.Addrs, netip.MustParsePrefix("fd00:17::2/64"))
	e.Gateways = append(e.Gateways, netip.MustParseAddr("fd00:17::1"))
}

var everyKind = published(
	cnm.PublishedPort{Proto: "tcp", HostPort: 8080, HostPortEnd: 8080, Port: 80},
	cnm.PublishedPort{Proto: "udp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 53, HostPortEnd: 53, Port: 5353},
	cnm.PublishedPort{Proto: "sctp", HostIP: netip.MustParseAddr("192.168.99.31"), HostPort: 132, HostPortEnd: 132, Port: 132},
	cnm.PublishedPort{Proto: "tcp", HostPort: 9000, HostPortEnd: 9002, Port: 7000},
	cnm.PublishedPort{Proto: "tcp", HostIP: netip.MustParseAddr("::1"), HostPort: 81, HostPortEnd: 81, Port: 80},
	cnm.PublishedPort{Proto: "tcp", HostIP: netip.MustParseAddr("fd99::31"), HostPort: 82, HostPortEnd: 82, Port: 80},
)

// A network without a name for its device gets one of its id.
func TestDeviceName(t *testing.T) {
	n := network(func(n *cnm.Network) { n.Options = nil })
	objs, err := bridge.Driver{}.Network(driver.Env{Table: table}, &n)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objs {
		if b, ok := o.(dataplane.Bridge); ok && b.Name != "br-0123456789ab" {
			t.Errorf("device %s", b.Name)
		}
	}
}
