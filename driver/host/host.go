// Package host plans the host network: containers live in the daemon's own
// namespace, and nothing is made for them.
package host

import (
	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// Driver is the host driver. The zero value is ready.
type Driver struct{}

// Name implements driver.Driver.
func (Driver) Name() string { return "host" }

// Traits implements driver.Driver.
func (Driver) Traits() driver.Traits { return driver.Traits{HostSandbox: true, Single: true} }

// Check implements driver.Driver.
func (Driver) Check(n *cnm.Network) error { return driver.Decode(n, nil) }

// Network plans nothing.
func (Driver) Network(driver.Env, *cnm.Network) ([]dataplane.Object, error) { return nil, nil }

// Endpoint plans nothing.
func (Driver) Endpoint(driver.Env, *cnm.Network, *cnm.Sandbox, *cnm.Endpoint, []cnm.PublishedPort) ([]dataplane.Object, error) {
	return nil, nil
}
