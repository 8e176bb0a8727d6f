package image

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"linkspan/cnm"
)

// puller is one pull under way.
type puller struct {
	s        *Store
	ref      reference.Named // with tag or digest
	want     wanted
	fetcher  remotes.Fetcher
	root     ocispec.Descriptor // what the name leads to: a manifest or an index
	progress Progress
	// begun: layers are being fetched; what is there is worth keeping.
	begun bool
}

// Pull implements [Service]. A pull that is cut short leaves what it has under
// a lease of a day, and the next pull of the same image goes on from there.
func (s *Store) Pull(ctx context.Context, ref, platform string, auth *Auth, progress Progress) error {
	named, err := parseName(ref)
	if err != nil {
		return err
	}
	w, err := want(platform)
	if err != nil {
		return err
	}
	ctx = s.ns(ctx)
	n := s.session(auth)
	defer n.close()
	resolver, err := n.resolver(ctx, named)
	if err != nil {
		return err
	}
	p := &puller{s: s, ref: named, want: w, progress: serial(progress)}
	name, root, err := resolver.Resolve(ctx, named.String())
	if err != nil {
		return pullError(named, err)
	}
	p.root = root
	if p.fetcher, err = resolver.Fetcher(ctx, name); err != nil {
		return pullError(named, err)
	}
	p.progress(tagOrDigest(named), "Pulling from "+reference.Path(named), 0, 0)
	fresh, err := p.run(ctx)
	if err != nil {
		return pullError(named, err)
	}
	p.progress("", "Digest: "+root.Digest.String(), 0, 0)
	what := "Image is up to date for "
	if fresh {
		what = "Downloaded newer image for "
	}
	p.progress("", "Status: "+what+reference.FamiliarString(named), 0, 0)
	s.publish("pull", reference.FamiliarString(named), reference.FamiliarName(named), nil)
	return nil
}

func tagOrDigest(named reference.Named) string {
	switch n := named.(type) {
	case reference.Digested:
		return n.Digest().String()
	case reference.Tagged:
		return n.Tag()
	}
	return ""
}

// run fetches, unpacks and names; fresh says that the name led elsewhere before.
func (p *puller) run(ctx context.Context) (fresh bool, err error) {
	s := p.s
	unlock, err := s.pulling.lock(ctx, p.root.Digest.String())
	if err != nil {
		return false, err
	}
	defer unlock()
	ctx, lease, err := p.lease(ctx)
	if err != nil {
		return false, err
	}
	img, err := p.fetch(ctx)
	if err == nil {
		fresh, err = p.name(ctx, img)
	}
	switch {
	case err == nil:
		s.endLease(ctx, lease)
	case !p.begun || isFull(err) || errors.Is(err, cnm.ErrInvalid) || errdefs.IsFailedPrecondition(err):
		// Nothing worth keeping, or something that must not be kept: on a full disk
		// at once, since that is the cure.
		s.endLease(ctx, lease, leases.SynchronousDelete)
	}
	return fresh, err
}

const (
	// leasePull marks the leases that outlive their pull.
	leasePull = "pull"
	// leaseDigest says what is pulled under a lease.
	leaseDigest = "linkspan/digest"
)

// lease takes the lease of an earlier attempt up, or makes one. It is the same
// for all pulls of one digest, of which one runs at a time.
func (p *puller) lease(ctx context.Context) (context.Context, leases.Lease, error) {
	ls := p.s.cfg.Client.LeasesService()
	id := "linkspan-pull-" + p.root.Digest.Encoded()
	opts := []leases.Opt{leases.WithID(id), leases.WithExpiration(leaseTime), leases.WithLabels(map[string]string{leaseLabel: leasePull, leaseDigest: p.root.Digest.String()})}
	p.s.cfg.Hook("lease.create.before")
	l, err := ls.Create(ctx, opts...)
	p.s.cfg.Hook("lease.create.after")
	if errdefs.IsAlreadyExists(err) {
		var old []leases.Lease
		if old, err = ls.List(ctx, "id=="+id); err == nil && len(old) == 1 && time.Since(old[0].CreatedAt) > leaseTime/2 {
			// It would end under our hands. What it held is collected, unless the new
			// one is faster.
			p.s.endLease(ctx, old[0])
			l, err = ls.Create(ctx, opts...)
		} else if err == nil {
			l = leases.Lease{ID: id}
		}
	}
	if err != nil {
		return nil, l, classify(err, "a lease for the pull of %s", reference.FamiliarString(p.ref))
	}
	return leases.WithLease(ctx, l.ID), l, nil
}

// fetch brings manifest, config and layers here and unpacks them.
func (p *puller) fetch(ctx context.Context) (*parsed, error) {
	m, err := p.manifest(ctx, p.root, 0)
	if err != nil {
		return nil, err
	}
	var manifest ocispec.Manifest
	if err := readJSON(ctx, p.s.content(), m, maxManifest, &manifest); err != nil {
		return nil, err
	}
	if manifest.Config.Size > maxConfig {
		return nil, cnm.Invalid("the config of %s has %d bytes; %d are allowed", reference.FamiliarString(p.ref), manifest.Config.Size, maxConfig)
	}
	if err := p.small(ctx, manifest.Config); err != nil {
		return nil, err
	}
	img, err := p.s.parse(ctx, m)
	if err != nil {
		return nil, err
	}
	have := img.config.Platform
	if p.want.explicit && have.OS != "" && have.Architecture != "" && !p.want.Match(have) {
		return nil, cnm.NotFound("image with reference %s was found but its platform (%s) does not match the specified platform (%s)",
			reference.FamiliarString(p.ref), have.OS+"/"+have.Architecture, p.want.name)
	}
	if err := p.layers(ctx, img); err != nil {
		return nil, err
	}
	return img, p.s.link(ctx, m)
}

// small fetches what is needed before the layers and notes where it is from, so
// that a push elsewhere can mount it.
func (p *puller) small(ctx context.Context, d ocispec.Descriptor) error {
	if err := p.s.fetchSmall(ctx, p.fetcher, d); err != nil {
		return err
	}
	return p.source(ctx, d)
}

func (p *puller) source(ctx context.Context, d ocispec.Descriptor) error {
	h, err := docker.AppendDistributionSourceLabel(p.s.content(), p.ref.Name())
	if err != nil {
		return err
	}
	_, err = h(ctx, d)
	return err
}

// manifest fetches the manifest of the wanted platform, through an index if the
// name leads to one.
func (p *puller) manifest(ctx context.Context, d ocispec.Descriptor, depth int) (ocispec.Descriptor, error) {
	if d.Size > maxManifest {
		return d, cnm.Invalid("the manifest of %s has %d bytes; %d are allowed", reference.FamiliarString(p.ref), d.Size, maxManifest)
	}
	switch {
	case images.IsManifestType(d.MediaType):
		// Annotations and platform of an index are not part of the image.
		d = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
		return d, p.small(ctx, d)
	case d.MediaType == images.MediaTypeDockerSchema1Manifest:
		return d, cnm.Unsupported("%s is an image of the old manifest version 1, which registries gave up; build and push it again with a current tool", reference.FamiliarString(p.ref))
	case !images.IsIndexType(d.MediaType):
		return d, cnm.Invalid("%s is no container image but %s", reference.FamiliarString(p.ref), d.MediaType)
	case depth > 2:
		return d, cnm.Invalid("%s: indexes inside indexes, too deep", reference.FamiliarString(p.ref))
	}
	if err := p.small(ctx, d); err != nil {
		return d, err
	}
	var index ocispec.Index
	if err := readJSON(ctx, p.s.content(), d, maxManifest, &index); err != nil {
		return d, err
	}
	for _, m := range p.want.choose(index) {
		found, err := p.manifest(ctx, m, depth+1)
		if errors.Is(err, errNoMatch) {
			continue
		}
		return found, err
	}
	return d, p.want.noMatch()
}

// layers fetches what is missing, several at a time, and unpacks from the bottom
// as far as the layers are there.
func (p *puller) layers(ctx context.Context, img *parsed) error {
	n := len(img.chains)
	missing, unpacked := make([]bool, n), make([]bool, n)
	for i, l := range img.manifest.Layers {
		blob, err := p.s.holdBlob(ctx, l.Digest)
		if err != nil {
			return err
		}
		if unpacked[i], err = p.s.holdSnapshot(ctx, img.chains[i]); err != nil {
			return err
		}
		missing[i] = !blob
		status := "Pulling fs layer"
		if blob && unpacked[i] {
			status = "Already exists"
		}
		p.progress(short(l.Digest.String()), status, 0, 0)
	}
	p.begun = true
	g, ctx := errgroup.WithContext(ctx)
	// One download per digest: an image may hold the same layer twice.
	arrived := map[digest.Digest]chan struct{}{}
	for i, l := range img.manifest.Layers {
		if arrived[l.Digest] != nil || !missing[i] {
			continue
		}
		ch := make(chan struct{})
		arrived[l.Digest] = ch
		g.Go(func() error {
			if err := p.s.fetchLayer(ctx, p.fetcher, l, p.progress); err != nil {
				return fmt.Errorf("layer %s: %w", short(l.Digest.String()), err)
			}
			close(ch)
			if unpacked[i] {
				p.progress(short(l.Digest.String()), "Pull complete", 0, 0)
			}
			return p.source(ctx, l)
		})
	}
	g.Go(func() error {
		return p.s.unpack(ctx, img, p.progress, func(i int) error {
			ch := arrived[img.manifest.Layers[i].Digest]
			if ch == nil {
				return nil
			}
			select {
			case <-ch:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	return g.Wait()
}

// name gives the image its names: the tag, and the digest under which it was
// found, which stays when the tag moves on.
func (p *puller) name(ctx context.Context, img *parsed) (fresh bool, err error) {
	s := p.s
	byDigest, err := reference.WithDigest(reference.TrimNamed(p.ref), p.root.Digest)
	if err != nil {
		return false, err
	}
	s.names.Lock()
	defer s.names.Unlock()
	all, err := s.records(ctx)
	if err != nil {
		return false, err
	}
	if r := lookup(all, p.ref); r == nil || r.parsed == nil || r.parsed.id() != img.id() {
		fresh = true
	}
	for _, name := range []string{byDigest.String(), p.ref.String()} {
		if _, err := s.set(ctx, name, img); err != nil {
			return false, err
		}
	}
	return fresh, nil
}
