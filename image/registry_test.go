package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// testRegistry is a registry in memory (distribution-spec, pull only).
type testRegistry struct {
	*httptest.Server
	mu    sync.Mutex
	blobs map[digest.Digest][]byte
	// manifests by "name:tag" and "name@digest"; media types by digest.
	manifests map[string]digest.Digest
	types     map[digest.Digest]string
	requests  []string

	// user and password are asked for if set, as basic or through a token.
	user, password string
	token          bool
	// intercept answers a request itself if it returns true.
	intercept func(http.ResponseWriter, *http.Request) bool
}

func newRegistry(t *testing.T) *testRegistry { return startRegistry(t, httptest.NewServer) }

func startRegistry(t *testing.T, start func(http.Handler) *httptest.Server) *testRegistry {
	t.Helper()
	r := &testRegistry{blobs: map[digest.Digest][]byte{}, manifests: map[string]digest.Digest{}, types: map[digest.Digest]string{}}
	r.Server = start(r)
	t.Cleanup(r.Close)
	return r
}

// host is the registry as it stands in image names.
func (r *testRegistry) host() string { return r.Listener.Addr().String() }

// asked counts requests whose "METHOD path" contains part.
func (r *testRegistry) asked(part string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.requests {
		if strings.Contains(q, part) {
			n++
		}
	}
	return n
}

func (r *testRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, req.Method+" "+req.URL.Path+" ["+req.Header.Get("Authorization")+"]")
	intercept := r.intercept
	r.mu.Unlock()
	if intercept != nil && intercept(w, req) {
		return
	}
	if !r.allowed(w, req) {
		return
	}
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	if i := strings.LastIndex(path, "/manifests/"); i >= 0 {
		r.manifest(w, req, path[:i], path[i+len("/manifests/"):])
	} else if i := strings.LastIndex(path, "/blobs/"); i >= 0 {
		r.blob(w, req, digest.Digest(path[i+len("/blobs/"):]))
	} else if path != "" {
		http.NotFound(w, req)
	}
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}

func (r *testRegistry) allowed(w http.ResponseWriter, req *http.Request) bool {
	if r.user == "" {
		return true
	}
	user, password, basic := req.BasicAuth()
	good := basic && user == r.user && password == r.password
	if req.URL.Path == "/token" {
		if !good {
			fail(w, 401, "UNAUTHORIZED", "incorrect username or password")
			return false
		}
		fmt.Fprint(w, `{"token":"open-sesame"}`)
		return false
	}
	if r.token {
		if good = req.Header.Get("Authorization") == "Bearer open-sesame"; !good {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test"`, r.URL))
		}
	} else if !good {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	}
	if !good {
		fail(w, 401, "UNAUTHORIZED", "authentication required")
	}
	return good
}

func (r *testRegistry) manifest(w http.ResponseWriter, req *http.Request, name, ref string) {
	r.mu.Lock()
	key := name + ":" + ref
	if strings.HasPrefix(ref, "sha256:") {
		key = name + "@" + ref
	}
	d, ok := r.manifests[key]
	b, mt := r.blobs[d], r.types[d]
	r.mu.Unlock()
	if !ok {
		fail(w, 404, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	w.Header().Set("Content-Type", mt)
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	if req.Method != http.MethodHead {
		_, _ = w.Write(b)
	}
}

func (r *testRegistry) blob(w http.ResponseWriter, req *http.Request, d digest.Digest) {
	r.mu.Lock()
	b, ok := r.blobs[d]
	r.mu.Unlock()
	if !ok {
		fail(w, 404, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(b)) // with ranges
}

// add stores content and names it, if it is a manifest or an index.
func (r *testRegistry) add(mediaType string, b []byte, names ...string) ocispec.Descriptor {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := digest.FromBytes(b)
	r.blobs[d] = b
	r.types[d] = mediaType
	for _, n := range names {
		repo := n[:strings.LastIndexByte(n, ':')]
		r.manifests[n] = d
		r.manifests[repo+"@"+d.String()] = d
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// testImage is an image under construction.
type testImage struct {
	layers []string // the text of the file /layer-N in each
	config ocispec.Image
	oci    bool
}

func simple(layers ...string) testImage {
	return testImage{layers: layers, config: ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   ocispec.ImageConfig{Cmd: []string{"/bin/" + layers[0]}, Labels: map[string]string{"made": "by test"}},
	}}
}

// blobs are the image's parts: the last is the manifest.
func (i testImage) build() (manifest []byte, mediaType string, blobs [][]byte, m ocispec.Manifest) {
	types := [3]string{images.MediaTypeDockerSchema2Manifest, images.MediaTypeDockerSchema2Config, images.MediaTypeDockerSchema2LayerGzip}
	if i.oci {
		types = [3]string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip}
	}
	m = ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: types[0]}
	cfg := i.config
	cfg.RootFS.Type = "layers"
	when := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	cfg.Created = &when
	for n, text := range i.layers {
		plain := tarOf(map[string]string{fmt.Sprintf("layer-%d", n): text})
		packed := gz(plain)
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

// push puts an image into the registry and returns its manifest's descriptor
// and its id.
func (r *testRegistry) push(i testImage, names ...string) (ocispec.Descriptor, string) {
	b, mt, blobs, m := i.build()
	for _, blob := range blobs {
		r.add("application/octet-stream", blob)
	}
	return r.add(mt, b, names...), m.Config.Digest.String()
}

// pushIndex puts a list of images for several platforms into the registry.
func (r *testRegistry) pushIndex(mediaType string, platforms map[string]testImage, name string) (ocispec.Descriptor, map[string]string) {
	repo := name[:strings.LastIndexByte(name, ':')]
	ids := map[string]string{}
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType}
	x.Manifests = append(x.Manifests, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Size: 9,
		Digest: digest.FromString("attestation"), Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"}})
	for arch, i := range platforms {
		i.config.Architecture = arch
		d, id := r.push(i, repo+":"+arch)
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		ids[arch] = id
		x.Manifests = append(x.Manifests, d)
	}
	b, _ := json.Marshal(x)
	return r.add(mediaType, b, name), ids
}

func tarOf(files map[string]string) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, text := range files {
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg})
		_, _ = io.WriteString(w, text)
	}
	_ = w.Close()
	return buf.Bytes()
}

func gz(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(b)
	_ = w.Close()
	return buf.Bytes()
}
