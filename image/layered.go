package image

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/cnm"
)

// emptyLayer is the digest of an archive of nothing: such a layer is left out, as
// Docker does.
var emptyLayer = digest.FromBytes(make([]byte, 1024))

// Layered implements [Service].
func (s *Store) Layered(ctx context.Context, parent *Image, layer io.Reader, config Layered) (id string, err error) {
	var named reference.Named
	if config.Ref != "" {
		if named, err = parseName(config.Ref); err != nil {
			return "", err
		}
		if _, ok := named.(reference.Digested); ok {
			return "", cnm.Invalid("refusing to create a tag with a digest reference: %s", config.Ref)
		}
	}
	ctx = s.ns(ctx)
	ctx, done, err := s.lease(ctx, "commit")
	if err != nil {
		return "", err
	}
	defer done()
	below, err := s.holdImage(ctx, parent.ID)
	if err != nil {
		return "", err
	}
	d, diff, err := s.writeLayer(ctx, layer)
	if err != nil {
		return "", classify(err, "committing a layer")
	}
	img, layers := below.with(config, d, diff)
	p, err := s.compose(ctx, img, layers, !isDockerManifest(below.desc.MediaType))
	if err != nil {
		return "", classify(err, "committing an image")
	}
	if err := s.unpack(ctx, p, serial(nil), nil); err != nil {
		return "", classify(err, "committing an image")
	}
	s.names.Lock()
	defer s.names.Unlock()
	if named == nil {
		return p.id(), s.keep(ctx, p)
	}
	if _, err := s.set(ctx, named.String(), p); err != nil {
		return "", err
	}
	s.publish("tag", p.id(), reference.FamiliarString(named), p.labels())
	return p.id(), nil
}

func isDockerManifest(mediaType string) bool {
	return mediaType == images.MediaTypeDockerSchema2Manifest
}

// holdImage finds an image by id and adds its content to the lease in ctx, so that
// it can be built upon although somebody removes it meanwhile.
func (s *Store) holdImage(ctx context.Context, id string) (*parsed, error) {
	s.names.RLock()
	defer s.names.RUnlock()
	all, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	list := ofID(all, id)
	if len(list) == 0 {
		return nil, noSuchImage(id)
	}
	p := list[0].parsed
	for i, l := range p.manifest.Layers {
		here, err := s.holdBlob(ctx, l.Digest)
		if err != nil {
			return nil, classify(err, "image %s", short(id))
		}
		if !here {
			return nil, cnm.Errorf(cnm.ErrUnavailable, "image %s: its layer %s is not in containerd's store; pull it again", short(id), short(l.Digest.String()))
		}
		if _, err := s.holdSnapshot(ctx, p.chains[i]); err != nil {
			return nil, classify(err, "image %s", short(id))
		}
	}
	return p, nil
}

// with is the image of p and one more layer.
func (p *parsed) with(c Layered, layer ocispec.Descriptor, diff digest.Digest) (dockerspec.DockerOCIImage, []ocispec.Descriptor) {
	now := time.Now().UTC()
	img := dockerspec.DockerOCIImage{Image: p.config.Image}
	img.Config.ImageConfig = c.Config
	img.Config.OnBuild, img.Config.Shell = c.OnBuild, c.Shell
	if h := c.Healthcheck; h != nil {
		img.Config.Healthcheck = &dockerspec.HealthcheckConfig{
			Test: h.Test, Retries: h.Retries, Interval: h.Interval, Timeout: h.Timeout,
			StartPeriod: h.StartPeriod, StartInterval: h.StartInterval,
		}
	}
	img.Created, img.Author = &now, c.Author
	img.History = append(slices.Clone(p.config.History), ocispec.History{
		Created: &now, CreatedBy: c.CreatedBy, Author: c.Author, Comment: c.Comment, EmptyLayer: diff == emptyLayer,
	})
	img.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: slices.Clone(p.diffs)}
	layers := slices.Clone(p.manifest.Layers)
	if diff == emptyLayer {
		return img, layers
	}
	img.RootFS.DiffIDs = append(img.RootFS.DiffIDs, diff)
	if !isDockerManifest(p.desc.MediaType) {
		layer.MediaType = ocispec.MediaTypeImageLayerGzip
	}
	return img, append(layers, layer)
}
