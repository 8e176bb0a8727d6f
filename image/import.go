package image

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"runtime"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/cnm"
)

// Import implements [Service]: a tar of a root file system becomes an image of
// one layer. ref may be empty; changes are lines of a Dockerfile.
func (s *Store) Import(ctx context.Context, r io.Reader, ref, message string, changes []string, progress Progress) (id string, err error) {
	var named reference.Named
	if ref != "" {
		if named, err = parseName(ref); err != nil {
			return "", err
		}
		if _, ok := named.(reference.Digested); ok {
			return "", cnm.Invalid("cannot import digest reference %s: a digest is computed, not given", ref)
		}
	}
	config := dockerspec.DockerOCIImageConfig{}
	if err := applyChanges(&config, changes); err != nil {
		return "", err
	}
	ctx = s.ns(ctx)
	plain, err := decompress(r)
	if err != nil {
		return "", err
	}
	defer plain.Close()
	ctx, done, err := s.lease(ctx, "import")
	if err != nil {
		return "", err
	}
	defer done()
	layer, diff, err := s.writeLayer(ctx, plain)
	if err != nil {
		return "", archiveError(err)
	}
	now := time.Now().UTC()
	img := dockerspec.DockerOCIImage{Config: config}
	img.Created = &now
	img.Architecture, img.OS = runtime.GOARCH, runtime.GOOS
	img.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diff}}
	img.History = []ocispec.History{{Created: &now, Comment: or(message, "Imported from -")}}
	p, err := s.compose(ctx, img, []ocispec.Descriptor{layer}, false)
	if err != nil {
		return "", classify(err, "importing an image")
	}
	if err := s.unpack(ctx, p, serial(nil), nil); err != nil {
		return "", archiveError(err)
	}
	s.names.Lock()
	defer s.names.Unlock()
	if named == nil {
		err = s.keep(ctx, p)
	} else {
		_, err = s.set(ctx, named.String(), p)
	}
	if err != nil {
		return "", err
	}
	if progress != nil {
		progress("", p.id(), 0, 0)
	}
	s.publish("import", p.id(), p.id(), p.labels())
	return p.id(), nil
}

// writeLayer stores a tar, compressed, and returns with it the digest of the
// plain one.
func (s *Store) writeLayer(ctx context.Context, plain io.Reader) (d ocispec.Descriptor, diff digest.Digest, err error) {
	d.MediaType = images.MediaTypeDockerSchema2LayerGzip
	w, err := content.OpenWriter(ctx, s.content(), content.WithRef("linkspan-import-"+digest.FromString(time.Now().String()).Encoded()[:16]))
	if err != nil {
		return d, "", err
	}
	defer w.Close()
	hash, size := digest.Canonical.Digester(), &tally{w: w}
	// The fastest level: the layer is kept for push and save, and most of the
	// time of an import would go into more.
	z, err := gzip.NewWriterLevel(size, gzip.BestSpeed)
	if err != nil {
		return d, "", err
	}
	if _, err := io.Copy(io.MultiWriter(z, hash.Hash()), plain); err != nil {
		return d, "", err
	}
	if err := z.Close(); err != nil {
		return d, "", err
	}
	d.Digest, d.Size = w.Digest(), size.n
	if err := commit(ctx, w, d); err != nil {
		return d, "", err
	}
	return d, hash.Digest(), nil
}

// tally counts what is written.
type tally struct {
	w io.Writer
	n int64
}

func (t *tally) Write(b []byte) (int, error) {
	n, err := t.w.Write(b)
	t.n += int64(n)
	return n, err
}

// compose writes config and manifest of an image whose layers are stored, by the
// OCI's media types or by Docker's.
func (s *Store) compose(ctx context.Context, img dockerspec.DockerOCIImage, layers []ocispec.Descriptor, oci bool) (*parsed, error) {
	configType, manifestType := images.MediaTypeDockerSchema2Config, images.MediaTypeDockerSchema2Manifest
	if oci {
		configType, manifestType = ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageManifest
	}
	config, err := s.writeJSON(ctx, configType, img)
	if err != nil {
		return nil, err
	}
	manifest, err := s.writeJSON(ctx, manifestType, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: manifestType, Config: config, Layers: layers,
	})
	if err != nil {
		return nil, err
	}
	if err := s.link(ctx, manifest); err != nil {
		return nil, err
	}
	return s.parse(ctx, manifest)
}

func (s *Store) writeJSON(ctx context.Context, mediaType string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return s.writeBlob(ctx, mediaType, b)
}
