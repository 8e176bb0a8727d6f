package image

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/image/imagetest"
)

func TestPullThroughMirror(t *testing.T) {
	reg := imagetest.New(t)
	d, id := reg.Push(imagetest.Simple("one", "two"), "library/mysql:latest", "library/mysql:9.1")
	r := newRig(t, func(c *Config) { c.Mirrors = []string{reg.URL + "/"} })
	got := r.pull("docker.io/mysql")
	got.has(t, "latest: Pulling from library/mysql", ": Pulling fs layer", ": Downloading", ": Verifying Checksum", ": Download complete",
		": Extracting", ": Pull complete", "Digest: "+d.Digest.String(), "Status: Downloaded newer image for mysql:latest")
	img := r.get("mysql")
	if img.ID != id || !slices.Equal(img.RepoTags, []string{"mysql:latest"}) || !slices.Equal(img.Digests, []string{"mysql@" + d.Digest.String()}) {
		t.Errorf("image %+v", img)
	}
	if img.Ref != "docker.io/library/mysql:latest" || img.Labels["made"] != "by test" || img.Size == 0 || img.LastTagged.IsZero() {
		t.Errorf("image %+v", img)
	}
	blobs := reg.Asked("GET /v2/library/mysql/blobs/")
	r.pull("mysql").has(t, ": Already exists", "Status: Image is up to date for mysql:latest")
	r.pull("mysql:9.1").has(t, "9.1: Pulling from library/mysql", ": Already exists", "Status: Downloaded newer image for mysql:9.1")
	r.pull("mysql@"+d.Digest.String()).has(t, d.Digest.String()+": Pulling from library/mysql", "Status: Image is up to date for mysql@"+d.Digest.String())
	if n := reg.Asked("GET /v2/library/mysql/blobs/"); n != blobs {
		t.Errorf("%d blobs were fetched again", n-blobs)
	}
	for _, ref := range []string{id, id[7:], id[7:19], "mysql:9.1", "docker.io/library/mysql", "mysql@" + d.Digest.String(), "mysql:any@" + d.Digest.String(), id[:15]} {
		if got := r.get(ref); got.ID != id {
			t.Errorf("%s is %s", ref, got.ID)
		}
	}
	if got := r.actions(); !slices.Contains(got, "pull mysql:latest") {
		t.Errorf("events %q", got)
	}
	r.collect()
	if err := r.Prepare(t.Context(), img, "c1"); err != nil {
		t.Fatal(err)
	}
	if got := r.files("c1"); !reflect.DeepEqual(got, map[string]string{"layer-0": "one", "layer-1": "two"}) {
		t.Errorf("files %v", got)
	}
	if _, _, leased, _ := r.state(); len(leased) != 0 {
		t.Errorf("leases %v", leased)
	}
}

// A mirror that lacks an image, or is away, is passed over, and never sees the login.
func TestMirrorsAreTriedInOrder(t *testing.T) {
	empty, dead, hub := imagetest.New(t), imagetest.New(t), imagetest.New(t)
	dead.Close()
	hub.Require("me", "secret", true)
	_, id := hub.Push(imagetest.Simple("one"), "library/busybox:latest")
	r := newRig(t, func(c *Config) { c.Mirrors = []string{dead.URL, empty.URL} })
	r.hub = hub.Host()
	if err := r.Pull(t.Context(), "busybox", "", &Auth{Username: "me", Password: "secret"}, nil); err != nil {
		t.Fatal(err)
	}
	if r.get("busybox").ID != id {
		t.Error("another image came")
	}
	if empty.Asked("manifests/latest") == 0 {
		t.Error("the mirror was not asked")
	}
	if n := empty.Asked("Basic") + empty.Asked("Bearer"); n > 0 {
		t.Errorf("the mirror got the login: %q", empty.Requests())
	}
}

func TestPullUnknown(t *testing.T) {
	reg := imagetest.New(t)
	reg.Push(imagetest.Simple("one"), "lib/known:latest")
	hub := imagetest.New(t)
	hub.Require("x", "", true)
	r := newRig(t)
	r.hub = hub.Host()
	h := reg.Host()
	index, _ := reg.PushIndex(images.MediaTypeDockerSchema2ManifestList, map[string]imagetest.Image{"s390x": imagetest.Simple("z")}, "lib/foreign:latest")
	_ = index
	for _, c := range []struct {
		ref, platform string
		class         error
		words         string
	}{
		{h + "/lib/unknown", "", cnm.ErrNotFound, "manifest for " + h + "/lib/unknown:latest not found: manifest unknown: manifest unknown"},
		{h + "/lib/known:other", "", cnm.ErrNotFound, "manifest for " + h + "/lib/known:other not found: manifest unknown: manifest unknown"},
		{"nosuch", "", cnm.ErrNotFound, "pull access denied for nosuch, repository does not exist or may require 'docker login': "},
		{"Upper", "", cnm.ErrInvalid, "invalid reference format"},
		{"a:b:c", "", cnm.ErrInvalid, "invalid reference format"},
		{h + "/lib/known", "windows/amd64", cnm.ErrInvalid, "operating system is not supported"},
		{h + "/lib/known", "///", cnm.ErrInvalid, "is not a platform"},
		{h + "/lib/foreign", "", cnm.ErrNotFound, "no matching manifest for linux/" + runtime.GOARCH},
		{h + "/lib/known", "linux/s390x", cnm.ErrNotFound, "does not match the specified platform (linux/s390x)"},
		{"127.0.0.1:1/x", "", cnm.ErrUnavailable, "cannot be reached"},
	} {
		err := r.Pull(t.Context(), c.ref, c.platform, nil, nil)
		if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s %s: %v", c.ref, c.platform, err)
		}
	}
	r.empty()
}

func TestPullAuth(t *testing.T) {
	for _, token := range []bool{false, true} {
		t.Run(fmt.Sprintf("token=%v", token), func(t *testing.T) {
			reg := imagetest.New(t)
			reg.Require("me", "secret", token)
			reg.Push(imagetest.Simple("one"), "team/app:1")
			r := newRig(t)
			ref := reg.Host() + "/team/app:1"
			denied := "pull access denied for " + reg.Host() + "/team/app, repository does not exist or may require 'docker login'"
			for name, auth := range map[string]*Auth{"none": nil, "wrong": {Username: "me", Password: "guess"}} {
				if err := r.Pull(t.Context(), ref, "", auth, nil); !errors.Is(err, cnm.ErrNotFound) || !strings.Contains(err.Error(), denied) {
					t.Errorf("%s: %v", name, err)
				}
				if auth != nil {
					if _, err := r.Login(t.Context(), reg.Host(), *auth); !errors.Is(err, cnm.ErrForbidden) {
						t.Errorf("login %s: %v", name, err)
					}
				}
			}
			good := Auth{Username: "me", Password: "secret"}
			if err := r.Pull(t.Context(), ref, "", &good, nil); err != nil {
				t.Error(err)
			}
			if _, err := r.Login(t.Context(), "http://"+reg.Host()+"/v2/", good); err != nil {
				t.Errorf("login: %v", err)
			}
			if token {
				if err := r.Pull(t.Context(), ref, "", &Auth{RegistryToken: "open-sesame"}, nil); err != nil {
					t.Errorf("with a registry token: %v", err)
				}
				if err := r.Pull(t.Context(), ref, "", &Auth{RegistryToken: "stale"}, nil); !errors.Is(err, cnm.ErrNotFound) {
					t.Errorf("with a stale token: %v", err)
				}
			}
		})
	}
}

func TestPullPlatforms(t *testing.T) {
	for _, mt := range []string{images.MediaTypeDockerSchema2ManifestList, ocispec.MediaTypeImageIndex} {
		t.Run(mt, func(t *testing.T) {
			reg := imagetest.New(t)
			mine := imagetest.Simple("mine")
			mine.OCI = mt == ocispec.MediaTypeImageIndex
			d, ids := reg.PushIndex(mt, map[string]imagetest.Image{runtime.GOARCH: mine, "s390x": imagetest.Simple("big")}, "lib/multi:1")
			r := newRig(t)
			ref := reg.Host() + "/lib/multi:1"
			r.pull(ref).has(t, "Digest: "+d.Digest.String())
			if img := r.get(ref); img.ID != ids[runtime.GOARCH] || img.Digests[0] != reg.Host()+"/lib/multi@"+d.Digest.String() {
				t.Errorf("image %+v", img)
			}
			// The tag follows the platform that was asked for last; the other image
			// stays, without a name.
			if err := r.Pull(t.Context(), ref, "linux/s390x", nil, nil); err != nil {
				t.Fatal(err)
			}
			if img := r.get(ref); img.ID != ids["s390x"] || img.Config.Architecture != "s390x" {
				t.Errorf("image %+v", img)
			}
			r.collect()
			img := r.get(ids[runtime.GOARCH])
			if len(img.RepoTags)+len(img.Digests) != 0 {
				t.Errorf("the first image kept names: %+v", img)
			}
			if err := r.Prepare(t.Context(), img, "c"); err != nil {
				t.Errorf("the first image is broken: %v", err)
			}
		})
	}
}

// A pull that was cut short goes on where it stopped.
func TestPullInterrupted(t *testing.T) {
	reg := imagetest.New(t)
	img := imagetest.Simple("small", noise(4<<20))
	_, _, _, m := img.Build()
	_, id := reg.Push(img, "lib/big:1")
	layer := m.Layers[1]
	r := newRig(t)
	ref := reg.Host() + "/lib/big:1"

	ctx, cancel := context.WithCancel(t.Context())
	reg.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodGet || !strings.HasSuffix(req.URL.Path, layer.Digest.String()) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(layer.Size))
		_, _ = w.Write(reg.Blob(layer.Digest)[:layer.Size/2])
		w.(http.Flusher).Flush()
		time.Sleep(300 * time.Millisecond) // containerd takes what has come
		cancel()
		<-req.Context().Done()
		return true
	})
	if err := r.Pull(ctx, ref, "", nil, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled pull: %v", err)
	}
	r.gone(ref)
	r.collect()

	var from atomic.Value
	reg.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if strings.HasSuffix(req.URL.Path, layer.Digest.String()) {
			from.Store(req.Header.Get("Range"))
		}
		return false
	})
	before := len(reg.Requests())
	r.pull(ref)
	if r.get(ref).ID != id {
		t.Error("another image came")
	}
	if v, _ := from.Load().(string); !strings.HasPrefix(v, "bytes=") || v == "bytes=0-" {
		t.Errorf("the layer was fetched from its beginning (Range %q)", v)
	}
	if slices.ContainsFunc(reg.Requests()[before:], func(q string) bool { return strings.Contains(q, m.Layers[0].Digest.String()) }) {
		t.Error("a layer that was complete was fetched again")
	}
	if _, _, leased, _ := r.state(); len(leased) != 0 {
		t.Errorf("leases %v", leased)
	}
	if _, err := r.Remove(t.Context(), ref, false, true); err != nil {
		t.Fatal(err)
	}
	r.empty()
}

// On a full disk the pull says so and gives back at once what it took.
func TestPullDiskFull(t *testing.T) {
	reg := imagetest.New(t)
	_, id := reg.Push(imagetest.Simple("small", noise(4<<20)), "lib/big:1")
	r := newRig(t)
	store := r.ctd.Dir + "/root/io.containerd.content.v1.content"
	if err := errors.Join(unix.Mount("tmpfs", store, "tmpfs", 0, "size=1m"), os.Mkdir(store+"/ingest", 0o755), os.MkdirAll(store+"/blobs/sha256", 0o755)); err != nil {
		t.Fatal(err)
	}
	err := r.Pull(t.Context(), reg.Host()+"/lib/big:1", "", nil, nil)
	if !errors.Is(err, cnm.ErrExhausted) || !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), "docker image prune") {
		t.Errorf("pull: %v", err)
	}
	r.empty()
	if err := unix.Unmount(store, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	r.pull(reg.Host() + "/lib/big:1")
	r.get(id)
}

// noise is text that does not compress.
func noise(n int) string {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}

// containerd dies in the middle: the pull says so, and the next one goes on.
func TestPullContainerdDies(t *testing.T) {
	reg := imagetest.New(t)
	_, id := reg.Push(imagetest.Simple("a", "b", "c"), "lib/x:1")
	r := newRig(t, func(c *Config) { c.MaxDownloads = 1 })
	var once sync.Once
	var blobs atomic.Int32
	reg.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if strings.Contains(req.URL.Path, "/blobs/") && blobs.Add(1) == 3 { // the config, a layer, this one
			once.Do(r.ctd.Kill)
		}
		return false
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.Pull(ctx, reg.Host()+"/lib/x:1", "", nil, nil); !errors.Is(err, cnm.ErrUnavailable) {
		t.Fatalf("pull: %v", err)
	}
	r.ctd.Run()
	deadline := time.Now().Add(time.Minute)
	for {
		err := r.Pull(t.Context(), reg.Host()+"/lib/x:1", "", nil, nil)
		if err == nil {
			break
		}
		if _, cure, told := strings.Cut(err.Error(), "(rm -r "); told { // it was making a snapshot
			folder, _, _ := strings.Cut(cure, ")")
			if err := os.RemoveAll(folder); err != nil {
				t.Fatal(err)
			}
		} else if !errors.Is(err, cnm.ErrUnavailable) || time.Now().After(deadline) {
			t.Fatalf("does not recover: %v", err)
		}
		time.Sleep(50 * time.Millisecond) // the client connects again
	}
	if r.get(id).ID != id {
		t.Error("another image came")
	}
	r.remove(id, false)
	r.empty()
}

// What an abandoned pull left goes with prune; what is not what it should be is
// not kept at all.
func TestPullBroken(t *testing.T) {
	reg := imagetest.New(t)
	_, _, _, m := imagetest.Simple("one", "two").Build()
	reg.Push(imagetest.Simple("one", "two"), "lib/broken:1")
	r := newRig(t)
	ref := reg.Host() + "/lib/broken:1"

	layer := m.Layers[1].Digest
	good := reg.Blob(layer)
	reg.SetBlob(layer, append([]byte("x"), good[1:]...))
	if err := r.Pull(t.Context(), ref, "", nil, nil); err == nil || !strings.Contains(err.Error(), short(layer.String())) {
		t.Errorf("a changed layer: %v", err)
	}
	r.empty()

	reg.SetBlob(layer, nil)
	if err := r.Pull(t.Context(), ref, "", nil, nil); err == nil {
		t.Error("a missing layer was not missed")
	}
	if _, _, err := r.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	r.empty()

	reg.SetBlob(layer, good)
	r.pull(ref)
}

func TestPullConcurrently(t *testing.T) {
	reg := imagetest.New(t)
	reg.Push(imagetest.Simple("base", "a"), "lib/a:1")
	reg.Push(imagetest.Simple("base", "b"), "lib/b:1")
	r := newRig(t)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			ref := reg.Host() + "/lib/" + string("ab"[i%2]) + ":1"
			if err := r.Pull(t.Context(), ref, "", nil, nil); err != nil {
				t.Errorf("%s: %v", ref, err)
			}
		})
	}
	wg.Wait()
	r.collect()
	_, snaps, leased, _ := r.state()
	if len(snaps) != 3 || len(leased) != 0 {
		t.Errorf("snapshots %v, leases %v", snaps, leased)
	}
	if list, err := r.List(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("images %v, %v", list, err)
	}
}

// A tag that moves leaves the old image with its digest.
func TestTagMoves(t *testing.T) {
	reg := imagetest.New(t)
	d1, id1 := reg.Push(imagetest.Simple("one"), "lib/x:latest")
	r := newRig(t)
	ref := reg.Host() + "/lib/x"
	r.pull(ref)
	_, id2 := reg.Push(imagetest.Simple("two"), "lib/x:latest")
	r.pull(ref).has(t, "Downloaded newer image")
	r.collect()
	if got := r.get(ref).ID; got != id2 {
		t.Errorf("the tag is at %s", got)
	}
	old := r.get(id1)
	if len(old.RepoTags) != 0 || !slices.Equal(old.Digests, []string{ref + "@" + d1.Digest.String()}) {
		t.Errorf("old image %+v", old)
	}
	if list, _ := r.List(t.Context()); len(list) != 2 {
		t.Errorf("images %v", list)
	}
}

func TestPullLimits(t *testing.T) {
	reg := imagetest.New(t)
	reg.Push(imagetest.Simple("a", "b", "c", "d", "e"), "lib/many:1")
	r := newRig(t, func(c *Config) { c.MaxDownloads = 1 })
	var now, most atomic.Int32
	reg.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if strings.Contains(req.URL.Path, "/blobs/") {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(20 * time.Millisecond)
			now.Add(-1)
		}
		return false
	})
	r.pull(reg.Host()+"/lib/many:1").has(t, ": Waiting")
	if most.Load() != 1 {
		t.Errorf("%d downloads at once", most.Load())
	}
}
