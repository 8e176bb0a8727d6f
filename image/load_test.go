package image

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/cnm"
	"linkspan/image/imagetest"
)

func TestLoad(t *testing.T) {
	img := imagetest.Simple("base", "app")
	docker, id := imagetest.DockerArchive(img, "app:1", "me/app:latest")
	oci, ociID := imagetest.OCILayout(img, map[string]string{images.AnnotationImageName: "docker.io/library/oci:1", ocispec.AnnotationRefName: "1"},
		map[string]string{ocispec.AnnotationRefName: "quay.io/x/y:2"})
	untagged, _ := imagetest.DockerArchive(img)
	bare, _ := imagetest.OCILayout(img, map[string]string{ocispec.AnnotationRefName: "latest"})
	xz := func(b []byte) []byte {
		cmd := exec.Command("xz", "-1", "-c")
		cmd.Stdin = bytes.NewReader(b)
		out, err := cmd.Output()
		if err != nil {
			t.Logf("no xz here, gzip in its place: %v", err)
			return imagetest.Gzip(b)
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
		{"docker gz", imagetest.Gzip(docker), []string{"app:1", "me/app:latest"}, id},
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
	first, id1 := imagetest.DockerArchive(imagetest.Simple("one"), "app:1")
	second, id2 := imagetest.DockerArchive(imagetest.Simple("two"), "app:1")
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
	good, _ := imagetest.DockerArchive(imagetest.Simple("one", "two"), "app:1")
	brokenLayer, _ := imagetest.DockerArchive(imagetest.Simple("one"), "app:1")
	brokenLayer = bytes.Replace(brokenLayer, []byte("one"), []byte("eno"), 1)
	for name, c := range map[string]struct {
		b     []byte
		words string
	}{
		"empty":        {nil, "empty"},
		"no archive":   {[]byte("hello world, this is no archive at all"), "loading the archive"},
		"cut":          {good[:len(good)/3], "loading the archive"},
		"nothing":      {imagetest.Archive(), "unrecognized image format"},
		"other files":  {imagetest.Archive(imagetest.File{Name: "a", Body: []byte("b")}), "unrecognized image format"},
		"wrong layer":  {brokenLayer, "but the image's config says"},
		"no images":    {imagetest.Archive(imagetest.File{Name: "manifest.json", Body: []byte("[]")}), "holds no image"},
		"bad manifest": {imagetest.Archive(imagetest.File{Name: "manifest.json", Body: []byte(`[{"Config":"nosuch"}]`)}), `image config "nosuch" not found`},
	} {
		if _, err := r.Load(t.Context(), bytes.NewReader(c.b), nil); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.empty()
}

func TestImport(t *testing.T) {
	r := newRig(t)
	root := imagetest.Tar(map[string]string{"hello": "world"})
	for _, b := range [][]byte{root, imagetest.Gzip(root)} {
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
	reg := imagetest.New(t)
	_, id := reg.Push(imagetest.Simple("base", "app"), "lib/app:1")
	r := newRig(t)
	ref := reg.Host() + "/lib/app:1"
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
