package image

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// serial makes a Progress that several goroutines may call; nil becomes one
// that tells nobody.
func serial(p Progress) Progress {
	if p == nil {
		return func(string, string, int64, int64) {}
	}
	var mu sync.Mutex
	return func(id, status string, current, total int64) {
		mu.Lock()
		defer mu.Unlock()
		p(id, status, current, total)
	}
}

// fetchSmall fetches a manifest, index or config, unless it is there.
func (s *Store) fetchSmall(ctx context.Context, f remotes.Fetcher, d ocispec.Descriptor) error {
	err := remotes.Fetch(ctx, s.content(), f, d)
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// fetchLayer fetches a layer with progress. What an earlier attempt left in the
// content store is not fetched again. It returns when the content is there and
// its digest is verified.
func (s *Store) fetchLayer(ctx context.Context, f remotes.Fetcher, d ocispec.Descriptor, p Progress) error {
	id := short(d.Digest.String())
	if !s.slots.TryAcquire(1) {
		p(id, "Waiting", 0, 0)
		if err := s.slots.Acquire(ctx, 1); err != nil {
			return err
		}
	}
	defer s.slots.Release(1)
	s.cfg.Hook("image.fetch.before")
	// The key is the one that containerd's client uses.
	w, err := content.OpenWriter(ctx, s.content(), content.WithRef(remotes.MakeRefKey(ctx, d)), content.WithDescriptor(d))
	if errdefs.IsAlreadyExists(err) {
		p(id, "Download complete", 0, 0)
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	st, err := w.Status()
	if err != nil {
		return err
	}
	r, err := f.Fetch(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close()
	p(id, "Downloading", st.Offset, d.Size)
	counted := &counter{ReadCloser: r, total: d.Size, tell: func(n int64) {
		if p(id, "Downloading", n, d.Size); n == d.Size {
			p(id, "Verifying Checksum", 0, 0)
		}
	}}
	if err := content.Copy(ctx, w, counted, d.Size, d.Digest); err != nil {
		return err
	}
	s.cfg.Hook("image.fetch.after")
	p(id, "Download complete", 0, 0)
	return nil
}

// counter tells how far a reader is, at most ten times a second and at its end.
type counter struct {
	io.ReadCloser
	at, total int64
	last      time.Time
	tell      func(int64)
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.at += int64(n)
	if now := time.Now(); n > 0 && (c.at == c.total || now.Sub(c.last) > 100*time.Millisecond) {
		c.last = now
		c.tell(c.at)
	}
	return n, err
}

// Seek lets content.Copy resume where an earlier attempt stopped.
func (c *counter) Seek(offset int64, whence int) (int64, error) {
	seeker, ok := c.ReadCloser.(io.Seeker)
	if !ok {
		return 0, errors.New("the registry's answer cannot be resumed")
	}
	n, err := seeker.Seek(offset, whence)
	if err == nil {
		c.at = n
	}
	return n, err
}

// hold adds something to the lease in ctx and says whether it exists. In this
// order nothing can collect it in between.
func (s *Store) hold(ctx context.Context, kind, id string, stat func() error) (bool, error) {
	if l, ok := leases.FromContext(ctx); ok {
		s.cfg.Hook("lease.add.before")
		err := s.cfg.Client.LeasesService().AddResource(ctx, leases.Lease{ID: l}, leases.Resource{Type: kind, ID: id})
		s.cfg.Hook("lease.add.after")
		if err != nil {
			return false, err
		}
	}
	switch err := stat(); {
	case err == nil:
		return true, nil
	case errdefs.IsNotFound(err):
		return false, nil
	default:
		return false, err
	}
}

func (s *Store) holdBlob(ctx context.Context, d digest.Digest) (bool, error) {
	return s.hold(ctx, "content", d.String(), func() error { _, err := s.content().Info(ctx, d); return err })
}

func (s *Store) holdSnapshot(ctx context.Context, key string) (bool, error) {
	return s.hold(ctx, "snapshots/"+s.cfg.Snapshotter, key, func() error { _, err := s.snapshotter().Stat(ctx, key); return err })
}

// link labels a manifest so that containerd's garbage collection finds config
// and layers through it.
func (s *Store) link(ctx context.Context, manifest ocispec.Descriptor) error {
	_, err := images.SetChildrenLabels(s.content(), images.ChildrenHandler(s.content()))(ctx, manifest)
	return err
}
