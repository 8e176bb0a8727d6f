package container

import (
	"context"

	apinetwork "github.com/moby/moby/api/types/network"

	"linkspan/cnm"
)

var errLater = cnm.Unsupported("not yet")

func (e *Engine) Connect(ctx context.Context, ref, network string, ep *apinetwork.EndpointSettings) error {
	return errLater
}
func (e *Engine) Disconnect(ctx context.Context, ref, network string, force bool) error {
	return errLater
}
