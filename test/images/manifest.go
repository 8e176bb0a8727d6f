package images

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"runtime"
	"time"
)

// Media types of Docker's image manifest version 2, schema 2, which every
// registry and every daemon since 2016 speaks.
const (
	typeManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeConfig   = "application/vnd.docker.container.image.v1+json"
	typeLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	typeIndex    = "application/vnd.oci.image.index.v1+json"
)

// Descriptor points at a blob.
type Descriptor struct {
	MediaType   string            `json:"mediaType"`
	Size        int64             `json:"size"`
	Digest      string            `json:"digest"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        Descriptor   `json:"config"`
	Layers        []Descriptor `json:"layers"`
}

// configuration is the image configuration of image-spec v1.2.
type configuration struct {
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Created      time.Time `json:"created"`
	Config       RunConfig `json:"config"`
	RootFS       rootFS    `json:"rootfs"`
	History      []history `json:"history"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type history struct {
	Created    time.Time `json:"created"`
	CreatedBy  string    `json:"created_by"`
	EmptyLayer bool      `json:"empty_layer,omitempty"`
}

// Built is an image of which every blob exists.
type Built struct {
	Image
	// Digest is the manifest's: what a registry calls the image.
	Digest string
	// ID is the configuration's digest: what `docker images` calls it.
	ID       string
	Manifest []byte `json:"-"`
	Config   []byte `json:"-"`
	layers   []builtLayer
}

type builtLayer struct {
	layerInfo
	file string
}

// assemble is pure: the same image on the same layers gives the same bytes.
func assemble(image Image, layers []builtLayer) (Built, error) {
	config := configuration{
		Architecture: runtime.GOARCH, OS: "linux", Config: image.Config,
		RootFS: rootFS{Type: "layers"},
	}
	m := manifest{SchemaVersion: 2, MediaType: typeManifest}
	for _, l := range layers {
		if l.Created.After(config.Created) {
			config.Created = l.Created
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.DiffID)
		config.History = append(config.History, history{Created: l.Created, CreatedBy: "linkspan test/images layer " + l.Name})
		m.Layers = append(m.Layers, Descriptor{MediaType: typeLayer, Size: l.Size, Digest: l.Digest})
	}
	run, err := json.Marshal(append(append([]string{}, image.Config.Entrypoint...), image.Config.Cmd...))
	if err != nil {
		return Built{}, err
	}
	config.History = append(config.History, history{
		Created: config.Created, CreatedBy: fmt.Sprintf("linkspan test/images run %s", run), EmptyLayer: true,
	})
	out := Built{Image: image, layers: layers}
	if out.Config, err = json.Marshal(config); err != nil {
		return Built{}, err
	}
	out.ID = digestOf(out.Config)
	m.Config = Descriptor{MediaType: typeConfig, Size: int64(len(out.Config)), Digest: out.ID}
	if out.Manifest, err = json.MarshalIndent(m, "", "   "); err != nil {
		return Built{}, err
	}
	out.Digest = digestOf(out.Manifest)
	return out, nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Size is the sum of the compressed layers, in bytes.
func (b Built) Size() int64 {
	var n int64
	for _, l := range b.layers {
		n += l.Size
	}
	return n
}
