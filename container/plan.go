package container

import (
	"context"

	"linkspan/dataplane"
)

// Plan returns what the network would make for a container of this wish, and
// the warnings that it would give. Nothing is made and nothing is kept.
func (e *Engine) Plan(ctx context.Context, r CreateRequest) ([]dataplane.Object, []string, error) {
	c, _, warnings, err := e.define(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	if c.Name = r.Name; c.Name == "" {
		c.Name = c.ID[:12]
	}
	req, err := e.networkRequest(c)
	if err != nil {
		return nil, nil, err
	}
	more, err := e.cfg.Network.Check(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	objs, err := e.cfg.Network.Plan(ctx, req)
	return objs, append(warnings, more...), err
}
