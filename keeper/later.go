package keeper

import (
	"context"

	"linkspan/cnm"
)

var errLater = cnm.Unsupported("not yet: the keeper's resolvers")

func (c *Client) Retarget(context.Context, []PortRequest) error { return errLater }
