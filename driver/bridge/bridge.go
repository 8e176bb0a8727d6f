// Package bridge plans networks on a Linux bridge: a switch on this host, an
// address of its own as the containers' gateway, SNAT for what leaves, and
// published ports.
package bridge

import (
	"fmt"
	"net/netip"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// Driver is the bridge driver. The zero value is ready.
type Driver struct{}

// Name implements driver.Driver.
func (Driver) Name() string { return "bridge" }

// Traits implements driver.Driver.
func (Driver) Traits() driver.Traits {
	return driver.Traits{Addresses: true, Publishes: true, IfPrefix: "eth"}
}

// Network plans the bridge, its gateway addresses, and the page's elements that
// say what its containers may do.
func (Driver) Network(env driver.Env, n *cnm.Network) ([]dataplane.Object, error) {
	o, err := decode(n)
	if err != nil {
		return nil, err
	}
	because := func(format string, args ...any) dataplane.Meta {
		return dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerNetwork, ID: n.ID, Name: n.Name}, Reason: fmt.Sprintf(format, args...)}
	}
	br := o.name
	objs := []dataplane.Object{
		dataplane.BridgeElement(because("packets from and to %s are ours to judge", br), env.Table, br),
		dataplane.Bridge{Meta: because("the switch that connects the network's containers"), Name: br, MTU: o.mtuOr(env.MTU), MAC: hardware(n)},
		dataplane.Up{Meta: because("a bridge forwards only while it is up"), Link: br},
	}
	if o.icc {
		objs = append(objs, dataplane.ICCElement(because("containers of one network reach each other"), env.Table, br))
	}
	if !n.Internal {
		objs = append(objs, dataplane.EgressElement(because("containers reach the outside"), env.Table, br))
	}
	for _, p := range n.Pools {
		if p.Gateway.IsValid() {
			objs = append(objs, dataplane.Addr{Meta: because("the containers' default gateway"), Link: br, Prefix: netip.PrefixFrom(p.Gateway, p.Subnet.Bits())})
		}
		if o.masquerade && !n.Internal {
			objs = append(objs, dataplane.MasqueradeElement(because("what leaves carries the host's address, so that answers come back"), env.Table, p.Subnet))
		}
		if p.Subnet.Addr().Is4() {
			objs = append(objs, dataplane.Sysctl{Meta: because("ports published on 127.0.0.1 reach containers; the page's raw chain keeps containers off the host's loopback"),
				Name: "net/ipv4/conf/" + br + "/route_localnet", Value: "1"})
		}
	}
	return objs, nil
}

// Endpoint plans the veth pair, what is inside the sandbox, and the published
// ports.
func (Driver) Endpoint(env driver.Env, n *cnm.Network, s *cnm.Sandbox, e *cnm.Endpoint, ports []cnm.PublishedPort) ([]dataplane.Object, error) {
	o, err := decode(n)
	if err != nil {
		return nil, err
	}
	because := func(format string, args ...any) dataplane.Meta {
		return dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerEndpoint, ID: e.ID, Name: s.OwnerName}, Reason: fmt.Sprintf(format, args...)}
	}
	objs := []dataplane.Object{
		dataplane.Veth{Meta: because("the wire from %s's %s to %s", s.OwnerName, e.IfName, o.name),
			Name: e.HostIf, Master: o.name, MTU: o.mtuOr(env.MTU), PeerNS: s.Path, PeerName: e.IfName, PeerMAC: e.MAC,
			// With bridge-nf on, a container's way to its own published port is bridged
			// back out of the port it came in by; without hairpin the bridge drops it.
			// Only where it is needed: a hairpin port also hears its own broadcasts.
			Hairpin: env.BridgeNF && len(ports) > 0},
		dataplane.Up{Meta: because("the host's end of the wire"), Link: e.HostIf},
		dataplane.Up{Meta: because("the container's end of the wire"), NS: s.Path, Link: e.IfName},
	}
	for _, a := range e.Addrs {
		objs = append(objs,
			dataplane.Addr{Meta: because("the container's address on %s", n.Name), NS: s.Path, Link: e.IfName, Prefix: a},
			dataplane.EndpointElement(because("a connection from it to a port published by its own network is masqueraded"), env.Table, a.Addr(), o.name))
	}
	for _, g := range e.Gateways {
		dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if g.Is6() {
			dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		objs = append(objs, dataplane.Route{Meta: because("the way out goes through %s", o.name), NS: s.Path, Dst: dst, Via: g, Link: e.IfName})
	}
	return append(objs, publishElements(env, s, e, ports)...), nil
}

// publishElements are the map elements of the ports: one per port and family
// that the endpoint has.
func publishElements(env driver.Env, s *cnm.Sandbox, e *cnm.Endpoint, ports []cnm.PublishedPort) []dataplane.Object {
	var objs []dataplane.Object
	for _, p := range ports {
		for _, to := range translated(p, e) {
			for i := range p.Count() {
				host, port := p.HostPort+uint16(i), p.Port+uint16(i)
				m := dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerPort, ID: s.ID, Name: s.OwnerName},
					Reason: fmt.Sprintf("host port %d/%s leads to port %d of %s", host, p.Proto, port, s.OwnerName)}
				objs = append(objs, dataplane.PublishElement(m, env.Table, p.Proto, p.HostIP, host, netip.AddrPortFrom(to, port)))
			}
		}
	}
	return objs
}

// translated are the container addresses that a port leads to in the kernel.
// [::1] cannot be translated, nor IPv6 to an IPv4-only container: the keeper
// forwards those.
func translated(p cnm.PublishedPort, e *cnm.Endpoint) []netip.Addr {
	four, six := e.Addr4().Addr(), e.Addr6().Addr()
	var to []netip.Addr
	if four.IsValid() && (!p.HostIP.IsValid() || p.HostIP.Is4()) {
		to = append(to, four)
	}
	if six.IsValid() && (!p.HostIP.IsValid() || p.HostIP.Is6() && !p.HostIP.IsLoopback()) {
		to = append(to, six)
	}
	return to
}
