package container

import (
	"context"

	"github.com/containerd/containerd/v2/core/leases"

	"linkspan/image"
)

// sweep removes what an earlier process made and no record declares: it died
// between making it and saying so. Requests are served meanwhile.
func (e *Engine) sweep(ctx context.Context, running map[string]task) {
	left, err := e.leftovers(ctx, running)
	if err != nil {
		e.log.Error("not everything is swept that an earlier process may have left over", "error", err)
	}
	for _, l := range left {
		if err := l.Take(ctx); err != nil {
			e.log.Error("something left over cannot be removed", "what", l.What, "id", l.ID, "error", err)
		} else {
			e.log.Info("removed what an earlier process left over", "what", l.What, "id", l.ID)
		}
	}
	e.closedInputs(ctx)
}

// closedInputs passes on which inputs ended while no daemon was there.
func (e *Engine) closedInputs(ctx context.Context) {
	streams, err := e.cfg.Keeper.Streams(ctx)
	if err != nil {
		e.log.Error("inputs that ended while no daemon was there are not told", "error", err)
		return
	}
	for _, s := range streams {
		if s.StdinClosed && s.Started && !s.Ended {
			e.StdinClosed(s.ID)
		}
	}
}

// dropLeases removes all leases of the namespace: they belong to pulls of an
// earlier process. It runs before this one pulls.
func (r *runtime) dropLeases(ctx context.Context) error {
	return r.call(ctx, "lease.sweep", quick, func(ctx context.Context) error {
		m := r.client.LeasesService()
		list, err := m.List(ctx)
		if err != nil {
			return err
		}
		for _, l := range list {
			if err := absent(m.Delete(ctx, leases.Lease{ID: l.ID})); err != nil {
				return err
			}
		}
		return nil
	})
}

// ImageUsers implements image.Users.
func (e *Engine) ImageUsers(imageID string) []image.User {
	var out []image.User
	for _, c := range e.List() {
		if c.ImageID == imageID {
			out = append(out, image.User{ContainerID: c.ID, Running: c.State.Phase.running() || c.State.Phase == Restarting, Ref: c.ImageRef})
		}
	}
	return out
}
