package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"linkspan/cnm"
)

// maxUploads is how many layers are sent at a time, as dockerd does.
const maxUploads = 5

// pusher is one push under way.
type pusher struct {
	s        *Store
	ref      reference.NamedTagged
	p        *parsed
	remote   remotes.Pusher
	tracker  docker.StatusTracker
	progress Progress
}

// Push implements [Service].
func (s *Store) Push(ctx context.Context, ref, platform string, auth *Auth, progress Progress) error {
	named, err := parseName(ref)
	if err != nil {
		return err
	}
	tagged, ok := named.(reference.NamedTagged)
	if !ok {
		return cnm.Invalid("cannot push a digest reference: %s", ref)
	}
	wish, err := want(platform)
	if err != nil {
		return err
	}
	ctx, done, err := s.lease(s.ns(ctx), "push")
	if err != nil {
		return err
	}
	defer done()
	p := &pusher{s: s, ref: tagged, progress: serial(progress), tracker: docker.NewInMemoryTracker()}
	if p.p, err = s.pushed(ctx, tagged, wish); err != nil {
		return err
	}
	n := s.session(auth)
	n.tracker = p.tracker
	defer n.close()
	resolver, err := n.resolver(ctx, tagged)
	if err != nil {
		return err
	}
	if p.remote, err = resolver.Pusher(ctx, tagged.String()+"@"+p.p.desc.Digest.String()); err != nil {
		return pushError(tagged, err)
	}
	p.progress("", "The push refers to repository ["+tagged.Name()+"]", 0, 0)
	if err := p.run(ctx); err != nil {
		return pushError(tagged, err)
	}
	p.progress("", fmt.Sprintf("%s: digest: %s size: %d", tagged.Tag(), p.p.desc.Digest, p.p.desc.Size), 0, 0)
	s.publish("push", reference.FamiliarString(tagged), reference.FamiliarName(tagged), nil)
	return nil
}

// pushed finds what a tag leads to and holds it.
func (s *Store) pushed(ctx context.Context, tagged reference.NamedTagged, wish wanted) (*parsed, error) {
	s.names.RLock()
	all, err := s.records(ctx)
	s.names.RUnlock()
	if err != nil {
		return nil, err
	}
	r := lookup(all, tagged)
	switch {
	case r == nil && !slices.ContainsFunc(all, func(r record) bool { n := r.named(); return n != nil && n.Name() == tagged.Name() }):
		return nil, cnm.NotFound("An image does not exist locally with the tag: %s", reference.FamiliarName(tagged))
	case r == nil:
		return nil, cnm.NotFound("tag does not exist: %s", reference.FamiliarString(tagged))
	case r.parsed == nil:
		return nil, cnm.Errorf(cnm.ErrUnavailable, "image %s is damaged: its content is not all in containerd's store; pull it again", reference.FamiliarString(tagged))
	}
	if have := r.parsed.config.Platform; wish.explicit && have.OS != "" && !wish.Match(have) {
		return nil, cnm.NotFound("image with reference %s was found but does not provide the specified platform (%s); it is of %s/%s", reference.FamiliarString(tagged), wish.name, have.OS, have.Architecture)
	}
	return s.holdImage(ctx, r.parsed.id())
}

// run sends layers, config and manifest, in the order in which a registry takes
// them, and gives the image the name that it then has there.
func (p *pusher) run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(maxUploads)
	seen := map[digest.Digest]bool{}
	type upload struct {
		d  ocispec.Descriptor
		id string
	}
	var todo []upload
	for i, l := range slices.Backward(p.p.manifest.Layers) {
		if !seen[l.Digest] {
			seen[l.Digest] = true
			todo = append(todo, upload{l, short(p.p.diffs[i].String())})
		}
	}
	for i, u := range todo {
		p.progress(u.id, "Preparing", 0, 0)
		if i >= maxUploads {
			p.progress(u.id, "Waiting", 0, 0)
		}
	}
	for _, u := range todo {
		g.Go(func() error { return p.send(gctx, u.d, u.id) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, d := range []ocispec.Descriptor{p.p.manifest.Config, p.p.desc} {
		if err := p.send(ctx, d, ""); err != nil {
			return err
		}
	}
	return p.name(ctx)
}

// send uploads one blob unless it is there; id names a layer to the person.
func (p *pusher) send(ctx context.Context, d ocispec.Descriptor, id string) error {
	tell := func(status string, n, total int64) {
		if id != "" {
			p.progress(id, status, n, total)
		}
	}
	info, err := p.s.content().Info(ctx, d.Digest)
	if err != nil {
		return err
	}
	// Where the blob was pulled from: the registry may take it from there.
	d.Annotations = map[string]string{}
	for k, v := range info.Labels {
		if strings.HasPrefix(k, labels.LabelDistributionSource) {
			d.Annotations[k] = v
		}
	}
	w, err := p.remote.Push(ctx, d)
	if errdefs.IsAlreadyExists(err) {
		status := "Layer already exists"
		if st, terr := p.tracker.GetStatus(remotes.MakeRefKey(ctx, d)); terr == nil && st.MountedFrom != "" {
			status = "Mounted from " + familiarRepo(st.MountedFrom)
		}
		tell(status, 0, 0)
		return p.source(ctx, d)
	}
	if err != nil {
		return err
	}
	defer w.Close()
	r, err := p.s.content().ReaderAt(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close()
	tell("Pushing", 0, d.Size)
	counted := &counter{ReadCloser: blobReader{io.NewSectionReader(r, 0, r.Size())}, total: d.Size, tell: func(n int64) { tell("Pushing", n, d.Size) }}
	if err := content.Copy(ctx, w, counted, d.Size, d.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	tell("Pushed", 0, 0)
	return p.source(ctx, d)
}

// source notes that the registry has a blob now.
func (p *pusher) source(ctx context.Context, d ocispec.Descriptor) error {
	h, err := docker.AppendDistributionSourceLabel(p.s.content(), p.ref.Name())
	if err == nil {
		_, err = h(ctx, d)
	}
	return err
}

// blobReader closes nothing: whoever opened the blob does.
type blobReader struct{ *io.SectionReader }

func (blobReader) Close() error { return nil }

func familiarRepo(name string) string {
	if n, err := reference.ParseNormalizedNamed(name); err == nil {
		return reference.FamiliarName(n)
	}
	return name
}

// name gives the image the digest under which the registry has it.
func (p *pusher) name(ctx context.Context) error {
	byDigest, err := reference.WithDigest(reference.TrimNamed(p.ref), p.p.desc.Digest)
	if err != nil {
		return err
	}
	p.s.names.Lock()
	defer p.s.names.Unlock()
	all, err := p.s.records(ctx)
	if err != nil {
		return err
	}
	if r := lookup(all, p.ref); r == nil || r.parsed == nil || r.parsed.id() != p.p.id() {
		return nil // it was removed or named anew meanwhile: what is pushed is pushed
	}
	_, err = p.s.set(ctx, byDigest.String(), p.p)
	return err
}

// pushError turns what came of it into Docker's words.
func pushError(ref reference.Named, err error) error {
	name := reference.FamiliarName(ref)
	var status remoteerrors.ErrUnexpectedStatus
	switch {
	case errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden):
		said := or(registrySays(status.Body), "unauthorized: authentication required")
		return cnm.Errorf(cnm.ErrForbidden, "push access denied for %s: %s; `%s` first", name, said, loginCommand(ref))
	case errors.Is(err, docker.ErrInvalidAuthorization):
		return cnm.Errorf(cnm.ErrForbidden, "push access denied for %s: denied: requested access to the resource is denied; `%s` first", name, loginCommand(ref))
	case errdefs.IsNotImplemented(err) && strings.Contains(err.Error(), "auth scheme"):
		return cnm.Errorf(cnm.ErrForbidden, "push access denied for %s: no basic auth credentials; `%s` first", name, loginCommand(ref))
	case errdefs.IsNotFound(err) && !isClassed(err):
		return cnm.Errorf(cnm.ErrUnavailable, "pushing %s: a layer of it is not in containerd's store (%w); pull the image again", name, err)
	}
	return registryError("pushing", ref, err)
}

func loginCommand(ref reference.Named) string {
	if d := reference.Domain(ref); d != "docker.io" {
		return "docker login " + d
	}
	return "docker login"
}
