package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/cnm"
	"linkspan/image/imagetest"
)

func (r *rig) load(b []byte) []string {
	r.t.Helper()
	names, err := r.Load(r.t.Context(), bytes.NewReader(b), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return names
}

func (r *rig) save(refs ...string) []byte {
	r.t.Helper()
	var buf bytes.Buffer
	if err := r.Save(r.t.Context(), refs, "", &buf); err != nil {
		r.t.Fatal(err)
	}
	return buf.Bytes()
}

func members(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := out[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		out[h.Name], _ = io.ReadAll(r)
	}
}

func TestSave(t *testing.T) {
	r := newRig(t)
	one, id1 := imagetest.DockerArchive(imagetest.Simple("base", "app"), "app:1", "app:2", "me/app:latest")
	two, id2 := imagetest.OCILayout(imagetest.Simple("base", "two"), map[string]string{ocispec.AnnotationRefName: "quay.io/x/y:2"})
	r.load(one)
	r.load(two)
	for _, c := range []struct {
		name string
		refs []string
		tags map[string][]string // by config
	}{
		{"one tag", []string{"app:1"}, map[string][]string{id1: {"app:1"}}},
		{"a repository", []string{"app"}, map[string][]string{id1: {"app:1", "app:2"}}},
		{"by id", []string{id1}, map[string][]string{id1: nil}},
		{"by short id", []string{short(id2)}, map[string][]string{id2: nil}},
		{"several", []string{"app:2", "quay.io/x/y:2", "me/app"}, map[string][]string{id1: {"app:2", "me/app:latest"}, id2: {"quay.io/x/y:2"}}},
		{"twice the same", []string{"app:1", "app:1", id1}, map[string][]string{id1: {"app:1"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := r.save(c.refs...)
			files := members(t, b)
			var list []dockerManifest
			if err := json.Unmarshal(files["manifest.json"], &list); err != nil {
				t.Fatal(err)
			}
			if len(list) != len(c.tags) {
				t.Errorf("%d images in manifest.json: %+v", len(list), list)
			}
			for _, m := range list {
				id := "sha256:" + m.Config[len("blobs/sha256/"):]
				if !slices.Equal(m.RepoTags, c.tags[id]) && len(m.RepoTags)+len(c.tags[id]) > 0 {
					t.Errorf("%s has the tags %q, want %q", id, m.RepoTags, c.tags[id])
				}
				for _, f := range append(m.Layers, m.Config) {
					if files[f] == nil {
						t.Errorf("%s is not there", f)
					}
				}
			}
			for _, f := range []string{"oci-layout", "index.json", "repositories"} {
				if files[f] == nil {
					t.Errorf("%s is not there", f)
				}
			}
			if !bytes.Equal(b, r.save(c.refs...)) {
				t.Error("the same images give another archive")
			}
			other := newRig(t)
			other.load(b)
			other.collect()
			for id, tags := range c.tags {
				for _, n := range append(tags, id) {
					img := other.get(n)
					mine := r.get(id)
					if img.ID != id || img.Size != mine.Size || img.Config.Architecture != mine.Config.Architecture {
						t.Errorf("%s came back as %+v", n, img)
					}
					if err := other.Prepare(t.Context(), img, "c-"+short(id)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for _, c := range []struct {
		refs     []string
		platform string
		class    error
	}{
		{nil, "", cnm.ErrInvalid},
		{[]string{"nobody"}, "", cnm.ErrNotFound},
		{[]string{"app:1", "app:9"}, "", cnm.ErrNotFound},
		{[]string{"app:1"}, "linux/s390x", cnm.ErrNotFound},
		{[]string{"app:1"}, "nonsense/x/y/z", cnm.ErrInvalid},
	} {
		var buf bytes.Buffer
		if err := r.Save(t.Context(), c.refs, c.platform, &buf); !errors.Is(err, c.class) || buf.Len() > 0 {
			t.Errorf("%q for %q: %v with %d bytes", c.refs, c.platform, err, buf.Len())
		}
	}
	if !slices.Contains(r.actions(), "save "+id1) {
		t.Errorf("events %q", r.actions())
	}
}

func TestLayered(t *testing.T) {
	for _, oci := range []bool{false, true} {
		r := newRig(t)
		b, id := imagetest.DockerArchive(imagetest.Simple("base"), "app:1")
		if oci {
			b, id = imagetest.OCILayout(imagetest.Simple("base"), map[string]string{ocispec.AnnotationRefName: "docker.io/library/app:1"})
		}
		r.load(b)
		parent := r.get("app:1")
		layer := imagetest.Tar(map[string]string{"added": "yes", ".wh.layer-0": ""})
		made, err := r.Layered(t.Context(), parent, bytes.NewReader(layer), Layered{
			Config: ocispec.ImageConfig{Cmd: []string{"run"}, Labels: map[string]string{"k": "v"}}, Author: "me", Comment: "why",
			CreatedBy: "sh", Ref: "made:1", Healthcheck: &Healthcheck{Test: []string{"CMD", "x"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		r.collect()
		img := r.get("made:1")
		if img.ID != made || made == id || img.Config.Author != "me" || img.Labels["k"] != "v" || img.Healthcheck == nil || img.Config.Architecture != parent.Config.Architecture {
			t.Errorf("%+v", img)
		}
		p := r.must("made:1")
		if want := r.must("app:1").desc.MediaType; p.desc.MediaType != want {
			t.Errorf("a manifest of type %s on one of %s", p.desc.MediaType, want)
		}
		h, err := r.History(t.Context(), "made:1")
		if err != nil || h[0].Comment != "why" || h[0].CreatedBy != "sh" || h[0].Size == 0 {
			t.Errorf("history %+v, %v", h, err)
		}
		// The parent goes, the child works.
		r.remove("app:1", true)
		if err := r.Prepare(t.Context(), img, "c"); err != nil {
			t.Fatal(err)
		}
		if f := r.files("c"); f["added"] != "yes" || len(f) != 1 {
			t.Errorf("files %v", f)
		}
		// And saved and loaded elsewhere, too.
		other := newRig(t)
		other.load(r.save("made:1"))
		if other.get("made:1").ID != made {
			t.Error("another image came back")
		}
	}
}

// Nothing changed: the new image has no new layer.
func TestLayeredEmpty(t *testing.T) {
	r := newRig(t)
	b, _ := imagetest.DockerArchive(imagetest.Simple("base"), "app:1")
	r.load(b)
	id, err := r.Layered(t.Context(), r.get("app:1"), bytes.NewReader(imagetest.Tar(nil)), Layered{})
	if err != nil {
		t.Fatal(err)
	}
	r.collect()
	p := r.must(id)
	if len(p.manifest.Layers) != 1 || len(p.diffs) != 1 {
		t.Errorf("%+v", p.manifest)
	}
	if h := p.config.History; !h[len(h)-1].EmptyLayer {
		t.Errorf("history %+v", h)
	}
	if img := r.get(id); len(img.RepoTags) != 0 {
		t.Errorf("%+v", img)
	}
	if _, err := r.Layered(t.Context(), r.get("app:1"), bytes.NewReader(nil), Layered{Ref: "x@sha256:" + short(id)}); !errors.Is(err, cnm.ErrInvalid) {
		t.Error(err)
	}
	if _, err := r.Layered(t.Context(), &Image{ID: "sha256:gone"}, bytes.NewReader(nil), Layered{}); !errors.Is(err, cnm.ErrNotFound) {
		t.Error(err)
	}
}

func TestApplyChangesIsExported(t *testing.T) {
	var c dockerspec.DockerOCIImageConfig
	if err := ApplyChanges(&c, []string{"USER web"}); err != nil || c.User != "web" {
		t.Errorf("%+v %v", c, err)
	}
}
