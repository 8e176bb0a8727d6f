// Package segment plans what all networks with a switch of their own on this host have
// in common: the bridge and what the page says of it, the wire to a sandbox and what is
// inside, published ports, and the options for these. What such networks differ in,
// foremost where their packets go from the bridge, is their drivers'.
package segment

import (
	"fmt"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// Plan collects objects of one owner after another.
type Plan struct {
	Table   string
	Owner   dataplane.Owner
	Objects []dataplane.Object
}

// OfNetwork begins a plan for a network.
func OfNetwork(env driver.Env, n *cnm.Network) *Plan {
	return &Plan{Table: env.Table, Owner: dataplane.Owner{Kind: dataplane.OwnerNetwork, ID: n.ID, Name: n.Name}}
}

// OfEndpoint begins a plan for an endpoint of a sandbox.
func OfEndpoint(env driver.Env, s *cnm.Sandbox, e *cnm.Endpoint) *Plan {
	return &Plan{Table: env.Table, Owner: dataplane.Owner{Kind: dataplane.OwnerEndpoint, ID: e.ID, Name: s.OwnerName}}
}

// Add puts objects into the plan.
func (p *Plan) Add(o ...dataplane.Object) { p.Objects = append(p.Objects, o...) }

// Because says for whom an object exists and why.
func (p *Plan) Because(format string, args ...any) dataplane.Meta {
	return dataplane.Meta{Owner: p.Owner, Reason: fmt.Sprintf(format, args...)}
}

// DeviceName is a prefix and as many digits of the network's id as a name of 15
// characters holds, 12 at most.
func DeviceName(prefix string, n *cnm.Network) string {
	return prefix + n.ID[:min(len(n.ID), 12)]
}

// Hardware pins the bridge's MAC address: 02:42 and the gateway's address, as
// containers' are made. A bridge without one takes the lowest of its ports' and
// changes it as containers come and go, under its neighbours' ARP caches.
func Hardware(n *cnm.Network) string {
	p := n.Pool4()
	if p == nil || !p.Gateway.Is4() {
		return ""
	}
	return cnm.MACFor(p.Gateway)
}
