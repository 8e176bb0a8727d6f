package network

import (
	"context"

	"linkspan/cnm"
)

// Define implements Service.
func (c *Controller) Define(ctx context.Context, r Request) error { return nil }

// Undefine implements Service.
func (c *Controller) Undefine(containerID string) {}

// Update implements Service.
func (c *Controller) Update(ctx context.Context, r Request) error {
	return cnm.Unsupported("not yet: changing the networks of a running container")
}

// Stats implements Service.
func (c *Controller) Stats(ctx context.Context, containerID string) ([]InterfaceStats, error) {
	return nil, cnm.Unsupported("not yet: counters")
}

// CreateNetwork implements Service.
func (c *Controller) CreateNetwork(ctx context.Context, w NetworkWish) (*cnm.Network, string, error) {
	return nil, "", cnm.Unsupported("not yet: creating network %s", w.Name)
}

// RemoveNetwork implements Service.
func (c *Controller) RemoveNetwork(ctx context.Context, ref string) error {
	return cnm.Unsupported("not yet: removing network %s", ref)
}
