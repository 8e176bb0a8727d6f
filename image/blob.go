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
	if err == nil {
		return writer{w, ctx}, nil
	}
	if strings.Contains(err.Error(), "locked") {
		return nil, err
	}
	return nil, away(ctx, err)
}

// writer is a write whose stream can break. ctx is the stream's own.
type writer struct {
	content.Writer
	ctx context.Context
}

func (w writer) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	return n, away(w.ctx, err)
}

func (w writer) Commit(ctx context.Context, size int64, d digest.Digest, opts ...content.Opt) error {
	return away(w.ctx, w.Writer.Commit(ctx, size, d, opts...))
}

// away finds the errors of a broken connection to containerd. On a stream gRPC
// says EOF for it (grpc.ClientStream, SendMsg), of which containerd's library
// leaves the word alone; it says the same if we ended the stream.
func away(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errdefs.IsUnavailable(err), strings.HasSuffix(err.Error(), "EOF"):
		return cnm.Errorf(cnm.ErrUnavailable, "containerd does not answer: %v", err)
	}
	return err
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
