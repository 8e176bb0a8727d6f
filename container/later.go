package container

import (
	"context"
	"io"

	apicontainer "github.com/moby/moby/api/types/container"
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
func (e *Engine) Changes(ctx context.Context, ref string) ([]apicontainer.FilesystemChange, error) {
	return nil, errLater
}
func (e *Engine) Export(ctx context.Context, ref string) (io.ReadCloser, error) { return nil, errLater }
func (e *Engine) Commit(ctx context.Context, ref string, o CommitOptions) (string, error) {
	return "", errLater
}
