package image

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// record is one name in containerd's image store.
type record struct {
	name    string
	target  ocispec.Descriptor
	updated time.Time
	parsed  *parsed // nil if the content is not readable
}

// records reads all names and what they lead to. A broken one is kept, without
// content, so that it can at least be removed by name.
func (s *Store) records(ctx context.Context) ([]record, error) {
	list, err := s.cfg.Client.ImageService().List(ctx)
	if err != nil {
		return nil, classify(err, "listing images")
	}
	all := make([]record, 0, len(list))
	for _, i := range list {
		r := record{name: i.Name, target: i.Target, updated: i.UpdatedAt}
		if r.parsed, err = s.parse(ctx, i.Target); errdefs.IsUnavailable(err) {
			return nil, classify(err, "image %s", i.Name)
		} else if err != nil {
			s.log.Warn("an image in containerd's store cannot be read", "image", i.Name, "error", err)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b record) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// ofID picks the records of one image.
func ofID(all []record, id string) (list []record) {
	for _, r := range all {
		if r.parsed != nil && r.parsed.id() == id {
			list = append(list, r)
		}
	}
	return list
}

// refs are the names of these records that people gave or pulled.
func refs(list []record) (named []reference.Named) {
	for _, r := range list {
		if n := r.named(); n != nil {
			named = append(named, n)
		}
	}
	return named
}

// named is nil for a dangling record and for a name that is not one of ours.
func (r *record) named() reference.Named {
	if isDangling(r.name) {
		return nil
	}
	n, err := reference.ParseNormalizedNamed(r.name)
	if err != nil || reference.IsNameOnly(n) {
		return nil
	}
	return n
}

// set points a name to an image. An image that loses its last name by that
// becomes dangling, as in Docker, and is returned. s.names is held for writing.
func (s *Store) set(ctx context.Context, name string, p *parsed) (orphan string, err error) {
	is := s.cfg.Client.ImageService()
	all, err := s.records(ctx)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(all, func(r record) bool { return r.name == name })
	img := images.Image{Name: name, Target: p.desc}
	if i < 0 {
		s.cfg.Hook("image.create.before")
		_, err = is.Create(ctx, img)
		s.cfg.Hook("image.create.after")
		return "", s.tidy(ctx, all, p, classify(err, "naming image %s", name))
	}
	if old := all[i]; old.parsed != nil && old.parsed.id() != p.id() && len(ofID(all, old.parsed.id())) == 1 {
		// First the new name, then the move: no moment without any.
		if err := s.create(ctx, danglingName(old.target.Digest), old.target); err != nil {
			return "", err
		}
		orphan = old.parsed.id()
	}
	s.cfg.Hook("image.update.before")
	_, err = is.Update(ctx, img, "target")
	s.cfg.Hook("image.update.after")
	return orphan, s.tidy(ctx, all, p, classify(err, "naming image %s", name))
}

// tidy drops the dangling name of an image that has a real one now.
func (s *Store) tidy(ctx context.Context, all []record, p *parsed, err error) error {
	if err != nil {
		return err
	}
	for _, r := range ofID(all, p.id()) {
		if isDangling(r.name) {
			if err := s.drop(ctx, r.name); err != nil {
				return err
			}
		}
	}
	return nil
}

// create makes a record, if it is not there.
func (s *Store) create(ctx context.Context, name string, target ocispec.Descriptor) error {
	s.cfg.Hook("image.create.before")
	_, err := s.cfg.Client.ImageService().Create(ctx, images.Image{Name: name, Target: target})
	s.cfg.Hook("image.create.after")
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return classify(err, "naming image %s", name)
}

// drop deletes a record; one that is gone already is fine.
func (s *Store) drop(ctx context.Context, name string) error {
	s.cfg.Hook("image.delete.before")
	err := s.cfg.Client.ImageService().Delete(ctx, name)
	s.cfg.Hook("image.delete.after")
	if errdefs.IsNotFound(err) {
		return nil
	}
	return classify(err, "removing the name %s", name)
}
