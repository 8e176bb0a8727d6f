package imagetest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// File is one member of an archive.
type File struct {
	Name string
	Body []byte
}

// Archive packs files in their order.
func Archive(files ...File) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		_ = w.WriteHeader(&tar.Header{Name: f.Name, Mode: 0o644, Size: int64(len(f.Body)), Typeflag: tar.TypeReg})
		_, _ = w.Write(f.Body)
	}
	_ = w.Close()
	return buf.Bytes()
}

// DockerArchive is what `docker save` wrote for years: plain layers in folders.
func DockerArchive(i Image, tags ...string) (b []byte, id string) {
	_, _, blobs, m := i.Build()
	var files []File
	var layers []string
	for n := range i.Layers {
		name := fmt.Sprintf("folder%d/layer.tar", n)
		plain := Tar(map[string]string{fmt.Sprintf("layer-%d", n): i.Layers[n]})
		files = append(files, File{name, plain})
		layers = append(layers, name)
	}
	config := m.Config.Digest.Encoded() + ".json"
	list, _ := json.Marshal([]map[string]any{{"Config": config, "RepoTags": tags, "Layers": layers}})
	files = append(files, File{config, blobs[len(blobs)-1]}, File{"manifest.json", list})
	return Archive(files...), m.Config.Digest.String()
}

// OCILayout is an OCI layout with the annotations that tools write.
func OCILayout(i Image, annotations ...map[string]string) (b []byte, id string) {
	i.OCI = true
	manifest, mt, blobs, m := i.Build()
	var files []File
	for _, b := range append(blobs, manifest) {
		files = append(files, File{"blobs/sha256/" + digest.FromBytes(b).Encoded(), b})
	}
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}}
	for _, a := range annotations {
		x.Manifests = append(x.Manifests, ocispec.Descriptor{MediaType: mt, Digest: digest.FromBytes(manifest), Size: int64(len(manifest)), Annotations: a})
	}
	index, _ := json.Marshal(x)
	files = append(files, File{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, File{"index.json", index})
	return Archive(files...), m.Config.Digest.String()
}
