// Package driver is the contract between the model and the schemes that
// connect endpoints. A driver is a pure planner: asked which kernel objects
// should exist on this host for a network and its endpoints, it answers with
// data and touches nothing.
package driver

import (
	"linkspan/cnm"
	"linkspan/dataplane"
)

// Env is what a plan may depend on besides the model: facts of this host,
// gathered by the controller, so that the same wish and the same facts always
// give the same plan.
type Env struct {
	// Table is the name of our nftables table (family inet).
	Table string
	// BridgeNF says that br_netfilter passes bridged IPv4 packets to nftables
	// (net.bridge.bridge-nf-call-iptables=1), so that a container's way to its own
	// published port needs hairpin on its bridge port.
	BridgeNF bool
	// MTU in bytes for networks that do not set their own; 0: 1500.
	MTU int
	// DirectRouting (--allow-direct-routing): who routes to a container's own
	// address from outside reaches its published ports.
	DirectRouting bool
	// Underlay is this host's place in the mesh; nil: it is in none.
	Underlay *cnm.Underlay
}

// Driver plans networks of one kind. Methods are pure and safe for concurrent use.
type Driver interface {
	// Name is what `docker network create -d` says.
	Name() string
	// Traits tells the controller what the driver's endpoints need.
	Traits() Traits
	// Check decodes and validates the network's options and pools. Unknown
	// options are cnm.ErrInvalid and name the nearest valid key.
	Check(n *cnm.Network) error
	// Network plans what exists while the network exists.
	Network(env Env, n *cnm.Network) ([]dataplane.Object, error)
	// Endpoint plans what exists while the endpoint's sandbox is alive. ports are
	// the sandbox's published ports when this endpoint serves them, else none.
	Endpoint(env Env, n *cnm.Network, s *cnm.Sandbox, e *cnm.Endpoint, ports []cnm.PublishedPort) ([]dataplane.Object, error)
}

// Traits are a driver's fixed properties.
type Traits struct {
	// Addresses: endpoints get addresses from the network's pools.
	Addresses bool
	// HostSandbox: endpoints live in the daemon's own namespace (host).
	HostSandbox bool
	// Publishes: -p works on endpoints of this driver.
	Publishes bool
	// IfPrefix is the interface's name in the sandbox before its number ("eth");
	// empty: no interface is made.
	IfPrefix string
	// Single: at most one network of this driver may exist (host, none).
	Single bool
	// Device is the network option that names the driver's device on this host
	// ("com.docker.network.bridge.name"); a device of that name that is there
	// already and is fit is borrowed. Empty: none.
	Device string
	// Spans: the driver's networks are the mesh's (cnm.ScopeGlobal): it is a Spanner.
	Spans bool
}

// Registry holds the drivers by name. It is filled by cmd and read-only after.
type Registry map[string]Driver

// NewRegistry makes a registry of the given drivers.
func NewRegistry(ds ...Driver) Registry {
	r := Registry{}
	for _, d := range ds {
		r[d.Name()] = d
	}
	return r
}

// Get returns the driver, or a cnm.ErrNotFound that names those there are.
func (r Registry) Get(name string) (Driver, error) {
	if d, ok := r[name]; ok {
		return d, nil
	}
	return nil, cnm.NotFound("could not find network driver %q: this daemon has %s", name, r.names())
}
