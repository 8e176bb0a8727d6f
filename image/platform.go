package image

import (
	"context"
	"encoding/json"
	"errors"
	"sort"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/cnm"
)

// The sizes up to which manifests and configs are read: the limits that
// registries set (distribution: 4 MiB), with room for configs.
const (
	maxManifest = 4 << 20
	maxConfig   = 16 << 20
)

// wanted is which platform a person asked for.
type wanted struct {
	platforms.MatchComparer
	name     string // "linux/amd64"
	explicit bool
}

// want reads --platform; empty: this host's.
func want(platform string) (wanted, error) {
	if platform == "" {
		return wanted{platforms.Only(platforms.DefaultSpec()), platforms.Format(platforms.Normalize(platforms.DefaultSpec())), false}, nil
	}
	p, err := platforms.Parse(platform)
	if err != nil {
		return wanted{}, cnm.Invalid("%q is not a platform; it is written os/architecture or os/architecture/variant, like linux/arm64: %w", platform, err)
	}
	if p.OS != "linux" {
		return wanted{}, cnm.Invalid("image operating system %q cannot be used on this platform: operating system is not supported", p.OS)
	}
	return wanted{platforms.Only(p), platforms.Format(p), true}, nil
}

// choose returns the manifests of an index that fit, the best first. One that
// names no platform fits last: only its config could tell.
func (w wanted) choose(index ocispec.Index) []ocispec.Descriptor {
	var fit []ocispec.Descriptor
	for _, d := range index.Manifests {
		if !images.IsManifestType(d.MediaType) && !images.IsIndexType(d.MediaType) {
			continue
		}
		if d.Platform == nil || w.Match(*d.Platform) {
			fit = append(fit, d)
		}
	}
	sort.SliceStable(fit, func(i, j int) bool {
		a, b := fit[i].Platform, fit[j].Platform
		if a == nil || b == nil {
			return a != nil
		}
		return w.Less(*a, *b)
	})
	return fit
}

var errNoMatch = errors.New("no matching manifest")

// noMatch is Docker's answer when an index has nothing for the platform.
func (w wanted) noMatch() error {
	return cnm.NotFound("%w for %s in the manifest list entries", errNoMatch, w.name)
}

// readJSON reads a manifest, index or config from the content store.
func readJSON(ctx context.Context, p content.Provider, d ocispec.Descriptor, limit int64, v any) error {
	if d.Size > limit {
		return cnm.Invalid("%s of %d bytes is larger than the %d bytes that are allowed", d.MediaType, d.Size, limit)
	}
	b, err := content.ReadBlob(ctx, p, d)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return cnm.Invalid("%s %s is not valid JSON: %w", d.MediaType, d.Digest, err)
	}
	return nil
}
