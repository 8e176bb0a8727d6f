package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is an image under construction.
type Image struct {
	// Layers: each is a file /layer-N with that text.
	Layers []string
	Config ocispec.Image
	// OCI makes it one by the OCI's media types; else they are Docker's.
	OCI bool
}

// Simple is an image of this host's architecture with these layers.
func Simple(layers ...string) Image {
	return Image{Layers: layers, Config: ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   ocispec.ImageConfig{Cmd: []string{"/bin/" + layers[0]}, Labels: map[string]string{"made": "by test"}},
	}}
}

// Build makes the manifest and what it names: the layers, then the config.
func (i Image) Build() (manifest []byte, mediaType string, blobs [][]byte, m ocispec.Manifest) {
	types := [3]string{images.MediaTypeDockerSchema2Manifest, images.MediaTypeDockerSchema2Config, images.MediaTypeDockerSchema2LayerGzip}
	if i.OCI {
		types = [3]string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip}
	}
	m = ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: types[0]}
	cfg := i.Config
	cfg.RootFS.Type = "layers"
	when := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	cfg.Created = &when
	for n, text := range i.Layers {
		plain := Tar(map[string]string{fmt.Sprintf("layer-%d", n): text})
		packed := Gzip(plain)
		blobs = append(blobs, packed)
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.FromBytes(plain))
		cfg.History = append(cfg.History, ocispec.History{Created: &when, CreatedBy: "COPY layer " + strconv.Itoa(n)})
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: types[2], Digest: digest.FromBytes(packed), Size: int64(len(packed))})
	}
	cfg.History = append(cfg.History, ocispec.History{Created: &when, CreatedBy: "CMD", EmptyLayer: true})
	c, _ := json.Marshal(cfg)
	blobs = append(blobs, c)
	m.Config = ocispec.Descriptor{MediaType: types[1], Digest: digest.FromBytes(c), Size: int64(len(c))}
	b, _ := json.Marshal(m)
	return b, types[0], blobs, m
}

// Push puts an image into the registry and returns its manifest's descriptor
// and its id.
func (r *Registry) Push(i Image, names ...string) (ocispec.Descriptor, string) {
	b, mt, blobs, m := i.Build()
	for _, blob := range blobs {
		r.add("application/octet-stream", blob)
	}
	return r.add(mt, b, names...), m.Config.Digest.String()
}

// PushIndex puts images for several architectures, and an attestation as buildx
// adds it, into the registry under one name. It returns their ids.
func (r *Registry) PushIndex(mediaType string, platforms map[string]Image, name string) (ocispec.Descriptor, map[string]string) {
	repo := name[:strings.LastIndexByte(name, ':')]
	ids := map[string]string{}
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType}
	x.Manifests = append(x.Manifests, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Size: 9,
		Digest: digest.FromString("attestation"), Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"}})
	for arch, i := range platforms {
		i.Config.Architecture = arch
		d, id := r.Push(i, repo+":"+arch)
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		ids[arch] = id
		x.Manifests = append(x.Manifests, d)
	}
	b, _ := json.Marshal(x)
	return r.add(mediaType, b, name), ids
}

// Tar packs files by name.
func Tar(files map[string]string) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, text := range files {
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg})
		_, _ = io.WriteString(w, text)
	}
	_ = w.Close()
	return buf.Bytes()
}

// Gzip compresses.
func Gzip(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(b)
	_ = w.Close()
	return buf.Bytes()
}
