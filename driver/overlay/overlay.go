// Package overlay plans networks that are one Ethernet segment on many hosts: a bridge on
// each host that has containers there, joined by VXLAN (RFC 7348). Who is where is
// declared: an entry of the forwarding database and a permanent neighbour for each container
// elsewhere. Nothing is learned or flooded, and ARP and ND are answered by the host that
// asks. Broadcasts and multicasts are copied to the hosts that have containers there.
package overlay

import (
	"fmt"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/driver/segment"
)

// Driver is the overlay driver. The zero value is ready.
type Driver struct{ segment.Spanning }

var _ driver.Spanner = Driver{}

// Name implements driver.Driver.
func (Driver) Name() string { return "overlay" }

// Check implements driver.Driver.
func (Driver) Check(n *cnm.Network) error {
	if _, err := decode(n); err != nil {
		return err
	}
	return segment.CheckPools(n)
}

// Network plans the switch with its anycast gateway, which has the same address and MAC
// on every host, and the tunnel as a port of it.
func (Driver) Network(env driver.Env, n *cnm.Network) ([]dataplane.Object, error) {
	o, err := decode(n)
	if err != nil {
		return nil, err
	}
	p := segment.OfNetwork(env, n)
	if o.icc {
		p.Connect(o.bridge)
	}
	// Kept apart, containers' packets must pass the page although they are only switched.
	p.Switch(dataplane.Bridge{Name: o.bridge, MTU: o.size(env), MAC: segment.Anycast(n), NFCall: !o.icc}, n.Pool6() != nil)
	p.Span(o.bridge)
	p.Outside(env, n, o.bridge, o.Masquerade, false)
	if o.tunnels(env.Underlay) {
		if err := tunnel(p, env, n, o); err != nil {
			return nil, err
		}
	}
	return p.Objects, nil
}

// tunnel plans the VXLAN device.
func tunnel(p *segment.Plan, env driver.Env, n *cnm.Network, o options) error {
	u, vni := env.Underlay, number(n)
	if vni == 0 {
		return cnm.Invalid("network %s: the mesh has given it no VNI, the number of its packets on the wire", n.Name)
	}
	v := dataplane.VXLAN{Meta: p.Because("the network's containers on other hosts are behind it"), Name: o.tunnel, VNI: vni,
		Local: u.Addr, Dev: u.Dev, Port: o.udp(u), MTU: o.size(env), Master: o.bridge}
	secure := ""
	why := fmt.Sprintf("packets of VNI %d are this network's", vni)
	if o.encrypted {
		secure, v.Local, v.Dev = u.Secure, u.SecureAddr, u.Secure
		why = fmt.Sprintf("packets of VNI %d come and go inside of %s: plain text of them is dropped", vni, u.Secure)
	}
	p.Add(dataplane.VNIElement(p.Because("%s", why), p.Table, v.Port, vni, secure),
		dataplane.TunnelElement(p.Because("ARP and ND never leave by %s: the switch knows who is where", o.tunnel), p.Table, o.tunnel),
		v,
		dataplane.Sysctl{Meta: p.Because("the tunnel has no IPv6 of its own to tell of: it carries the containers'"),
			Name: "net/ipv6/conf/" + o.tunnel + "/disable_ipv6", Value: "1", Optional: true},
		dataplane.Up{Meta: p.Because("the tunnel carries packets"), Link: o.tunnel})
	if u.SoftChecksums {
		p.Add(driver.SoftChecksums(p.Because("a device on the way spoils the checksums of what is inside of tunnels: they are computed before"), o.tunnel))
	}
	return nil
}

// Endpoint plans the veth pair, what is inside the sandbox, what the page must
// know of it, and the published ports.
func (Driver) Endpoint(env driver.Env, n *cnm.Network, s *cnm.Sandbox, e *cnm.Endpoint, ports []cnm.PublishedPort) ([]dataplane.Object, error) {
	o, err := decode(n)
	if err != nil {
		return nil, err
	}
	eo, err := segment.DecodeEndpoint(n, e, nil)
	if err != nil {
		return nil, err
	}
	p := segment.OfEndpoint(env, s, e)
	// A container's way to its own published port is bridged back out of the port it came
	// in by where bridged packets pass the page.
	p.Wire(s, e, dataplane.Veth{Master: o.bridge, MTU: o.size(env), Hairpin: (env.BridgeNF || !o.icc) && len(ports) > 0})
	p.Parameters(s, e, eo)
	for _, a := range e.Addrs {
		p.Address(n, s, e, a, dataplane.Advertise{})
	}
	p.LinkLocal(s, e)
	p.WayOut(s, e, o.bridge, false)
	for _, a := range e.Addrs {
		p.Known(a.Addr(), o.bridge)
	}
	if !o.icc {
		p.Holes(e)
	}
	p.Ports(s, e, ports, segment.Translated(env))
	return p.Objects, nil
}
