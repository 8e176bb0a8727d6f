package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/cnm"
)

// saved is one image of an archive, with the names it has there.
type saved struct {
	p    *parsed
	tags []reference.NamedTagged
}

// Save implements [Service]: one archive that is both an OCI layout and what
// Docker reads, manifest.json. A repository without a tag means all of its tags.
func (s *Store) Save(ctx context.Context, refs []string, platform string, w io.Writer) error {
	if len(refs) == 0 {
		return cnm.Invalid("no image is named to be saved")
	}
	wish, err := want(platform)
	if err != nil {
		return err
	}
	ctx, done, err := s.lease(s.ns(ctx), "save")
	if err != nil {
		return err
	}
	defer done()
	list, err := s.pick(ctx, refs, wish)
	if err != nil {
		return err
	}
	if err := s.archive(ctx, list, w); err != nil {
		return classify(err, "saving images")
	}
	for _, i := range list {
		s.publish("save", i.p.id(), i.p.id(), i.p.labels())
	}
	return nil
}

// pick finds what is to be saved and holds it.
func (s *Store) pick(ctx context.Context, refs []string, wish wanted) ([]*saved, error) {
	s.names.RLock()
	all, err := s.records(ctx)
	s.names.RUnlock()
	if err != nil {
		return nil, err
	}
	var list []*saved
	take := func(p *parsed, tag reference.Named) error {
		if have := p.config.Platform; wish.explicit && have.OS != "" && !wish.Match(have) {
			return cnm.NotFound("image %s is of platform %s/%s, not %s", short(p.id()), have.OS, have.Architecture, wish.name)
		}
		i := slices.IndexFunc(list, func(o *saved) bool { return o.p.id() == p.id() })
		if i < 0 {
			i = len(list)
			held, err := s.holdImage(ctx, p.id())
			if err != nil {
				return err
			}
			list = append(list, &saved{p: held})
		}
		t, ok := tag.(reference.NamedTagged)
		if ok && !slices.ContainsFunc(list[i].tags, func(o reference.NamedTagged) bool { return o.String() == t.String() }) {
			list[i].tags = append(list[i].tags, t)
		}
		return nil
	}
	for _, ref := range refs {
		found := false
		if bare, err := reference.ParseNormalizedNamed(ref); err == nil && !isID(ref) && reference.IsNameOnly(bare) {
			for i := range all {
				n, ok := all[i].named().(reference.NamedTagged)
				if ok && n.Name() == bare.Name() && all[i].parsed != nil {
					if err := take(all[i].parsed, n); err != nil {
						return nil, err
					}
					found = true
				}
			}
		}
		if found {
			continue
		}
		p, byName, err := s.find(all, ref)
		if err != nil {
			return nil, err
		}
		if err := take(p, byName); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// dockerManifest is one entry of manifest.json (image-spec of Docker, v1.2).
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// archive writes blobs and what names them. Entries have no times: the same
// images give the same archive.
func (s *Store) archive(ctx context.Context, list []*saved, w io.Writer) error {
	t := tar.NewWriter(w)
	put := func(name string, v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o444, Size: int64(len(b)), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err = t.Write(b)
		return err
	}
	for _, d := range []string{"blobs/", "blobs/sha256/"} {
		if err := t.WriteHeader(&tar.Header{Name: d, Mode: 0o755, Typeflag: tar.TypeDir}); err != nil {
			return err
		}
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	var manifests []dockerManifest
	repositories := map[string]map[string]string{}
	written := map[digest.Digest]bool{}
	for _, i := range list {
		m := dockerManifest{Config: blobPath(i.p.manifest.Config.Digest), RepoTags: []string{}}
		for _, l := range i.p.manifest.Layers {
			m.Layers = append(m.Layers, blobPath(l.Digest))
		}
		d := ocispec.Descriptor{MediaType: i.p.desc.MediaType, Digest: i.p.desc.Digest, Size: i.p.desc.Size}
		if p := i.p.config.Platform; p.OS != "" {
			d.Platform = &p
		}
		if len(i.tags) == 0 {
			index.Manifests = append(index.Manifests, d)
		}
		for _, n := range i.tags {
			m.RepoTags = append(m.RepoTags, reference.FamiliarString(n))
			named := d
			named.Annotations = map[string]string{images.AnnotationImageName: n.String(), ocispec.AnnotationRefName: n.Tag()}
			index.Manifests = append(index.Manifests, named)
			if repo := reference.FamiliarName(n); len(i.p.manifest.Layers) > 0 {
				if repositories[repo] == nil {
					repositories[repo] = map[string]string{}
				}
				repositories[repo][n.Tag()] = i.p.diffs[len(i.p.diffs)-1].Encoded()
			}
		}
		manifests = append(manifests, m)
		for _, b := range append(slices.Clone(i.p.manifest.Layers), i.p.manifest.Config, i.p.desc) {
			if written[b.Digest] {
				continue
			}
			written[b.Digest] = true
			if err := s.putBlob(ctx, t, b); err != nil {
				return err
			}
		}
	}
	for _, f := range []struct {
		name string
		v    any
	}{
		{"index.json", index}, {"manifest.json", manifests},
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
		{"repositories", repositories},
	} {
		if err := put(f.name, f.v); err != nil {
			return err
		}
	}
	return t.Close()
}

func blobPath(d digest.Digest) string { return "blobs/" + d.Algorithm().String() + "/" + d.Encoded() }

func (s *Store) putBlob(ctx context.Context, t *tar.Writer, d ocispec.Descriptor) error {
	r, err := s.content().ReaderAt(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := t.WriteHeader(&tar.Header{Name: blobPath(d.Digest), Mode: 0o444, Size: r.Size(), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	n, err := io.Copy(t, content.NewReader(r))
	if err == nil && n != r.Size() {
		err = errors.New("a blob is shorter than its size")
	}
	return err
}
