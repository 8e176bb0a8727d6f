package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/cnm"
)

// file is one member of an archive.
type file struct {
	name string
	body []byte
}

func archiveOf(files ...file) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		_ = w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.body)), Typeflag: tar.TypeReg})
		_, _ = w.Write(f.body)
	}
	_ = w.Close()
	return buf.Bytes()
}

// dockerArchive is what `docker save` wrote for years: plain layers in folders.
func dockerArchive(i testImage, tags ...string) (b []byte, id string) {
	_, _, blobs, m := i.build()
	var files []file
	var layers []string
	for n := range i.layers {
		name := fmt.Sprintf("folder%d/layer.tar", n)
		plain := tarOf(map[string]string{fmt.Sprintf("layer-%d", n): i.layers[n]})
		files = append(files, file{name, plain})
		layers = append(layers, name)
	}
	config := m.Config.Digest.Encoded() + ".json"
	list, _ := json.Marshal([]map[string]any{{"Config": config, "RepoTags": tags, "Layers": layers}})
	files = append(files, file{config, blobs[len(blobs)-1]}, file{"manifest.json", list})
	return archiveOf(files...), m.Config.Digest.String()
}

// ociLayout is an OCI layout with the annotations that tools write.
func ociLayout(i testImage, annotations ...map[string]string) (b []byte, id string) {
	i.oci = true
	manifest, mt, blobs, m := i.build()
	var files []file
	for _, b := range append(blobs, manifest) {
		files = append(files, file{"blobs/sha256/" + digest.FromBytes(b).Encoded(), b})
	}
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}}
	for _, a := range annotations {
		x.Manifests = append(x.Manifests, ocispec.Descriptor{MediaType: mt, Digest: digest.FromBytes(manifest), Size: int64(len(manifest)), Annotations: a})
	}
	index, _ := json.Marshal(x)
	files = append(files, file{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, file{"index.json", index})
	return archiveOf(files...), m.Config.Digest.String()
}

func TestLoad(t *testing.T) {
	img := simple("base", "app")
	docker, id := dockerArchive(img, "app:1", "me/app:latest")
	oci, ociID := ociLayout(img, map[string]string{images.AnnotationImageName: "docker.io/library/oci:1", ocispec.AnnotationRefName: "1"},
		map[string]string{ocispec.AnnotationRefName: "quay.io/x/y:2"})
	untagged, _ := dockerArchive(img)
	bare, _ := ociLayout(img, map[string]string{ocispec.AnnotationRefName: "latest"})
	xz := func(b []byte) []byte {
		cmd := exec.Command("xz", "-1", "-c")
		cmd.Stdin = bytes.NewReader(b)
		out, err := cmd.Output()
		if err != nil {
			t.Logf("no xz here, gzip in its place: %v", err)
			return gz(b)
		}
		return out
	}
	for _, c := range []struct {
		name    string
		archive []byte
		want    []string
		id      string
	}{
		{"docker", docker, []string{"app:1", "me/app:latest"}, id},
		{"docker gz", gz(docker), []string{"app:1", "me/app:latest"}, id},
		{"docker xz", xz(docker), []string{"app:1", "me/app:latest"}, id},
		{"oci", oci, []string{"oci:1", "quay.io/x/y:2"}, ociID},
		{"docker without tags", untagged, []string{id}, id},
		{"oci without names", bare, []string{ociID}, ociID},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			got := &lines{}
			names, err := r.Load(t.Context(), bytes.NewReader(c.archive), got.tell)
			if err != nil || !slices.Equal(names, c.want) {
				t.Fatalf("loaded %q, %v; want %q", names, err, c.want)
			}
			got.has(t, ": Loading layer")
			r.collect()
			for _, n := range names {
				if img := r.get(n); img.ID != c.id || len(img.Digests) != 0 {
					t.Errorf("%s: %+v", n, img)
				}
			}
			if err := r.Prepare(t.Context(), r.get(c.id), "c"); err != nil {
				t.Fatal(err)
			}
			if f := r.files("c"); !reflect.DeepEqual(f, map[string]string{"layer-0": "base", "layer-1": "app"}) {
				t.Errorf("files %v", f)
			}
			if _, err := r.Load(t.Context(), bytes.NewReader(c.archive), nil); err != nil {
				t.Errorf("again: %v", err)
			}
			if err := r.snapshotter().Remove(r.ns(t.Context()), "c"); err != nil {
				t.Fatal(err)
			}
			r.remove(c.id, true)
			r.empty()
		})
	}
}

func TestLoadMovesTags(t *testing.T) {
	r := newRig(t)
	first, id1 := dockerArchive(simple("one"), "app:1")
	second, id2 := dockerArchive(simple("two"), "app:1")
	for _, b := range [][]byte{first, second} {
		l := &lines{}
		if _, err := r.Load(t.Context(), bytes.NewReader(b), l.tell); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(b, second) {
			l.has(t, "The image app:1 already exists, renaming the old one with ID "+id1+" to empty string")
		}
	}
	r.collect()
	if r.get("app:1").ID != id2 || len(r.get(id1).RepoTags) != 0 {
		t.Error("the tag did not move")
	}
	if err := r.Prepare(t.Context(), r.get(id1), "c"); err != nil {
		t.Errorf("the old image is broken: %v", err)
	}
	// A name for it ends its dangling one.
	r.tag(id1, "back")
	if _, _, _, names := r.state(); slices.ContainsFunc(names, isDangling) {
		t.Errorf("names %v", names)
	}
}

func TestLoadRefuses(t *testing.T) {
	r := newRig(t)
	good, _ := dockerArchive(simple("one", "two"), "app:1")
	brokenLayer, _ := dockerArchive(simple("one"), "app:1")
	brokenLayer = bytes.Replace(brokenLayer, []byte("one"), []byte("eno"), 1)
	missing, _ := ociLayout(simple("one"), nil)
	i := bytes.Index(missing, []byte("blobs/"))
	missing = append(append(missing[:i:i], []byte("blabs/")...), missing[i+6:]...)
	for name, c := range map[string]struct {
		b     []byte
		words string
	}{
		"empty":        {nil, "empty"},
		"no archive":   {[]byte("hello world, this is no archive at all"), "loading the archive"},
		"cut":          {good[:len(good)/3], "loading the archive"},
		"nothing":      {archiveOf(), "unrecognized image format"},
		"other files":  {archiveOf(file{"a", []byte("b")}), "unrecognized image format"},
		"wrong layer":  {brokenLayer, "but the image's config says"},
		"no images":    {archiveOf(file{"manifest.json", []byte("[]")}), "holds no image"},
		"bad manifest": {archiveOf(file{"manifest.json", []byte(`[{"Config":"nosuch"}]`)}), `image config "nosuch" not found`},
	} {
		if _, err := r.Load(t.Context(), bytes.NewReader(c.b), nil); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.empty()
}

func TestImport(t *testing.T) {
	r := newRig(t)
	root := tarOf(map[string]string{"hello": "world"})
	for _, b := range [][]byte{root, gz(root)} {
		id, err := r.Import(t.Context(), bytes.NewReader(b), "mine:1", "from a test",
			[]string{`CMD ["/bin/sh"]`, "ENV A=1 B='two words'", "EXPOSE 80 53/udp\nWORKDIR /srv", "LABEL x=y"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		img := r.get("mine:1")
		c := img.Config.Config
		if img.ID != id || !slices.Equal(c.Cmd, []string{"/bin/sh"}) || !slices.Equal(c.Env, []string{"A=1", "B=two words"}) || c.WorkingDir != "/srv" ||
			c.Labels["x"] != "y" || len(c.ExposedPorts) != 2 || img.Config.OS != "linux" {
			t.Errorf("image %+v", img)
		}
		h, err := r.History(t.Context(), "mine:1")
		if err != nil || len(h) != 1 || h[0].Comment != "from a test" || h[0].ID != id || h[0].Size == 0 || !slices.Equal(h[0].Tags, []string{"mine:1"}) {
			t.Errorf("history %+v, %v", h, err)
		}
	}
	id, err := r.Import(t.Context(), bytes.NewReader(root), "", "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.collect()
	if err := r.Prepare(t.Context(), r.get(id), "c"); err != nil {
		t.Fatal(err)
	}
	if f := r.files("c"); f["hello"] != "world" {
		t.Errorf("files %v", f)
	}
	for _, c := range []struct {
		ref     string
		changes []string
		body    io.Reader
		words   string
	}{
		{"Bad", nil, bytes.NewReader(root), "invalid reference format"},
		{"x@" + someDigest, nil, bytes.NewReader(root), "cannot import digest reference"},
		{"x", []string{"RUN rm -rf /"}, bytes.NewReader(root), "RUN is not a valid change command"},
		{"x", nil, strings.NewReader(""), "empty"},
		{"x", nil, strings.NewReader(strings.Repeat("no tar", 1000)), "loading the archive"},
	} {
		if _, err := r.Import(t.Context(), c.body, c.ref, "", c.changes, nil); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s %q: %v", c.ref, c.changes, err)
		}
	}
	r.gone("x")
}

func TestHistory(t *testing.T) {
	reg := newRegistry(t)
	_, id := reg.push(simple("base", "app"), "lib/app:1")
	r := newRig(t)
	ref := reg.host() + "/lib/app:1"
	r.pull(ref)
	h, err := r.History(t.Context(), ref)
	if err != nil || len(h) != 3 {
		t.Fatalf("%+v, %v", h, err)
	}
	if h[0].ID != id || h[0].CreatedBy != "CMD" || h[0].Size != 0 || !slices.Equal(h[0].Tags, []string{ref}) || h[0].Created.IsZero() {
		t.Errorf("top %+v", h[0])
	}
	if h[1].ID != "<missing>" || h[1].CreatedBy != "COPY layer 1" || h[1].Size == 0 || h[2].CreatedBy != "COPY layer 0" {
		t.Errorf("below %+v", h[1:])
	}
	if _, err := r.History(t.Context(), "nosuch"); !errors.Is(err, cnm.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
}
