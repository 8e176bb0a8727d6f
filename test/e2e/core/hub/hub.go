// Package hub is a network driver that no Linkspan ships: a switch without a
// gateway, whose endpoints reach each other and nobody else. It lives in this test
// folder to prove that a new networking scheme needs no line changed elsewhere.
package hub

import (
	"fmt"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// Driver is the hub driver.
type Driver struct{}

// Name implements driver.Driver.
func (Driver) Name() string { return "hub" }

// Traits implements driver.Driver.
func (Driver) Traits() driver.Traits { return driver.Traits{Addresses: true, IfPrefix: "hub"} }

const optColour = "org.example.hub.colour"

// Check implements driver.Driver.
func (Driver) Check(n *cnm.Network) error {
	return driver.Decode(n, map[string]func(string) error{optColour: func(v string) error {
		if v != "red" && v != "blue" {
			return fmt.Errorf("a hub is red or blue")
		}
		return nil
	}})
}

func device(n *cnm.Network) string { return "hub-" + n.ID[:8] }

// Network implements driver.Driver.
func (d Driver) Network(env driver.Env, n *cnm.Network) ([]dataplane.Object, error) {
	m := dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerNetwork, ID: n.ID, Name: n.Name}, Reason: "the hub itself"}
	dev := device(n)
	return []dataplane.Object{
		dataplane.BridgeElement(m, env.Table, dev),
		dataplane.ICCElement(m, env.Table, dev),
		dataplane.Bridge{Meta: m, Name: dev, MTU: env.MTU},
		dataplane.Up{Meta: m, Link: dev},
	}, d.Check(n)
}

// Endpoint implements driver.Driver.
func (Driver) Endpoint(env driver.Env, n *cnm.Network, s *cnm.Sandbox, e *cnm.Endpoint, _ []cnm.PublishedPort) ([]dataplane.Object, error) {
	m := dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerEndpoint, ID: e.ID, Name: s.OwnerName}, Reason: "a plug in the hub"}
	return []dataplane.Object{
		dataplane.Veth{Meta: m, Name: e.HostIf, Master: device(n), MTU: env.MTU, PeerNS: s.Path, PeerName: e.IfName, PeerMAC: e.MAC},
		dataplane.Up{Meta: m, Link: e.HostIf},
		dataplane.Up{Meta: m, NS: s.Path, Link: e.IfName},
		dataplane.Addr{Meta: m, NS: s.Path, Link: e.IfName, Prefix: e.Addrs[0]},
	}, driver.DecodeEndpoint(n, e, nil)
}
