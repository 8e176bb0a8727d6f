package images

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// fakeRegistry keeps what it is sent and refuses what the distribution
// specification refuses.
type fakeRegistry struct {
	mu        sync.Mutex
	blobs     map[string]map[string]bool // repository → digest
	manifests map[string][]byte
	uploads   int
	mounts    int
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	repo, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
	digest := r.URL.Query().Get("digest")
	switch {
	case r.Method == http.MethodPost && rest == "uploads/":
		q := r.URL.Query()
		if f.blobs[q.Get("from")][q.Get("mount")] {
			f.add(repo, q.Get("mount"))
			f.mounts++
			w.WriteHeader(http.StatusCreated)
			return
		}
		w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/7?state=abc")
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPut && rest == "uploads/7":
		data, _ := io.ReadAll(r.Body)
		if r.URL.Query().Get("state") != "abc" || digestOf(data) != digest {
			http.Error(w, "digest mismatch", http.StatusBadRequest)
			return
		}
		f.add(repo, digest)
		f.uploads++
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPut:
		name := strings.TrimPrefix(r.URL.Path, "/v2/")
		repo, _, _ := strings.Cut(name, "/manifests/")
		data, _ := io.ReadAll(r.Body)
		var m manifest
		if err := json.Unmarshal(data, &m); err != nil || r.Header.Get("Content-Type") != typeManifest {
			http.Error(w, "manifest invalid", http.StatusBadRequest)
			return
		}
		for _, d := range append(m.Layers, m.Config) {
			if !f.blobs[repo][d.Digest] {
				http.Error(w, "blob unknown "+d.Digest, http.StatusNotFound)
				return
			}
		}
		f.manifests[name] = data
		w.WriteHeader(http.StatusCreated)
	default:
		http.Error(w, "unexpected "+r.Method+" "+r.URL.Path, http.StatusTeapot)
	}
}

func (f *fakeRegistry) add(repo, digest string) {
	if f.blobs[repo] == nil {
		f.blobs[repo] = map[string]bool{}
	}
	f.blobs[repo][digest] = true
}

// onDisk makes layers that exist as files.
func onDisk(t *testing.T, names ...string) []builtLayer {
	var out []builtLayer
	for _, n := range names {
		file := filepath.Join(t.TempDir(), n)
		data := []byte("layer " + n)
		must(t, os.WriteFile(file, data, 0o644))
		out = append(out, builtLayer{layerInfo{Name: n, Digest: digestOf(data), DiffID: digestOf([]byte(n)), Size: int64(len(data))}, file})
	}
	return out
}

func TestPush(t *testing.T) {
	fake := &fakeRegistry{blobs: map[string]map[string]bool{}, manifests: map[string][]byte{}}
	server := httptest.NewServer(fake)
	defer server.Close()
	base := onDisk(t, "base")
	p := &pusher{base: server.URL, client: server.Client(), home: map[string]string{}}
	for _, name := range []string{"one", "two"} {
		built, err := assemble(Image{Name: name, Tags: []string{"latest", "7"}, Config: RunConfig{Cmd: []string{name}}}, append(base, onDisk(t, name)...))
		must(t, err)
		must(t, p.push(context.Background(), built))
		for _, tag := range built.Tags {
			if !bytes.Equal(fake.manifests["library/"+name+"/manifests/"+tag], built.Manifest) {
				t.Errorf("%s:%s is not the manifest that was built", name, tag)
			}
		}
	}
	// Two configurations, two layers, the base once.
	if fake.uploads != 5 || fake.mounts != 1 {
		t.Errorf("%d uploads and %d mounts, want 5 and 1", fake.uploads, fake.mounts)
	}
}

func TestPushTellsWhatTheRegistrySays(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "disk full, says the registry", http.StatusInsufficientStorage)
	}))
	defer server.Close()
	built, err := assemble(Image{Name: "x", Tags: []string{"latest"}}, onDisk(t, "x"))
	must(t, err)
	p := &pusher{base: server.URL, client: server.Client(), home: map[string]string{}}
	err = p.push(context.Background(), built)
	if err == nil || !strings.Contains(err.Error(), "disk full") || !strings.Contains(err.Error(), "507") {
		t.Errorf("error %v does not carry the registry's words", err)
	}
}

func TestArchive(t *testing.T) {
	base := onDisk(t, "base")
	var images []Built
	for _, name := range []string{"one", "two"} {
		built, err := assemble(Image{Name: name, Tags: []string{"latest", "7"}}, append(base, onDisk(t, name)...))
		must(t, err)
		images = append(images, built)
	}
	var buf bytes.Buffer
	must(t, Archive(&buf, images...))
	files := map[string][]byte{}
	tr := tar.NewReader(&buf)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		if _, double := files[h.Name]; double {
			t.Errorf("%s is there twice", h.Name)
		}
		files[h.Name], err = io.ReadAll(tr)
		must(t, err)
	}
	for name, data := range files {
		if sum, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && digestOf(data) != "sha256:"+sum {
			t.Errorf("%s does not hold what its name says", name)
		}
	}
	var legacy []struct {
		Config           string
		RepoTags, Layers []string
	}
	must(t, json.Unmarshal(files["manifest.json"], &legacy))
	var index struct{ Manifests []Descriptor }
	must(t, json.Unmarshal(files["index.json"], &index))
	var names []string
	for _, m := range index.Manifests {
		if files[blobPath(m.Digest)] == nil {
			t.Errorf("index.json points at %s, which is not there", m.Digest)
		}
		names = append(names, m.Annotations["io.containerd.image.name"])
	}
	want := []string{"docker.io/library/one:latest", "docker.io/library/one:7", "docker.io/library/two:latest", "docker.io/library/two:7"}
	if !slices.Equal(names, want) {
		t.Errorf("index.json names %v, want %v", names, want)
	}
	if len(legacy) != 2 || !slices.Equal(legacy[1].RepoTags, []string{"two:latest", "two:7"}) || len(legacy[1].Layers) != 2 {
		t.Fatalf("manifest.json: %+v", legacy)
	}
	for _, l := range legacy {
		for _, name := range append(l.Layers, l.Config) {
			if files[name] == nil {
				t.Errorf("manifest.json points at %s, which is not there", name)
			}
		}
	}
	images[0].layers[0].file = "/nonexistent"
	if err := Archive(io.Discard, images[0]); err == nil || !strings.Contains(err.Error(), fmt.Sprint(images[0].layers[0].Digest)) {
		t.Errorf("a missing blob: %v", err)
	}
}
