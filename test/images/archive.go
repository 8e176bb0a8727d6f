package images

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Archive writes images as `docker save` of today does: an OCI layout that
// also has Docker's manifest.json. `docker load` of any daemon reads it, and so
// does `ctr images import`.
func Archive(w io.Writer, images ...Built) error {
	tw := tar.NewWriter(w)
	a := &archiver{tw: tw, written: map[string]bool{}}
	var legacy []map[string]any
	index := map[string]any{"schemaVersion": 2, "mediaType": typeIndex}
	var manifests []Descriptor
	for _, image := range images {
		var layers, tags []string
		for _, l := range image.layers {
			layers = append(layers, blobPath(l.Digest))
			if err := a.file(l.Digest, l.Size, l.file); err != nil {
				return err
			}
		}
		for _, b := range []struct {
			digest string
			data   []byte
		}{{image.ID, image.Config}, {image.Digest, image.Manifest}} {
			if err := a.entry(blobPath(b.digest), b.data); err != nil {
				return err
			}
		}
		for _, tag := range image.Tags {
			tags = append(tags, image.Name+":"+tag)
			manifests = append(manifests, Descriptor{
				MediaType: typeManifest, Size: int64(len(image.Manifest)), Digest: image.Digest,
				Annotations: map[string]string{
					"io.containerd.image.name":          "docker.io/" + image.Repository() + ":" + tag,
					"org.opencontainers.image.ref.name": tag,
				},
			})
		}
		legacy = append(legacy, map[string]any{"Config": blobPath(image.ID), "RepoTags": tags, "Layers": layers})
	}
	index["manifests"] = manifests
	for _, e := range []struct {
		name string
		data any
	}{
		{"oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}},
		{"index.json", index},
		{"manifest.json", legacy},
	} {
		data, err := json.Marshal(e.data)
		if err != nil {
			return err
		}
		if err := a.entry(e.name, data); err != nil {
			return err
		}
	}
	return tw.Close()
}

type archiver struct {
	tw      *tar.Writer
	written map[string]bool
}

func blobPath(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

func (a *archiver) header(name string, size int64) (already bool, err error) {
	if a.written[name] {
		return true, nil
	}
	a.written[name] = true
	return false, a.tw.WriteHeader(&tar.Header{
		Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	})
}

func (a *archiver) entry(name string, data []byte) error {
	if already, err := a.header(name, int64(len(data))); already || err != nil {
		return err
	}
	_, err := a.tw.Write(data)
	return err
}

func (a *archiver) file(digest string, size int64, from string) (err error) {
	if already, err := a.header(blobPath(digest), size); already || err != nil {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("blob %s: %w", digest, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(a.tw, f)
	return err
}
