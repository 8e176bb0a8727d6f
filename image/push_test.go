package image

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/cnm"
	"linkspan/image/imagetest"
)

func (r *rig) push(ref string, auth *Auth) (*lines, error) {
	r.t.Helper()
	l := &lines{}
	return l, r.Push(r.t.Context(), ref, "", auth, l.tell)
}

func TestPush(t *testing.T) {
	for _, c := range []struct {
		name  string
		user  string
		token bool
	}{{name: "open"}, {name: "basic", user: "me"}, {name: "token", user: "me", token: true}} {
		t.Run(c.name, func(t *testing.T) {
			reg := imagetest.New(t)
			var auth *Auth
			if c.user != "" {
				reg.Require(c.user, "secret", c.token)
				auth = &Auth{Username: c.user, Password: "secret"}
			}
			r := newRig(t)
			b, id := imagetest.DockerArchive(imagetest.Simple("base", "app"), reg.Host()+"/team/app:1")
			r.load(b)
			ref := reg.Host() + "/team/app:1"
			l, err := r.push(ref, auth)
			if err != nil {
				t.Fatal(err)
			}
			p := r.must(ref)
			top := short(p.diffs[1].String())
			l.has(t, "The push refers to repository ["+reg.Host()+"/team/app]", top+": Preparing", top+": Pushing", top+": Pushed", "1: digest: "+p.desc.Digest.String()+" size: ")
			last := l.all[len(l.all)-1]
			if !regexp.MustCompile(`^1: digest: sha256:[0-9a-f]{64} size: \d+$`).MatchString(last) {
				t.Errorf("the last line is %q", last)
			}
			if img := r.get(ref); len(img.Digests) != 1 || img.Digests[0] != reg.Host()+"/team/app@"+p.desc.Digest.String() {
				t.Errorf("digests %q", img.Digests)
			}
			// Again: nothing is sent.
			before := reg.Asked("PUT /v2/team/app/blobs")
			l, err = r.push(ref, auth)
			if err != nil {
				t.Fatal(err)
			}
			l.has(t, top+": Layer already exists")
			if n := reg.Asked("PUT /v2/team/app/blobs"); n != before {
				t.Errorf("%d blobs were sent again", n-before)
			}
			if !slices.Contains(r.actions(), "push "+ref) {
				t.Errorf("events %q", r.actions())
			}
			// Another host pulls it: the same image.
			other := newRig(t)
			if err := other.Pull(t.Context(), ref, "", auth, nil); err != nil {
				t.Fatal(err)
			}
			if got := other.get(ref); got.ID != id {
				t.Errorf("pulled %s, pushed %s", got.ID, id)
			}
			d, err := other.Distribution(t.Context(), ref, auth)
			if err != nil || d.Descriptor.Digest != p.desc.Digest || d.Descriptor.MediaType != p.desc.MediaType || len(d.Platforms) != 1 || d.Platforms[0].OS != "linux" {
				t.Errorf("distribution %+v, %v", d, err)
			}
		})
	}
}

// What another repository of the registry has is not sent again.
func TestPushMounts(t *testing.T) {
	reg := imagetest.New(t)
	reg.Push(imagetest.Simple("base", "app"), "lib/app:1")
	r := newRig(t)
	r.pull(reg.Host() + "/lib/app:1")
	r.tag(reg.Host()+"/lib/app:1", reg.Host()+"/mine/app:2")
	reg.Intercept(func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method == http.MethodHead && strings.HasPrefix(q.URL.Path, "/v2/mine/") { // it has nothing yet
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	})
	l, err := r.push(reg.Host()+"/mine/app:2", nil)
	if err != nil {
		t.Fatal(err)
	}
	l.has(t, "Mounted from "+reg.Host()+"/lib/app")
	if n := reg.Asked("PUT /v2/mine/app/blobs"); n != 0 {
		t.Errorf("%d blobs were sent", n)
	}
}

func TestPushRefuses(t *testing.T) {
	reg := imagetest.New(t)
	reg.Require("me", "secret", false)
	r := newRig(t)
	ref := reg.Host() + "/team/app:1"
	b, _ := imagetest.DockerArchive(imagetest.Simple("base"), ref)
	r.load(b)
	for _, c := range []struct {
		ref   string
		auth  *Auth
		class error
		words string
	}{
		{"nobody:1", nil, cnm.ErrNotFound, "An image does not exist locally with the tag: nobody"},
		{reg.Host() + "/team/app:9", nil, cnm.ErrNotFound, "tag does not exist: " + reg.Host() + "/team/app:9"},
		{"x@sha256:" + strings.Repeat("0", 64), nil, cnm.ErrInvalid, "cannot push a digest reference"},
		{ref, nil, cnm.ErrForbidden, "docker login " + reg.Host()},
		{ref, &Auth{Username: "me", Password: "wrong"}, cnm.ErrForbidden, "docker login " + reg.Host()},
	} {
		if _, err := r.push(c.ref, c.auth); !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", c.ref, err)
		}
	}
	if err := r.Push(t.Context(), ref, "linux/s390x", nil, nil); !errors.Is(err, cnm.ErrNotFound) || !strings.Contains(err.Error(), "does not provide the specified platform") {
		t.Errorf("another platform: %v", err)
	}
	gone := newRig(t)
	b, _ = imagetest.DockerArchive(imagetest.Simple("base"), "127.0.0.1:1/app:1")
	gone.load(b)
	if _, err := gone.push("127.0.0.1:1/app:1", nil); !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("no registry: %v", err)
	}
}

func TestDistribution(t *testing.T) {
	reg := imagetest.New(t)
	index, _ := reg.PushIndex(images.MediaTypeDockerSchema2ManifestList, map[string]imagetest.Image{"amd64": imagetest.Simple("a"), "arm64": imagetest.Simple("b")}, "lib/multi:1")
	r := newRig(t)
	d, err := r.Distribution(t.Context(), reg.Host()+"/lib/multi:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	var archs []string
	for _, p := range d.Platforms {
		archs = append(archs, p.Architecture)
	}
	slices.Sort(archs)
	want := ocispec.Descriptor{MediaType: index.MediaType, Digest: index.Digest, Size: index.Size}
	if !slices.Equal(archs, []string{"amd64", "arm64"}) || d.Descriptor.Digest != want.Digest || d.Descriptor.Size != want.Size {
		t.Errorf("%+v", d)
	}
	if _, err := r.Distribution(t.Context(), reg.Host()+"/lib/none:1", nil); !errors.Is(err, cnm.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if _, err := r.Distribution(t.Context(), "UPPER", nil); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("no name: %v", err)
	}
	r.empty() // nothing was kept
}
