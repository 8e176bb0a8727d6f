// Package none plans the network without a network: a sandbox with loopback
// only, for a person to wire by hand.
package none

import (
	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// Driver is the null driver. The zero value is ready.
type Driver struct{}

// Name implements driver.Driver; "null" is Docker's word for it.
func (Driver) Name() string { return "null" }

// Traits implements driver.Driver.
func (Driver) Traits() driver.Traits { return driver.Traits{Single: true} }

// Check implements driver.Driver.
func (Driver) Check(n *cnm.Network) error { return driver.Decode(n, nil) }

// Network plans nothing.
func (Driver) Network(driver.Env, *cnm.Network) ([]dataplane.Object, error) { return nil, nil }

// Endpoint plans nothing: the sandbox itself is the controller's.
func (Driver) Endpoint(driver.Env, *cnm.Network, *cnm.Sandbox, *cnm.Endpoint, []cnm.PublishedPort) ([]dataplane.Object, error) {
	return nil, nil
}
