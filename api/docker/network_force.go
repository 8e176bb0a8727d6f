package docker

import (
	"context"
	"errors"
	"slices"

	"linkspan/cnm"
)

// evacuate takes everybody off a network that is to be removed whatever happens
// (?force=1, which is Linkspan's own: dockerd knows no such thing, and its clients do
// not ask for it). Containers go on without the network; a sandbox of which no
// container is left goes whole.
func (s *server) evacuate(ctx context.Context, ref string) error {
	n, err := s.Network.Network(ref)
	if err != nil || n.Predefined { // which cannot be removed: nobody is taken off it
		return err
	}
	for _, sb := range s.Network.On(n.ID) {
		err := s.Containers.Disconnect(ctx, sb.Owner, n.ID, true)
		if err == nil {
			continue
		}
		gone := !slices.ContainsFunc(sb.Members, func(id string) bool { _, err := s.Containers.Get(id); return !errors.Is(err, cnm.ErrNotFound) })
		if !gone {
			return err
		}
		for _, id := range sb.Members {
			if err := s.Network.Leave(ctx, id, false); err != nil {
				return err
			}
		}
	}
	return nil
}
