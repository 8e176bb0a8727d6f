package image

import (
	"context"
	"encoding/json"
	"io"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/cnm"
)

// Distribution implements [Service]. Nothing of the image is kept.
func (s *Store) Distribution(ctx context.Context, ref string, auth *Auth) (*Distribution, error) {
	named, err := parseName(ref)
	if err != nil {
		return nil, err
	}
	ctx = s.ns(ctx)
	n := s.session(auth)
	defer n.close()
	resolver, err := n.resolver(ctx, named)
	if err != nil {
		return nil, err
	}
	name, d, err := resolver.Resolve(ctx, named.String())
	if err != nil {
		return nil, pullError(named, err)
	}
	f, err := resolver.Fetcher(ctx, name)
	if err != nil {
		return nil, pullError(named, err)
	}
	out := &Distribution{Descriptor: ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}}
	if out.Platforms, err = platformsOf(ctx, f, named, d); err != nil {
		return nil, pullError(named, err)
	}
	return out, nil
}

// platformsOf reads them from an index, or from the config of a single image.
func platformsOf(ctx context.Context, f remotes.Fetcher, ref reference.Named, d ocispec.Descriptor) (list []ocispec.Platform, err error) {
	if images.IsIndexType(d.MediaType) {
		var index ocispec.Index
		if err := fetchJSON(ctx, f, d, maxManifest, &index); err != nil {
			return nil, err
		}
		for _, m := range index.Manifests {
			// Attestations stand there under a platform that is none.
			if m.Platform != nil && m.Platform.OS != "unknown" {
				list = append(list, *m.Platform)
			}
		}
		return list, nil
	}
	if !images.IsManifestType(d.MediaType) {
		return nil, cnm.Invalid("%s is no container image but %s", reference.FamiliarString(ref), d.MediaType)
	}
	var m ocispec.Manifest
	if err := fetchJSON(ctx, f, d, maxManifest, &m); err != nil {
		return nil, err
	}
	var p ocispec.Platform
	if !images.IsConfigType(m.Config.MediaType) {
		return nil, nil // of something else than a container
	}
	if err := fetchJSON(ctx, f, m.Config, maxConfig, &p); err != nil {
		return nil, err
	}
	if p.OS == "" {
		return nil, nil
	}
	return []ocispec.Platform{p}, nil
}

// fetchJSON reads a small blob from a registry, verified.
func fetchJSON(ctx context.Context, f remotes.Fetcher, d ocispec.Descriptor, limit int64, v any) error {
	if d.Size > limit {
		return cnm.Invalid("%s of %d bytes is larger than the %d bytes that are allowed", d.MediaType, d.Size, limit)
	}
	r, err := f.Fetch(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return err
	}
	if got := d.Digest.Algorithm().FromBytes(b); got != d.Digest {
		return cnm.Errorf(cnm.ErrUnavailable, "the registry sent %s for %s", got, d.Digest)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return cnm.Invalid("%s %s is not valid JSON: %w", d.MediaType, d.Digest, err)
	}
	return nil
}
