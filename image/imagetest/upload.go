package imagetest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// upload takes blobs: whole ones, and such as another repository has.
func (r *Registry) upload(w http.ResponseWriter, req *http.Request, repo string) {
	q := req.URL.Query()
	switch req.Method {
	case http.MethodPost:
		r.mu.Lock()
		_, have := r.blobs[digest.Digest(q.Get("mount"))]
		r.mu.Unlock()
		if have && q.Get("from") != "" {
			w.Header().Set("Location", "/v2/"+repo+"/blobs/"+q.Get("mount"))
			w.WriteHeader(http.StatusCreated)
			return
		}
		w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/1")
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPut:
		b, err := io.ReadAll(req.Body)
		d := digest.Digest(q.Get("digest"))
		if err != nil || digest.FromBytes(b) != d {
			fail(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
			return
		}
		r.add("application/octet-stream", b)
		w.Header().Set("Docker-Content-Digest", d.String())
		w.WriteHeader(http.StatusCreated)
	default:
		http.Error(w, "no such method", http.StatusMethodNotAllowed)
	}
}

// putManifest takes a manifest whose blobs are there.
func (r *Registry) putManifest(w http.ResponseWriter, req *http.Request, repo, ref string) {
	b, err := io.ReadAll(req.Body)
	var m ocispec.Manifest
	if err != nil || json.Unmarshal(b, &m) != nil {
		fail(w, http.StatusBadRequest, "MANIFEST_INVALID", "manifest invalid")
		return
	}
	for _, d := range append(m.Layers, m.Config) {
		if r.Blob(d.Digest) == nil {
			fail(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
			return
		}
	}
	sep := ":"
	if strings.HasPrefix(ref, "sha256:") {
		sep = "@"
	}
	d := r.add(req.Header.Get("Content-Type"), b)
	r.mu.Lock()
	r.manifests[repo+sep+ref] = d.Digest
	r.manifests[repo+"@"+d.Digest.String()] = d.Digest
	r.mu.Unlock()
	w.Header().Set("Docker-Content-Digest", d.Digest.String())
	w.WriteHeader(http.StatusCreated)
}
