package image

import (
	"bytes"
	"context"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/cnm"
)

// contents is containerd's content store for the helpers of its library. Those
// take "unavailable" for a blob that another writer has locked, and wait for it
// without end, also when it is containerd that is away: that becomes another
// error here.
type contents struct{ content.Store }

// Writer implements [content.Ingester].
func (c contents) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	w, err := c.Store.Writer(ctx, opts...)
	if errdefs.IsUnavailable(err) && !strings.Contains(err.Error(), "locked") {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "containerd does not answer: %v", err)
	}
	return w, err
}

// writeBlob stores bytes under their digest.
func (s *Store) writeBlob(ctx context.Context, mediaType string, b []byte) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	err := content.WriteBlob(ctx, s.content(), "linkspan-"+d.Digest.Encoded(), bytes.NewReader(b), d)
	return d, err
}

// commit ends a write; content that is there already is as good.
func commit(ctx context.Context, w content.Writer, d ocispec.Descriptor) error {
	err := w.Commit(ctx, d.Size, d.Digest)
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}
