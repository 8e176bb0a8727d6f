package image

import (
	"context"

	"github.com/containerd/errdefs"
)

// Usage is what images take on the disk, unpacked, in bytes. A layer that several
// images share is there once.
type Usage struct {
	// Layers is all of it.
	Layers int64
	// Shared is, by image id, how much of an image's size is also another's.
	Shared map[string]int64
}

// Usage adds up what `docker system df` shows.
func (s *Store) Usage(ctx context.Context) (*Usage, error) {
	ctx = s.ns(ctx)
	s.names.RLock()
	defer s.names.RUnlock()
	all, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	images := map[string]*parsed{}
	users := map[string]int{} // images by chain id
	for _, r := range all {
		if r.parsed == nil || images[r.parsed.id()] != nil {
			continue
		}
		images[r.parsed.id()] = r.parsed
		for _, c := range r.parsed.chains {
			users[c]++
		}
	}
	u := &Usage{Shared: map[string]int64{}}
	sizes := map[string]int64{}
	for c := range users {
		n, err := s.layerSize(ctx, c)
		if err != nil && !errdefs.IsNotFound(err) { // not unpacked
			return nil, classify(err, "the size of layer %s", short(c))
		}
		sizes[c] = n
		u.Layers += n
	}
	for id, p := range images {
		for _, c := range p.chains {
			if users[c] > 1 {
				u.Shared[id] += sizes[c]
			}
		}
	}
	return u, nil
}
