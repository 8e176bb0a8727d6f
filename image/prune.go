package image

import (
	"context"
	"strconv"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/distribution/reference"

	"linkspan/events"
)

// PruneOptions say what Prune takes. The zero value: dangling images.
type PruneOptions struct {
	// All takes every image that no container uses, not only those without a tag.
	All bool
	// Match, if not nil, has the last word on an image.
	Match func(*Image) bool
}

// Prune removes unused images, and what interrupted pulls left. It returns what
// went and the bytes that were freed.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (gone []Deleted, reclaimed int64, err error) {
	images, err := s.List(ctx)
	if err != nil {
		return nil, 0, err
	}
	ctx = s.ns(ctx)
	defer func() {
		if len(gone) > 0 {
			s.collect(ctx)
		}
	}()
	for _, img := range images {
		if !o.All && len(img.RepoTags) > 0 || o.Match != nil && !o.Match(img) {
			continue
		}
		done, n, err := s.pruneOne(ctx, img.ID, o.All)
		gone, reclaimed = append(gone, done...), reclaimed+n
		if err != nil {
			return gone, reclaimed, err
		}
	}
	if err := s.endAbandonedPulls(ctx); err != nil {
		return gone, reclaimed, err
	}
	if s.cfg.Events != nil {
		s.cfg.Events.Publish(events.Event{Type: "image", Action: "prune", Attributes: map[string]string{"reclaimed": strconv.FormatInt(reclaimed, 10)}})
	}
	return gone, reclaimed, nil
}

// pruneOne removes an image unless somebody began to use it, or named it.
func (s *Store) pruneOne(ctx context.Context, id string, tagged bool) ([]Deleted, int64, error) {
	s.names.Lock()
	defer s.names.Unlock()
	all, err := s.records(ctx)
	if err != nil {
		return nil, 0, err
	}
	list := ofID(all, id)
	users := s.usersOf(id)
	if len(list) == 0 || len(users) > 0 {
		return nil, 0, nil
	}
	for _, n := range refs(list) {
		if _, ok := n.(reference.Tagged); ok && !tagged {
			return nil, 0, nil
		}
	}
	r := &removal{s: s, all: all, p: list[0].parsed}
	err = r.delete(ctx)
	return r.done, r.reclaimed, err
}

// endAbandonedPulls ends the leases of pulls that are not under way.
func (s *Store) endAbandonedPulls(ctx context.Context) error {
	list, err := s.cfg.Client.LeasesService().List(ctx, `labels."`+leaseLabel+`"==`+leasePull)
	if err != nil {
		return classify(err, "leases of interrupted pulls")
	}
	for _, l := range list {
		if unlock, ok := s.pulling.tryLock(l.Labels[leaseDigest]); ok {
			s.endLease(ctx, l, leases.SynchronousDelete)
			unlock()
		}
	}
	return nil
}
