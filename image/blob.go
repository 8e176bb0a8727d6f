package image

import (
	"bytes"
	"context"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

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
