// Package routed plans networks whose containers are reached by routes: each host has
// blocks of the subnet, and every other host a route to them, plain where the two share a
// link, through VXLAN where a router is between them, through WireGuard where the network is
// encrypted. Packets keep their addresses all the way. A container has its address alone
// (/32, /128) and everything else through its host; broadcasts end at the host.
package routed

import (
	"net/netip"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/driver/segment"
)

// Driver is the routed driver. The zero value is ready.
type Driver struct{ segment.Spanning }

var _ driver.Spanner = Driver{}

// Name implements driver.Driver.
func (Driver) Name() string { return "routed" }

// Check implements driver.Driver.
func (Driver) Check(n *cnm.Network) error {
	if _, err := decode(n); err != nil {
		return err
	}
	return segment.CheckPools(n)
}

// options are a routed network's, decoded once.
type options struct {
	segment.Common
	bridge    string
	encrypted bool
	direct    bool // plain routes or none
}

// The option keys that are this driver's.
const (
	optEncrypted = "encrypted"
	optDirect    = "direct-only"
)

func decode(n *cnm.Network) (options, error) {
	o := options{Common: segment.Defaults(), bridge: segment.DeviceName("br-", n)}
	known := map[string]func(string) error{
		optEncrypted:      segment.Switch(&o.encrypted),
		optDirect:         segment.Switch(&o.direct),
		segment.OptBridge: segment.OneName,
	}
	o.Common.Known(known)
	if err := driver.Decode(n, known); err != nil {
		return o, err
	}
	if o.encrypted && o.direct {
		return o, cnm.Invalid("network %s: %s wants plain routes alone, and %s none: leave one of them away", n.Name, optDirect, optEncrypted)
	}
	return o, segment.CheckMTU(n, o.MTU)
}

// size is the largest packet of the network's containers, in bytes: what goes to hosts on
// the same link unwrapped. Those behind a router have less room, of which the host tells
// the containers (path MTU discovery) and by which it clamps TCP's segments.
func (o options) size(env driver.Env) int {
	if o.MTU != 0 {
		return o.MTU
	}
	return o.fits(env)
}

// fits is the largest packet that hosts on the same link take.
func (o options) fits(env driver.Env) int {
	u := env.Underlay
	switch {
	case u == nil || o.encrypted && !segment.Encrypts(u):
		return env.MTU
	case o.encrypted:
		return u.SecureMTU
	}
	return u.PacketMTU()
}

// Network plans the switch of this host's containers, and the subnet: what of it has no
// route of its own leads nowhere.
func (Driver) Network(env driver.Env, n *cnm.Network) ([]dataplane.Object, error) {
	o, err := decode(n)
	if err != nil {
		return nil, err
	}
	p := segment.OfNetwork(env, n)
	p.Connect(o.bridge)
	p.Switch(dataplane.Bridge{Name: o.bridge, MTU: o.size(env), MAC: segment.Anycast(n)}, n.Pool6() != nil)
	if o.size(env) > o.fits(env) {
		p.Span(o.bridge)
	}
	p.Outside(env, n, o.bridge, o.Masquerade, true)
	for _, pool := range n.Pools {
		if !pool.Gateway.IsValid() {
			return nil, cnm.Invalid("network %s: subnet %s has no gateway, through which its containers reach everything; give one with --gateway", n.Name, pool.Subnet)
		}
		p.Add(dataplane.Route{Meta: p.Because("an address of %s that nobody has leads nowhere", n.Name), Dst: pool.Subnet.Masked(), Unreachable: true})
		if env.Underlay != nil {
			p.Add(o.mesh(p, n, pool.Subnet.Masked()))
		}
	}
	return p.Objects, nil
}

// mesh has the page take containers on other hosts for such as those here: in plain, or
// through the device that encrypts alone.
func (o options) mesh(p *segment.Plan, n *cnm.Network, subnet netip.Prefix) dataplane.Element {
	if o.encrypted {
		return dataplane.SealedElement(p.Because("containers of %s on other hosts are of one network with those here: between hosts their packets are encrypted, or dropped", n.Name), p.Table, subnet)
	}
	return dataplane.MeshElement(p.Because("containers of %s on other hosts are of one network with those here, and keep their addresses", n.Name), p.Table, subnet)
}

// Endpoint plans the veth pair, what is inside the sandbox, the host's route to it, what
// the page must know of it, and the published ports.
func (Driver) Endpoint(env driver.Env, n *cnm.Network, s *cnm.Sandbox, e *cnm.Endpoint, ports []cnm.PublishedPort) ([]dataplane.Object, error) {
	o, err := decode(n)
	if err != nil {
		return nil, err
	}
	eo, err := segment.DecodeEndpoint(n, e, nil)
	if err != nil {
		return nil, err
	}
	p := plan{segment.OfEndpoint(env, s, e)}
	p.Wire(s, e, dataplane.Veth{Master: o.bridge, MTU: o.size(env)})
	p.Parameters(s, e, eo)
	p.stay(n, s, e)
	for _, a := range e.Addrs {
		own := alone(a.Addr())
		p.Address(n, s, e, own, dataplane.Advertise{})
		p.Add(dataplane.Route{Meta: p.Because("%s is on this host", s.OwnerName), Dst: own, Link: o.bridge})
		p.Known(a.Addr(), o.bridge)
		pool := poolOf(n, a.Addr())
		if pool == nil {
			return nil, cnm.Invalid("%s has %s on network %s, which is in none of its subnets", s.OwnerName, a.Addr(), n.Name)
		}
		p.Add(
			dataplane.Route{Meta: p.Because("the host, through which everything goes"), NS: s.Path, Dst: alone(pool.Gateway), Link: e.IfName},
			dataplane.Route{Meta: p.Because("containers on %s are reached through the host", n.Name), NS: s.Path, Dst: pool.Subnet.Masked(), Via: pool.Gateway, Link: e.IfName, OnLink: true})
	}
	p.LinkLocal(s, e)
	p.WayOut(s, e, o.bridge, true)
	p.Ports(s, e, ports, segment.Translated(env))
	return p.Objects, nil
}

// plan is a routed network's.
type plan struct{ *segment.Plan }

// stay plans that the sandbox believes no shorter way. The host sends its containers to
// each other out of the interface they came in by, and tells them so (ICMP redirect); who
// took that to heart would look for a container here minutes after it moved to another
// host. For IPv4 the kernel asks both parameters (Documentation/networking/ip-sysctl.rst).
func (p plan) stay(n *cnm.Network, s *cnm.Sandbox, e *cnm.Endpoint) {
	const six = "net/ipv6/conf/"
	names := []string{"net/ipv4/conf/all/", "net/ipv4/conf/" + e.IfName + "/"}
	if e.Addr6().IsValid() {
		names = append(names, six+e.IfName+"/")
	}
	for _, name := range names {
		p.Add(dataplane.Sysctl{Meta: p.Because("the way through the host stays, also when a container of %s comes to be elsewhere", n.Name),
			NS: s.Path, Name: name + "accept_redirects", Value: "0", Optional: strings.HasPrefix(name, six)})
	}
}

func alone(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func poolOf(n *cnm.Network, a netip.Addr) *cnm.Pool {
	for i := range n.Pools {
		if n.Pools[i].Subnet.Contains(a) {
			return &n.Pools[i]
		}
	}
	return nil
}
