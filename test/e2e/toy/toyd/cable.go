package main

import (
	"net/netip"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// cable is a network without a switch: each container hangs on a cable of its
// own, and the host routes to it. Containers of the network reach the host and the
// outside, and not each other.
type cable struct{}

func (cable) Name() string { return "cable" }

func (cable) Traits() driver.Traits {
	return driver.Traits{Addresses: true, Publishes: true, IfPrefix: "cab"}
}

func (cable) Check(n *cnm.Network) error {
	if n.Pool4() == nil {
		return cnm.Invalid("network %s: a cable needs an IPv4 subnet", n.Name)
	}
	return driver.Decode(n, nil)
}

func (cable) Network(env driver.Env, n *cnm.Network) ([]dataplane.Object, error) {
	owner := dataplane.Owner{Kind: dataplane.OwnerNetwork, ID: n.ID, Name: n.Name}
	return []dataplane.Object{
		dataplane.MasqueradeElement(dataplane.Meta{Owner: owner, Reason: "cables lead out with the host's address"}, env.Table, n.Pool4().Subnet),
	}, nil
}

func (cable) Endpoint(env driver.Env, n *cnm.Network, s *cnm.Sandbox, e *cnm.Endpoint, ports []cnm.PublishedPort) ([]dataplane.Object, error) {
	because := func(reason string) dataplane.Meta {
		return dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerEndpoint, ID: e.ID, Name: s.OwnerName}, Reason: reason}
	}
	own, gateway := e.Addr4().Addr(), n.Pool4().Gateway
	objs := []dataplane.Object{
		dataplane.Veth{Meta: because("the cable"), Name: e.HostIf, PeerNS: s.Path, PeerName: e.IfName, PeerMAC: e.MAC, MTU: 1400},
		dataplane.Up{Meta: because("the host's plug"), Link: e.HostIf},
		dataplane.Up{Meta: because("the container's plug"), NS: s.Path, Link: e.IfName},
		dataplane.Addr{Meta: because("every plug of the host is the gateway"), Link: e.HostIf, Prefix: netip.PrefixFrom(gateway, 32)},
		dataplane.Route{Meta: because("the host finds the container at its cable"), Dst: netip.PrefixFrom(own, 32), Link: e.HostIf},
		dataplane.Addr{Meta: because("the container's address"), NS: s.Path, Link: e.IfName, Prefix: e.Addr4()},
		dataplane.Route{Meta: because("out by the cable"), NS: s.Path, Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Via: gateway, Link: e.IfName},
		dataplane.BridgeElement(because("what the cable carries is ours to judge"), env.Table, e.HostIf),
		dataplane.EgressElement(because("the cable leads out"), env.Table, e.HostIf),
	}
	for _, p := range ports {
		for i := range p.Count() {
			objs = append(objs, dataplane.PublishElement(because("published"), env.Table, p.Proto, p.HostIP, p.HostPort+uint16(i),
				netip.AddrPortFrom(own, p.Port+uint16(i))))
		}
	}
	return objs, nil
}
