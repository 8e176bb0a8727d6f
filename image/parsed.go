package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/cnm"
)

// parsed is one platform's manifest and config. It never changes.
type parsed struct {
	desc     ocispec.Descriptor // of the manifest
	manifest ocispec.Manifest
	config   dockerspec.DockerOCIImage
	diffs    []digest.Digest
	chains   []string // chain ids, bottom first
}

// id is the image's id, as in Docker: the digest of its config.
func (p *parsed) id() string { return p.manifest.Config.Digest.String() }

// top is the chain id of the whole image; empty without layers.
func (p *parsed) top() string {
	if len(p.chains) == 0 {
		return ""
	}
	return p.chains[len(p.chains)-1]
}

func (p *parsed) labels() map[string]string { return p.config.Config.Labels }

// parse reads the manifest that a record's target is or, for an index that
// someone else made, the best of those that are there.
func (s *Store) parse(ctx context.Context, target ocispec.Descriptor) (*parsed, error) {
	s.mu.Lock()
	p := s.parsed[target.Digest]
	s.mu.Unlock()
	if p != nil {
		return p, nil
	}
	if images.IsIndexType(target.MediaType) {
		return s.parseIndex(ctx, target)
	}
	p, err := s.parseManifest(ctx, target)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.parsed[target.Digest] = p
	s.mu.Unlock()
	return p, nil
}

func (s *Store) parseManifest(ctx context.Context, d ocispec.Descriptor) (*parsed, error) {
	if !images.IsManifestType(d.MediaType) {
		return nil, cnm.Invalid("%s is no image manifest but %s", d.Digest, d.MediaType)
	}
	p := &parsed{desc: d}
	if err := readJSON(ctx, s.content(), d, maxManifest, &p.manifest); err != nil {
		return nil, err
	}
	c := p.manifest.Config
	if !images.IsConfigType(c.MediaType) {
		return nil, cnm.Invalid("%s is no container image: its config is of type %s", d.Digest, c.MediaType)
	}
	if err := readJSON(ctx, s.content(), c, maxConfig, &p.config); err != nil {
		return nil, err
	}
	return p, p.check()
}

// check holds manifest and config against each other.
func (p *parsed) check() error {
	p.diffs = p.config.RootFS.DiffIDs
	if os := p.config.OS; os != "" && os != "linux" {
		return cnm.Invalid("image operating system %q cannot be used on this platform: operating system is not supported", os)
	}
	if len(p.diffs) != len(p.manifest.Layers) {
		return cnm.Invalid("image %s is broken: its manifest has %d layers, its config %d", short(p.id()), len(p.manifest.Layers), len(p.diffs))
	}
	for _, d := range p.diffs {
		if err := d.Validate(); err != nil {
			return cnm.Invalid("image %s is broken: layer id %q: %w", short(p.id()), d, err)
		}
	}
	for _, l := range p.manifest.Layers {
		if err := l.Digest.Validate(); err != nil {
			return cnm.Invalid("image %s is broken: layer %q: %w", short(p.id()), l.Digest, err)
		}
		if !images.IsLayerType(l.MediaType) {
			return cnm.Invalid("image %s has a layer of type %s, which is no file system layer", short(p.id()), l.MediaType)
		}
	}
	p.chains = chainsOf(p.diffs)
	return nil
}

// chainsOf computes the chain ids of layers, bottom first (image-spec, "Layer
// ChainID"): the names of their snapshots.
func chainsOf(diffs []digest.Digest) (chains []string) {
	for _, c := range identity.ChainIDs(slices.Clone(diffs)) { // it works in place
		chains = append(chains, c.String())
	}
	return chains
}

func (s *Store) parseIndex(ctx context.Context, d ocispec.Descriptor) (*parsed, error) {
	var index ocispec.Index
	if err := readJSON(ctx, s.content(), d, maxManifest, &index); err != nil {
		return nil, err
	}
	host, err := want("")
	if err != nil {
		return nil, err
	}
	// The host's platform first, then whatever is there.
	tried := append(host.choose(index), wanted{MatchComparer: anyPlatform{}}.choose(index)...)
	for _, m := range tried {
		p, err := s.parse(ctx, m)
		if err == nil {
			return p, nil
		}
		if !errdefs.IsNotFound(err) && !errors.Is(err, cnm.ErrInvalid) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("index %s: no platform of it is here: %w", d.Digest, errdefs.ErrNotFound)
}

// anyPlatform takes all platforms in the order of the index.
type anyPlatform struct{}

func (anyPlatform) Match(ocispec.Platform) bool     { return true }
func (anyPlatform) Less(_, _ ocispec.Platform) bool { return false }

// size is what the image takes unpacked: the sum over its layers.
func (s *Store) size(ctx context.Context, p *parsed) (total int64, err error) {
	for _, c := range p.chains {
		n, err := s.layerSize(ctx, c)
		if errdefs.IsNotFound(err) {
			return s.packedSize(p), nil // not unpacked
		}
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (s *Store) packedSize(p *parsed) (total int64) {
	for _, l := range p.manifest.Layers {
		total += l.Size
	}
	return total
}

func (s *Store) layerSize(ctx context.Context, chain string) (int64, error) {
	s.mu.Lock()
	n, ok := s.usage[chain]
	s.mu.Unlock()
	if ok {
		return n, nil
	}
	u, err := s.snapshotter().Usage(ctx, chain)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.usage[chain] = u.Size
	s.mu.Unlock()
	return u.Size, nil
}

// image is what the engine sees of it; names are filled in by the caller.
func (s *Store) image(ctx context.Context, p *parsed) (*Image, error) {
	size, err := s.size(ctx, p)
	if err != nil {
		return nil, err
	}
	c := p.config.Config
	img := &Image{ID: p.id(), Size: size, Labels: c.Labels, Config: p.config.Image, OnBuild: c.OnBuild, Shell: c.Shell}
	img.Config.Config = c.ImageConfig
	if p.config.Created != nil {
		img.Created = *p.config.Created
	}
	if h := c.Healthcheck; h != nil {
		img.Healthcheck = &Healthcheck{
			Test: h.Test, Retries: h.Retries, Interval: h.Interval, Timeout: h.Timeout,
			StartPeriod: h.StartPeriod, StartInterval: h.StartInterval,
		}
	}
	return img, nil
}

// HistoryItem times are zero where the config has none.
func created(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
