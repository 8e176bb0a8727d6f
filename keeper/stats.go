package keeper

import (
	"context"

	"linkspan/dns"
)

// Resolvers counts what the resolvers of all sandboxes were asked, since this keeper
// began. A keeper of a version that does not count answers cnm.ErrUnsupported.
func (c *Client) Resolvers(ctx context.Context) (m dns.Metrics, err error) {
	err = c.call(ctx, opResolvers, nil, &m)
	return m, err
}
