package image

import (
	"context"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"linkspan/cnm"
)

// find resolves what a person calls an image: a whole id, a name with tag or
// digest, the beginning of an id. byName says how it was found.
func (s *Store) find(all []record, ref string) (p *parsed, byName reference.Named, err error) {
	if isID(ref) {
		if list := ofID(all, "sha256:"+strings.TrimPrefix(ref, "sha256:")); len(list) > 0 {
			return list[0].parsed, nil, nil
		}
		return nil, nil, noSuchImage(ref)
	}
	// An id without "sha256:" is no valid name for reference.Parse…; a short one
	// is, and a name goes first, as in Docker.
	named, nameErr := parseName(ref)
	if nameErr == nil {
		if r := lookup(all, named); r != nil {
			if r.parsed == nil {
				return nil, nil, cnm.Errorf(cnm.ErrUnavailable, "image %s is damaged: its content is not all in containerd's store; pull it again or remove it", reference.FamiliarString(named))
			}
			return r.parsed, named, nil
		}
	}
	for _, r := range all {
		if r.parsed == nil || !hasIDPrefix(r.parsed.id(), ref) {
			continue
		}
		if p != nil && p.id() != r.parsed.id() {
			return nil, nil, cnm.Invalid("multiple images found with provided prefix: %s (%s and %s); give more of the id", ref, short(p.id()), short(r.parsed.id()))
		}
		p = r.parsed
	}
	switch {
	case p != nil:
		return p, nil, nil
	case nameErr != nil && !isHex(strings.TrimPrefix(ref, "sha256:")):
		return nil, nil, nameErr
	}
	return nil, nil, noSuchImage(ref)
}

// lookup finds a record by its name. A digest may be the one that was pulled or
// the one of the manifest itself.
func lookup(all []record, named reference.Named) *record {
	if i := slices.IndexFunc(all, func(r record) bool { return r.name == named.String() }); i >= 0 {
		return &all[i]
	}
	d, ok := named.(reference.Digested)
	if !ok {
		return nil
	}
	for i, r := range all {
		if n := r.named(); n != nil && n.Name() == named.Name() && r.parsed != nil && r.parsed.desc.Digest == d.Digest() {
			return &all[i]
		}
	}
	return nil
}

// Get implements [Service].
func (s *Store) Get(ctx context.Context, ref string) (*Image, error) {
	ctx = s.ns(ctx)
	s.names.RLock()
	defer s.names.RUnlock()
	all, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	p, _, err := s.find(all, ref)
	if err != nil {
		return nil, err
	}
	return s.named(ctx, p, ofID(all, p.id()))
}

// List implements [Service]: newest first.
func (s *Store) List(ctx context.Context) ([]*Image, error) {
	ctx = s.ns(ctx)
	s.names.RLock()
	defer s.names.RUnlock()
	all, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	list := []*Image{}
	seen := map[string]bool{}
	for _, r := range all {
		if r.parsed == nil || seen[r.parsed.id()] {
			continue
		}
		seen[r.parsed.id()] = true
		img, err := s.named(ctx, r.parsed, ofID(all, r.parsed.id()))
		if err != nil {
			return nil, err
		}
		list = append(list, img)
	}
	slices.SortStableFunc(list, func(a, b *Image) int { return b.Created.Compare(a.Created) })
	return list, nil
}

// named is the image with its names.
func (s *Store) named(ctx context.Context, p *parsed, list []record) (*Image, error) {
	img, err := s.image(ctx, p)
	if err != nil {
		return nil, classify(err, "image %s", short(p.id()))
	}
	for _, r := range list {
		if r.updated.After(img.LastTagged) {
			img.LastTagged = r.updated
		}
		img.Ref = or(img.Ref, r.name)
		switch n := r.named().(type) {
		case reference.Canonical:
			img.Digests = append(img.Digests, reference.FamiliarString(n))
		case reference.Tagged:
			img.Ref = r.name // a tag says more than a digest
			img.RepoTags = append(img.RepoTags, reference.FamiliarString(n))
		}
	}
	return img, nil
}

// History implements [Service]: newest first, as `docker history` shows it.
func (s *Store) History(ctx context.Context, ref string) ([]HistoryItem, error) {
	ctx = s.ns(ctx)
	s.names.RLock()
	defer s.names.RUnlock()
	all, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	p, _, err := s.find(all, ref)
	if err != nil {
		return nil, err
	}
	items := []HistoryItem{}
	layer := 0
	for _, h := range p.config.History {
		item := HistoryItem{ID: "<missing>", Created: created(h.Created), CreatedBy: h.CreatedBy, Comment: h.Comment}
		if !h.EmptyLayer {
			if layer >= len(p.chains) {
				return nil, cnm.Invalid("image %s is broken: its history has more layers than it has", short(p.id()))
			}
			// A layer that is not unpacked has no known size.
			item.Size, _ = s.layerSize(ctx, p.chains[layer])
			layer++
		}
		items = append(items, item)
	}
	for ; layer < len(p.chains); layer++ { // a config may come without history
		item := HistoryItem{ID: "<missing>", Created: created(p.config.Created)}
		item.Size, _ = s.layerSize(ctx, p.chains[layer])
		items = append(items, item)
	}
	slices.Reverse(items)
	if len(items) > 0 {
		items[0].ID = p.id()
		for _, n := range refs(ofID(all, p.id())) {
			if _, ok := n.(reference.Tagged); ok {
				items[0].Tags = append(items[0].Tags, reference.FamiliarString(n))
			}
		}
	}
	return items, nil
}

// Tag implements [Service].
func (s *Store) Tag(ctx context.Context, ref, target string) error {
	named, err := parseName(target)
	if err != nil {
		return err
	}
	if _, ok := named.(reference.Digested); ok {
		return cnm.Invalid("refusing to create a tag with a digest reference: %s", target)
	}
	ctx = s.ns(ctx)
	s.names.Lock()
	defer s.names.Unlock()
	all, err := s.records(ctx)
	if err != nil {
		return err
	}
	p, _, err := s.find(all, ref)
	if err != nil {
		return err
	}
	if _, err := s.set(ctx, named.String(), p); err != nil {
		return err
	}
	s.publish("tag", p.id(), reference.FamiliarString(named), p.labels())
	return nil
}
