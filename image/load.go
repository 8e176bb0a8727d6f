package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/distribution/reference"
	"github.com/moby/go-archive/compression"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/cnm"
)

// Load implements [Service]: the archive of `docker save` or an OCI layout, plain
// or compressed. An image without a name is loaded too; its id stands in names.
func (s *Store) Load(ctx context.Context, r io.Reader, progress Progress) (names []string, err error) {
	ctx = s.ns(ctx)
	progress = serial(progress)
	plain, err := decompress(r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	ctx, done, err := s.lease(ctx, "load")
	if err != nil {
		return nil, err
	}
	defer done()
	root, err := archive.ImportIndex(ctx, s.content(), plain)
	if err != nil {
		return nil, archiveError(err)
	}
	var index ocispec.Index
	if err := readJSON(ctx, s.content(), root, maxManifest, &index); err != nil {
		return nil, archiveError(err)
	}
	for _, d := range index.Manifests {
		if !images.IsManifestType(d.MediaType) && !images.IsIndexType(d.MediaType) || d.Platform != nil && d.Platform.OS == "unknown" {
			continue // signatures and attestations stand beside images
		}
		name, err := s.loadOne(ctx, d, progress)
		if err != nil {
			return names, err
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, cnm.Invalid("the archive holds no image")
	}
	return names, nil
}

// decompress finds the compression by the first bytes.
func decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReader(r)
	if _, err := buffered.Peek(1); err != nil {
		return nil, cnm.Invalid("the archive is empty: %w", err)
	}
	plain, err := compression.DecompressStream(buffered)
	if err != nil {
		return nil, cnm.Invalid("the archive cannot be unpacked: %w", err)
	}
	return plain, nil
}

// archiveError: what is wrong with an archive is the client's to mend, unless it
// is containerd that fails.
func archiveError(err error) error {
	if c := classify(err, "loading the archive"); isClassed(c) || errors.Is(err, context.Canceled) {
		return c
	}
	return cnm.Invalid("loading the archive: %w", err)
}

// loadOne unpacks and names one image of an archive.
func (s *Store) loadOne(ctx context.Context, d ocispec.Descriptor, progress Progress) (string, error) {
	named := archivedName(d.Annotations)
	label := "an image without a name"
	if named != nil {
		label = reference.FamiliarString(named)
	}
	img, err := s.parse(ctx, ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
	if err != nil {
		return "", archiveError(fmt.Errorf("%s: %w", label, err))
	}
	if err := s.link(ctx, img.desc); err != nil {
		return "", archiveError(fmt.Errorf("%s: a layer is missing: %w", label, err))
	}
	loading := func(id, status string, current, total int64) {
		if status == "Extracting" {
			status = "Loading layer"
		}
		progress(id, status, current, total)
	}
	if err := s.unpack(ctx, img, loading, nil); err != nil {
		return "", archiveError(fmt.Errorf("%s: %w", label, err))
	}
	s.names.Lock()
	defer s.names.Unlock()
	if named == nil {
		if err := s.keep(ctx, img); err != nil {
			return "", err
		}
		s.publish("load", img.id(), img.id(), img.labels())
		return img.id(), nil
	}
	orphan, err := s.set(ctx, named.String(), img)
	if err != nil {
		return "", err
	}
	if orphan != "" {
		progress("", fmt.Sprintf("The image %s already exists, renaming the old one with ID %s to empty string", reference.FamiliarString(named), orphan), 0, 0)
	}
	s.publish("load", img.id(), img.id(), img.labels())
	return reference.FamiliarString(named), nil
}

// archivedName reads the name that an archive gives an image. Tools write a
// whole name into containerd's annotation; the OCI one often has a tag alone,
// which is no name.
func archivedName(annotations map[string]string) reference.Named {
	name := annotations[images.AnnotationImageName]
	if name == "" {
		if name = annotations[ocispec.AnnotationRefName]; !strings.ContainsAny(name, ":/") {
			return nil
		}
	}
	named, err := parseName(name)
	if err != nil {
		return nil
	}
	if _, ok := named.(reference.Tagged); !ok {
		return nil
	}
	return named
}

// keep gives an image without a name a dangling one. s.names is held.
func (s *Store) keep(ctx context.Context, p *parsed) error {
	all, err := s.records(ctx)
	if err != nil || len(ofID(all, p.id())) > 0 {
		return err
	}
	return s.create(ctx, danglingName(p.desc.Digest), p.desc)
}
