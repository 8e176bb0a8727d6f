package image

import (
	"context"
	"slices"

	"github.com/distribution/reference"

	"linkspan/cnm"
)

// Remove implements [Service]. The rules are dockerd's (daemon/images): a name
// is untagged; with the last name, or by id, the image goes, if nothing forbids.
// prune is for the untagged parents that a build leaves; there are none yet.
func (s *Store) Remove(ctx context.Context, ref string, force, prune bool) ([]Deleted, error) {
	ctx = s.ns(ctx)
	done, err := s.remove(ctx, ref, force)
	if len(done) > 0 {
		s.collect(ctx)
	}
	return done, err
}

func (s *Store) remove(ctx context.Context, ref string, force bool) ([]Deleted, error) {
	s.names.Lock()
	defer s.names.Unlock()
	all, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	p, name, err := s.find(all, ref)
	if err != nil {
		if r := broken(all, ref); r != nil { // what cannot be read can be removed
			return []Deleted{{Untagged: familiar(r.name)}}, s.drop(ctx, r.name)
		}
		return nil, err
	}
	r := &removal{s: s, all: all, p: p, force: force, users: s.usersOf(p.id())}
	if name != nil {
		err = r.byName(ctx, name)
	} else {
		err = r.byID(ctx)
	}
	return r.done, err
}

// broken finds a record by name whose content cannot be read.
func broken(all []record, ref string) *record {
	named, err := parseName(ref)
	if err != nil {
		return nil
	}
	if r := lookup(all, named); r != nil && r.parsed == nil {
		return r
	}
	return nil
}

// removal is one image on its way out. s.names is held for writing.
type removal struct {
	s     *Store
	all   []record
	p     *parsed
	force bool
	users []User
	done  []Deleted
	// reclaimed is the bytes of the layers that no other image has.
	reclaimed int64
}

func (r *removal) refs() []reference.Named { return refs(ofID(r.all, r.p.id())) }

// byName takes one name away, and the image with the last one.
func (r *removal) byName(ctx context.Context, name reference.Named) error {
	rec := lookup(r.all, name)
	if !r.force && single(r.refs()) && len(r.users) > 0 {
		return cnm.Conflict("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
			reference.FamiliarString(name), short(r.users[0].ContainerID), short(r.p.id()))
	}
	gone := []string{rec.name}
	if n := rec.named(); n != nil {
		gone = append(gone, digestsAlone(r.refs(), n)...)
	}
	left := len(r.refs()) - len(gone)
	if left == 0 && r.running() == nil && (r.force || len(r.users) == 0) {
		return r.delete(ctx)
	}
	if left == 0 {
		// It stays for its containers, without a name.
		if err := r.s.create(ctx, danglingName(r.p.desc.Digest), r.p.desc); err != nil {
			return err
		}
	}
	return r.untag(ctx, gone)
}

// digestsAlone are the digest names that go with a tag: when no other tag of
// its repository is left, those of the repository mean nothing to anybody.
func digestsAlone(list []reference.Named, tag reference.Named) (names []string) {
	if _, ok := tag.(reference.Tagged); !ok {
		return nil
	}
	for _, n := range list {
		if n.Name() != tag.Name() || n.String() == tag.String() {
			continue
		}
		if _, ok := n.(reference.Canonical); !ok {
			return nil
		}
		names = append(names, n.String())
	}
	return names
}

// byID takes the image with all its names.
func (r *removal) byID(ctx context.Context) error {
	id := short(r.p.id())
	if u := r.running(); u != nil {
		return cnm.Conflict("conflict: unable to delete %s (cannot be forced) - image is being used by running container %s", id, short(u.ContainerID))
	}
	if !r.force && !single(r.refs()) {
		return cnm.Conflict("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", id)
	}
	if !r.force && len(r.users) > 0 {
		return cnm.Conflict("conflict: unable to delete %s (must be forced) - image is being used by stopped container %s", id, short(r.users[0].ContainerID))
	}
	return r.delete(ctx)
}

func (r *removal) running() *User {
	i := slices.IndexFunc(r.users, func(u User) bool { return u.Running })
	if i < 0 {
		return nil
	}
	return &r.users[i]
}

func (r *removal) untag(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := r.s.drop(ctx, name); err != nil {
			return err
		}
		r.done = append(r.done, Deleted{Untagged: familiar(name)})
		r.s.publish("untag", r.p.id(), r.p.id(), r.p.labels())
	}
	return nil
}

// delete removes all names; what nobody else needs is for collect.
func (r *removal) delete(ctx context.Context) error {
	list := ofID(r.all, r.p.id())
	// Tags first, as Docker lists them; the last record of all keeps the image
	// until everything else is done.
	slices.SortStableFunc(list, func(a, b record) int { return rank(a) - rank(b) })
	layers := r.ownLayers(ctx)
	for _, rec := range list {
		if err := r.s.drop(ctx, rec.name); err != nil {
			return err
		}
		if !isDangling(rec.name) {
			r.done = append(r.done, Deleted{Untagged: familiar(rec.name)})
			r.s.publish("untag", r.p.id(), r.p.id(), r.p.labels())
		}
		r.s.forget(rec)
	}
	r.done = append(r.done, Deleted{Deleted: r.p.id()})
	for _, l := range layers {
		r.done = append(r.done, Deleted{Deleted: l})
	}
	r.s.publish("delete", r.p.id(), r.p.id(), r.p.labels())
	return nil
}

func rank(r record) int {
	if _, ok := r.named().(reference.Canonical); ok {
		return 1
	}
	if isDangling(r.name) {
		return 2
	}
	return 0
}

// ownLayers are the chain ids that no other image and no container has, topmost
// first.
func (r *removal) ownLayers(ctx context.Context) (layers []string) {
	if len(r.users) > 0 {
		return nil // a forced removal: the container's snapshot stands on them
	}
	shared := map[string]bool{}
	for _, rec := range r.all {
		if rec.parsed != nil && rec.parsed.id() != r.p.id() {
			for _, c := range rec.parsed.chains {
				shared[c] = true
			}
		}
	}
	for _, c := range slices.Backward(r.p.chains) {
		if !shared[c] {
			layers = append(layers, c)
			n, _ := r.s.layerSize(ctx, c)
			r.reclaimed += n
		}
	}
	return layers
}

// forget drops what memory holds of a removed image.
func (s *Store) forget(r record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parsed, r.target.Digest)
	if r.parsed != nil {
		delete(s.parsed, r.parsed.desc.Digest)
		for _, c := range r.parsed.chains {
			delete(s.usage, c) // a size that another image needs is read again
		}
	}
}

// single says that all names are of one repository: at most one tag, the rest
// digests of the same name (dockerd's isSingleReference).
func single(list []reference.Named) bool {
	if len(list) <= 1 {
		return true
	}
	tags := 0
	for _, n := range list {
		if n.Name() != list[0].Name() {
			return false
		}
		if _, ok := n.(reference.Canonical); !ok {
			tags++
		}
	}
	return tags <= 1
}
