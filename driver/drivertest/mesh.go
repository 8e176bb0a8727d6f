package drivertest

import (
	"net/netip"
	"strings"

	"linkspan/cnm"
	"linkspan/driver"
)

// The mesh that cases of Spanners lie in: this host is host1 at 10.0.0.1; host2 is on the
// same link, host3 behind a router, host4 has told no WireGuard key.

// Underlay is host1's place, changed.
func Underlay(change ...func(*cnm.Underlay)) *cnm.Underlay {
	u := &cnm.Underlay{Host: "h1", Name: "host1", Addr: netip.MustParseAddr("10.0.0.1"), Dev: "eth0", MTU: 1500, VXLANPort: 4789,
		MAC: "02:4c:00:00:00:01", RoutedVNI: 0x4C0000}
	for _, f := range change {
		f(u)
	}
	return u
}

// Secure gives host1 a WireGuard device.
func Secure(u *cnm.Underlay) {
	u.Secure, u.SecureAddr, u.SecureMTU = "ls-w00000a", netip.MustParseAddr("fd4c:1:2:3::1"), 1440
}

// UnderSix puts the underlay on IPv6.
func UnderSix(u *cnm.Underlay) { u.Addr = netip.MustParseAddr("2001:db8::1") }

// Peers are the other hosts; six: reached by IPv6.
func Peers(six bool) (host2, host3, host4 cnm.Peer) {
	peer := func(n string, addr4, addr6 string) cnm.Peer {
		p := cnm.Peer{ID: "h" + n, Name: "host" + n, Addr: netip.MustParseAddr(addr4), Alive: true, MAC: "02:4c:00:00:00:0" + n, Dev: "eth0", MTU: 1500}
		if six {
			p.Addr = netip.MustParseAddr(addr6)
		}
		return p
	}
	host2, host3, host4 = peer("2", "10.0.0.2", "2001:db8::2"), peer("3", "10.9.0.3", "2001:db8:9::3"), peer("4", "10.9.0.4", "2001:db8:9::4")
	host2.OnLink, host3.MTU = true, 1400
	host2.SecureAddr, host3.SecureAddr = netip.MustParseAddr("fd4c:1:2:3::2"), netip.MustParseAddr("fd4c:1:2:3::3")
	return host2, host3, host4
}

// Remote is an endpoint of a peer's.
func Remote(p cnm.Peer, name, mac string, addrs ...string) cnm.Remote {
	r := cnm.Remote{ID: strings.Repeat(name, 64)[:64], Host: p.ID, Container: strings.Repeat(name, 64)[:64], ContainerName: name, MAC: mac, Names: []string{name}}
	for _, a := range addrs {
		r.Addrs = append(r.Addrs, netip.MustParsePrefix(a))
	}
	return r
}

// Blocks are a host's.
func Blocks(host string, prefixes ...string) (bs []cnm.Block) {
	for _, p := range prefixes {
		bs = append(bs, cnm.Block{Prefix: netip.MustParsePrefix(p), Host: host})
	}
	return bs
}

// SpanEnv is host1's environment.
func SpanEnv(u *cnm.Underlay) driver.Env { return driver.Env{Table: "linkspan_00000a", Underlay: u} }

// SpanNetwork is a network of IPv4 and, with six, IPv6.
func SpanNetwork(d string, six bool, change ...func(*cnm.Network)) cnm.Network {
	n := cnm.Network{ID: strings.Repeat("0123456789abcdef", 4), Name: "shop", Driver: d, Scope: cnm.ScopeGlobal, Options: map[string]string{},
		Pools: []cnm.Pool{{Subnet: netip.MustParsePrefix("192.168.0.0/16"), Gateway: netip.MustParseAddr("192.168.0.1")}}}
	if six {
		n.IPv6 = true
		n.Pools = append(n.Pools, cnm.Pool{Subnet: netip.MustParsePrefix("fd00:168::/64"), Gateway: netip.MustParseAddr("fd00:168::1")})
	}
	for _, f := range change {
		f(&n)
	}
	return n
}

// Option sets an option of a network.
func Option(k, v string) func(*cnm.Network) { return func(n *cnm.Network) { n.Options[k] = v } }

// Internal has nothing leave the network.
func Internal(n *cnm.Network) { n.Internal = true }

// SpanSandbox is a container on the network, with a published port.
func SpanSandbox(n cnm.Network, change ...func(*cnm.Sandbox)) *cnm.Sandbox {
	e := cnm.Endpoint{ID: strings.Repeat("e1", 32), NetworkID: n.ID, NetworkName: n.Name, IfName: "eth0", HostIf: "vethe1e1e1e", MAC: "02:42:c0:a8:01:01"}
	for _, p := range n.Pools {
		a := "192.168.1.1"
		if p.Subnet.Addr().Is6() {
			a = "fd00:168::1:1"
		}
		e.Addrs = append(e.Addrs, netip.PrefixFrom(netip.MustParseAddr(a), p.Subnet.Bits()))
		if !n.Internal {
			e.Gateways = append(e.Gateways, p.Gateway)
		}
	}
	s := &cnm.Sandbox{ID: strings.Repeat("5a", 32), Owner: strings.Repeat("c0", 32), OwnerName: "c1", Path: "/run/linkspan/netns/5a5a5a5a5a5a", Endpoints: []cnm.Endpoint{e},
		Ports: []cnm.PublishedPort{{Proto: "tcp", HostPort: 8080, HostPortEnd: 8080, Port: 80}}}
	if n.Internal {
		s.Ports = nil
	}
	for _, f := range change {
		f(s)
	}
	return s
}

// Elsewhere is what the other hosts have of SpanNetwork: host2 two containers, of which
// one has an address that host3 lent, host3 one, host4 one.
func Elsewhere(six bool, underSix bool) []Peering {
	h2, h3, h4 := Peers(underSix)
	addrs := func(four, sixth string) []string {
		if six {
			return []string{four + "/16", sixth + "/64"}
		}
		return []string{four + "/16"}
	}
	blocks := func(host, four, sixth string) []cnm.Block {
		if six {
			return Blocks(host, four, sixth)
		}
		return Blocks(host, four)
	}
	return []Peering{
		{h2, blocks("h2", "192.168.2.0/26", "fd00:168::2:0/112"), []cnm.Remote{
			Remote(h2, "c3", "02:42:c0:a8:02:01", addrs("192.168.2.1", "fd00:168::2:1")...),
			Remote(h2, "lent", "02:42:c0:a8:03:09", addrs("192.168.3.9", "fd00:168::3:9")...)}},
		{h3, blocks("h3", "192.168.3.0/26", "fd00:168::3:0/112"), []cnm.Remote{
			Remote(h3, "c4", "02:42:c0:a8:03:01", addrs("192.168.3.1", "fd00:168::3:1")...)}},
		{h4, blocks("h4", "192.168.4.0/26", "fd00:168::4:0/112"), []cnm.Remote{
			Remote(h4, "c5", "02:42:c0:a8:04:01", addrs("192.168.4.1", "fd00:168::4:1")...)}},
	}
}
