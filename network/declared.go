package network

import (
	"context"

	"linkspan/dataplane"
)

// Declared returns every kernel object that should exist on this host, with owner and
// reason, in the order in which they would be made. It changes nothing.
func (c *Controller) Declared(ctx context.Context) ([]dataplane.Object, error) {
	c.world.RLock()
	defer c.world.RUnlock()
	st, _, err := c.desired(ctx)
	if err != nil {
		return nil, err
	}
	return st.All(), nil
}
