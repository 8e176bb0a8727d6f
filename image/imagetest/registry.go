// Package imagetest gives tests of images a registry in memory and small images
// that are built on the spot: nothing comes from elsewhere.
package imagetest

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Registry is a registry in memory (distribution-spec).
type Registry struct {
	*httptest.Server
	mu    sync.Mutex
	blobs map[digest.Digest][]byte
	// manifests by "name:tag" and "name@digest"; media types by digest.
	manifests map[string]digest.Digest
	types     map[digest.Digest]string
	requests  []string

	user, password string
	token          bool
	intercept      func(http.ResponseWriter, *http.Request) bool
}

// New starts a registry that speaks plain http on loopback, until the test ends.
func New(t testing.TB) *Registry { return Start(t, httptest.NewServer) }

// Start starts one by httptest.NewServer or httptest.NewTLSServer.
func Start(t testing.TB, start func(http.Handler) *httptest.Server) *Registry {
	t.Helper()
	r := &Registry{blobs: map[digest.Digest][]byte{}, manifests: map[string]digest.Digest{}, types: map[digest.Digest]string{}}
	r.Server = start(r)
	t.Cleanup(r.Close)
	return r
}

// Host is the registry as it stands in image names.
func (r *Registry) Host() string { return r.Listener.Addr().String() }

// Require makes the registry ask for a login, by basic authentication or, as
// large registries do, through a token. The token is "open-sesame".
func (r *Registry) Require(user, password string, token bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.user, r.password, r.token = user, password, token
}

// Intercept lets f answer the requests for which it returns true.
func (r *Registry) Intercept(f func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.intercept = f
}

// Requests are the requests so far: "METHOD path [authorization]".
func (r *Registry) Requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// Blob is what the registry has under a digest, and SetBlob replaces that, by
// other bytes too; nil removes it.
func (r *Registry) Blob(d digest.Digest) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.blobs[d]
}

// SetBlob is described at Blob.
func (r *Registry) SetBlob(d digest.Digest, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b == nil {
		delete(r.blobs, d)
	} else {
		r.blobs[d] = b
	}
}

// Asked counts requests whose "METHOD path" contains part.
func (r *Registry) Asked(part string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.requests {
		if strings.Contains(q, part) {
			n++
		}
	}
	return n
}

func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
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
	} else if i := strings.LastIndex(path, "/blobs/uploads/"); i >= 0 {
		r.upload(w, req, path[:i])
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

func (r *Registry) allowed(w http.ResponseWriter, req *http.Request) bool {
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

func (r *Registry) manifest(w http.ResponseWriter, req *http.Request, name, ref string) {
	if req.Method == http.MethodPut {
		r.putManifest(w, req, name, ref)
		return
	}
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

func (r *Registry) blob(w http.ResponseWriter, req *http.Request, d digest.Digest) {
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
func (r *Registry) add(mediaType string, b []byte, names ...string) ocispec.Descriptor {
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
