package docker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/container"
	"linkspan/image"
	"linkspan/image/imagetest"
	"linkspan/internal/ctdtest"
	"linkspan/probe"
	"linkspan/store/mem"
	"linkspan/volume"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Pull of the fake knows one more image, whose pull breaks off in the middle.
func (fakeImages) Pull(_ context.Context, ref, platform string, auth *image.Auth, p image.Progress) error {
	if !strings.HasPrefix(ref, "half") {
		return cnm.NotFound("pull access denied for %s, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", ref)
	}
	p("latest", "Pulling from library/half", 0, 0)
	p("0123456789ab", "Downloading", 10, 100)
	if auth != nil {
		p("", "Hello "+auth.Username+auth.IdentityToken, 0, 0)
	}
	return errors.New("the wire was cut")
}

type users map[string][]image.User

func (u users) ImageUsers(id string) []image.User { return u[id] }

// stores are the real image and volume services behind the door.
func stores(t *testing.T) (Config, *image.Store, *fakeContainers) {
	t.Helper()
	probe.Require(t, probe.Root, probe.Containerd, probe.Overlayfs)
	f := newFakeContainers()
	cfg := testConfig(f, newFakeNetwork())
	images := image.New(image.Config{Client: ctdtest.New(t).Client(), Namespace: "test", Events: f.bus})
	volumes, err := volume.New(t.Context(), volume.Config{Root: filepath.Join(t.TempDir(), "volumes"), Store: mem.New(mem.Options{}), Events: f.bus})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Images, cfg.Volumes = images, volumes
	return cfg, images, f
}

func TestCLIImages(t *testing.T) {
	cfg, images, _ := stores(t)
	reg, private := imagetest.New(t), imagetest.New(t)
	d, id := reg.Push(imagetest.Simple("base", "app"), "lib/app:1")
	_, id2 := reg.Push(imagetest.Simple("base", "two"), "lib/two:1")
	private.Push(imagetest.Simple("base"), "team/secret:1")
	private.Require("me", "secret", true)
	app, two := reg.Host()+"/lib/app", reg.Host()+"/lib/two"
	dir := t.TempDir()
	saved, loadedID := imagetest.DockerArchive(imagetest.Simple("x", "y"), "loaded:1")
	files := map[string][]byte{"saved.tar": saved, "saved.tar.gz": imagetest.Gzip(saved), "root.tar": imagetest.Tar(map[string]string{"a": "b"})}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	images.SetUsers(users{id2: {{ContainerID: strings.Repeat("c", 64)}}})
	sock := serveUnix(t, New(cfg))
	short := func(id string) string { return id[7:19] }
	for _, tc := range []struct {
		args string
		code int
		want []string
	}{
		{"images -q", 0, nil},
		{"pull " + app + ":1", 0, []string{"1: Pulling from lib/app", ": Pulling fs layer", ": Download complete", ": Pull complete", "Digest: " + d.Digest.String(), "Status: Downloaded newer image for " + app + ":1", app + ":1"}},
		{"pull " + app + ":1", 0, []string{"Status: Image is up to date for " + app + ":1"}},
		{"pull -q " + two + ":1", 0, []string{two + ":1"}},
		{"pull " + app + "@" + d.Digest.String(), 0, []string{"Status: Image is up to date for " + app + "@" + d.Digest.String()}},
		{"pull " + app + ":nope", 1, []string{"Error response from daemon: manifest for " + app + ":nope not found: manifest unknown: manifest unknown"}},
		{"pull -a " + app, 1, []string{"not yet: pulling all tags"}},
		{"pull --platform linux/s390x " + app + ":1", 1, []string{"does not match the specified platform"}},
		{"pull " + private.Host() + "/team/secret:1", 1, []string{"pull access denied for " + private.Host() + "/team/secret, repository does not exist or may require 'docker login'"}},
		{"images", 0, []string{"REPOSITORY", app + "   1", short(id)}},
		{"images --digests " + app, 0, []string{d.Digest.String()}},
		{"images --filter reference=" + reg.Host() + "/*/two -q --no-trunc", 0, []string{id2}},
		{"images --filter reference=a[", 1, []string{"invalid filter 'reference=a['"}},
		{"images --filter nonsense=1", 1, []string{"invalid filter 'nonsense'"}},
		{"images --filter before=nosuch", 1, []string{"No such image: nosuch:latest"}},
		{"image inspect " + short(id) + " -f {{.Id}}|{{.RepoTags}}|{{.Config.Cmd}}|{{.Config.Labels.made}}|{{len_.RootFS.Layers}}", 0, []string{id + "|[" + app + ":1]|[/bin/base]|by test|2"}},
		{"inspect nosuch", 1, []string{"nosuch"}},
		{"image inspect nosuch", 1, []string{"No such image: nosuch"}},
		{"history --no-trunc " + app + ":1", 0, []string{"COPY layer 1", "<missing>", id}},
		{"tag " + app + ":1 mine", 0, nil},
		{"tag nosuch mine", 1, []string{"No such image: nosuch:latest"}},
		{"tag " + app + ":1 mine@" + d.Digest.String(), 1, []string{"refusing to create a tag with a digest reference"}},
		{"rmi mine", 0, []string{"Untagged: mine:latest"}},
		{"rmi mine", 1, []string{"No such image: mine:latest"}},
		{"rmi " + two + ":1", 1, []string{`conflict: unable to remove repository reference "` + two + `:1" (must force) - container cccccccccccc is using its referenced image ` + short(id2)}},
		{"load -i " + dir + "/saved.tar", 0, []string{"Loaded image: loaded:1"}},
		{"load -q -i " + dir + "/saved.tar.gz", 0, []string{"Loaded image: loaded:1"}},
		{"load -i " + dir + "/root.tar", 1, []string{"unrecognized image format"}},
		{"inspect --type image loaded:1 -f {{.Id}}", 0, []string{loadedID}},
		{"import --change CMD_/bin/sh --message hello " + dir + "/root.tar imported:1", 0, []string{"sha256:"}},
		{"image inspect imported:1 -f {{.Config.Cmd}}|{{.Comment}}", 0, []string{"[/bin/sh -c /bin/sh]|hello"}},
		{"import http://127.0.0.1:1/x.tar", 1, []string{"import from http://127.0.0.1:1/x.tar"}},
		{"login -u me -p secret " + private.Host(), 0, []string{"Login Succeeded"}},
		{"login -u me -p wrong " + private.Host(), 1, []string{"unauthorized: incorrect username or password"}},
		{"search x", 1, []string{"not yet: searching"}},
		{"rmi " + app + ":1", 0, []string{"Untagged: " + app + ":1", "Untagged: " + app + "@" + d.Digest.String(), "Deleted: " + id}},
		{"image prune -f", 0, []string{"Total reclaimed space"}},
		{"image prune -af", 0, []string{"deleted: " + loadedID, "untagged: imported:1"}},
		{"images -q --no-trunc", 0, []string{id2}},
		{"system df", 0, []string{"Images", "Local Volumes"}},
	} {
		args := strings.Fields(tc.args)
		for i := range args {
			args[i] = strings.NewReplacer("len_", "len ", "CMD_", "CMD ").Replace(args[i])
		}
		out, errs, code := docker(t, sock, args...)
		if code != tc.code {
			t.Errorf("docker %s: exit code %d, want %d\n%s%s", tc.args, code, tc.code, out, errs)
		}
		for _, w := range tc.want {
			if !strings.Contains(out+errs, w) {
				t.Errorf("docker %s: no %q in\n%s%s", tc.args, w, out, errs)
			}
		}
	}
}

func TestCLIVolumes(t *testing.T) {
	cfg, _, f := stores(t)
	ctr := testContainer(5, "db", container.Exited)
	ctr.Mounts = []container.Mount{{Type: "volume", Name: "data"}}
	f.all[ctr.ID] = ctr
	cfg.Volumes.(*volume.Store).SetUsers(volumeUsers{"data": {ctr.ID}})
	anonymous, err := cfg.Volumes.Create(t.Context(), volume.CreateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	sock := serveUnix(t, New(cfg))
	for _, tc := range []struct {
		args string
		code int
		want []string
		not  string
	}{
		{"volume create data --label a=b", 0, []string{"data"}, ""},
		{"volume create spare", 0, []string{"spare"}, ""},
		{"volume create /x", 1, []string{`create /x: "/x" includes invalid characters for a local volume name`}, ""},
		{"volume create -d rexray x1", 1, []string{`plugin "rexray" not found`}, ""},
		{"volume create -o type=nfs x1", 1, []string{"missing required option", "device"}, ""},
		{"volume ls -q", 0, []string{"data", "spare", anonymous.Name}, ""},
		{"volume ls -q --filter dangling=true", 0, []string{"spare"}, "data"},
		{"volume ls -q --filter label=a=b", 0, []string{"data"}, "spare"},
		{"volume ls -q --filter name=spa", 0, []string{"spare"}, "data"},
		{"volume ls --filter x=y", 1, []string{"invalid filter 'x'"}, ""},
		{"volume inspect data", 0, []string{`"Driver": "local"`, `"a": "b"`, `/volumes/data/_data"`, `"Scope": "local"`}, ""},
		{"volume inspect nosuch", 1, []string{"nosuch: no such volume"}, ""},
		{"volume rm data", 1, []string{"remove data: volume is in use - [" + ctr.ID + "]"}, ""},
		{"volume rm nosuch", 1, []string{"get nosuch: no such volume"}, ""},
		{"volume rm -f nosuch", 0, []string{"nosuch"}, ""},
		{"volume prune -f", 0, []string{anonymous.Name}, "spare"},
		{"volume prune -af", 0, []string{"spare"}, "data"},
		{"volume ls -q", 0, []string{"data"}, "spare"},
	} {
		out, errs, code := docker(t, sock, strings.Fields(tc.args)...)
		if code != tc.code {
			t.Errorf("docker %s: exit code %d, want %d\n%s%s", tc.args, code, tc.code, out, errs)
		}
		for _, w := range tc.want {
			if !strings.Contains(out+errs, w) {
				t.Errorf("docker %s: no %q in\n%s%s", tc.args, w, out, errs)
			}
		}
		if tc.not != "" && strings.Contains(out, tc.not) {
			t.Errorf("docker %s: %q in\n%s", tc.args, tc.not, out)
		}
	}
	// Before 1.42 a prune took named volumes too.
	if _, err := cfg.Volumes.Create(t.Context(), volume.CreateRequest{Name: "old"}); err != nil {
		t.Fatal(err)
	}
	h := New(cfg)
	if w := request(t, h, "POST", "/v1.41/volumes/prune", ""); !strings.Contains(w.Body.String(), `"VolumesDeleted":["old"]`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

type volumeUsers map[string][]string

func (u volumeUsers) VolumeUsers(name string) []string { return u[name] }

// listed has one image with everything that rendering knows, and one without a name.
type listed struct{ image.Service }

func (listed) image() *image.Image {
	at := time.Date(2026, 11, 20, 10, 0, 0, 5, time.UTC)
	img := &image.Image{
		ID: testImageID, RepoTags: []string{"box:1", "quay.io/me/box:2"}, Digests: []string{"box@" + testImageID}, Created: at, Size: 1 << 20,
		Labels: map[string]string{"a": "b"}, OnBuild: []string{"RUN x"}, Shell: []string{"/bin/ash", "-c"}, LastTagged: at.Add(time.Hour),
		Healthcheck: &image.Healthcheck{Test: []string{"CMD", "true"}, Interval: time.Second, Retries: 3},
	}
	img.Config = ocispec.Image{Author: "me", Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{testImageID}}, History: []ocispec.History{{Comment: "a comment"}},
		Config: ocispec.ImageConfig{User: "1:1", ExposedPorts: map[string]struct{}{"80/tcp": {}}, Env: []string{"A=<b>"}, Cmd: []string{"sh"},
			Entrypoint: []string{"/init"}, Volumes: map[string]struct{}{"/v": {}}, WorkingDir: "/w", Labels: img.Labels, StopSignal: "SIGQUIT"}}
	return img
}

func (l listed) Get(context.Context, string) (*image.Image, error) { return l.image(), nil }
func (l listed) List(context.Context) ([]*image.Image, error) {
	return []*image.Image{l.image(), {ID: "sha256:" + strings.Repeat("0", 64), Created: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}}, nil
}
func (l listed) History(context.Context, string) ([]image.HistoryItem, error) {
	return []image.HistoryItem{{ID: testImageID, Created: l.image().Created, CreatedBy: "CMD", Tags: []string{"box:1"}, Size: 7, Comment: "c"}, {ID: "<missing>"}}, nil
}

func TestImageGoldens(t *testing.T) {
	cfg := testConfig(newFakeContainers(), newFakeNetwork())
	cfg.Images = listed{}
	h := New(cfg)
	for _, v := range []string{"1.41", "1.43", "1.44", "1.49", "1.51"} {
		rendered(t, "image-list-"+v, request(t, h, "GET", "/v"+v+"/images/json", "").Body.Bytes())
		rendered(t, "image-inspect-"+v, request(t, h, "GET", "/v"+v+"/images/quay.io/me/box/json", "").Body.Bytes())
	}
	rendered(t, "image-history", request(t, h, "GET", "/images/box/history", "").Body.Bytes())
}

func TestImageFilters(t *testing.T) {
	cfg := testConfig(newFakeContainers(), newFakeNetwork())
	cfg.Images = listed{}
	h := New(cfg)
	for q, want := range map[string]int{
		"": 2, `{"dangling":["true"]}`: 1, `{"dangling":["false"]}`: 1, `{"label":["a"]}`: 1, `{"label":["a=c"]}`: 0, `{"reference":["box"]}`: 1,
		`{"reference":["quay.io/me/box:2"]}`: 1, `{"reference":["*/*/box"]}`: 1, `{"reference":["nosuch"]}`: 0, `{"until":["2024-01-01T00:00:00Z"]}`: 1,
		`{"before":["x"]}`: 1, `{"since":["x"]}`: 0,
	} {
		w := request(t, h, "GET", "/images/json?filters="+q, "")
		var list []map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) != want {
			t.Errorf("%s: %d %s", q, w.Code, w.Body)
		}
	}
	if w := request(t, h, "GET", "/v1.40/images/json?filter=box", ""); strings.Count(w.Body.String(), `"Id"`) != 1 {
		t.Errorf("the old filter: %s", w.Body)
	}
	for path, want := range map[string]string{
		`/images/box/json?platform={"os":"linux","architecture":"amd64"}`: `"Architecture":"amd64"`,
		`/images/box/json?platform={"os":"linux","architecture":"arm64"}`: "(linux/amd64) does not match the specified platform (linux/arm64)",
		"/images/box/json?platform=x":                                     "failed to parse platform",
		`/images/json?filters={"dangling":["maybe"]}`:                     "invalid filter 'dangling=maybe'",
	} {
		if w := request(t, h, "GET", path, ""); !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// An error after the first line comes as the last line, in both spellings.
func TestPullStream(t *testing.T) {
	h := New(testConfig(newFakeContainers(), newFakeNetwork()))
	r := httptest.NewRequest("POST", "/images/create?fromImage=half&tag=latest", nil)
	r.Header.Set("X-Registry-Auth", base64.URLEncoding.EncodeToString([]byte(`{"username":"me","password":"p"}`)))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	want := []string{
		`{"status":"Pulling from library/half","id":"latest"}`,
		`{"status":"Downloading","progressDetail":{"current":10,"total":100},"id":"0123456789ab"}`,
		`{"status":"Hello me"}`,
		`{"errorDetail":{"message":"the wire was cut"},"error":"the wire was cut"}`,
	}
	if got := strings.Split(strings.TrimSpace(w.Body.String()), "\n"); !slices.Equal(got, want) || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v\n%s", w.Code, w.Header(), w.Body)
	}
	for path, code := range map[string]int{
		"/images/create?fromImage=nosuch&tag=latest": 404, "/images/create?fromImage=A": 400, "/images/create?fromImage=a": 501, "/images/create": 400,
		"/images/create?fromImage=a&tag=b:c": 400, "/images/create?fromSrc=ftp://x": 400, "/images/create?fromSrc=-&repo=A&tag=b": 400,
		"/images/load?platform={}": 501, "/images/box/tag": 400, "/images/box/tag?repo=a&tag=..": 400, "/images/box/tag?repo=A&tag=b": 400,
		"/images/box/push?tag=..": 400, "/images/prune": 501, `/images/prune?filters={"x":["y"]}`: 400,
	} {
		if w := request(t, h, "POST", path, ""); w.Code != code {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestRegistryAuth(t *testing.T) {
	enc := func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) }
	for in, want := range map[string]*image.Auth{
		"": nil, "%%": nil, enc("no json"): nil, enc("{}"): nil,
		enc(`{"username":"u","password":"p"}`):                                       {Username: "u", Password: "p"},
		strings.TrimRight(enc(`{"username":"u","password":"pp"}`), "="):              {Username: "u", Password: "pp"},
		enc(`{"identitytoken":"t"}`):                                                 {IdentityToken: "t"},
		enc(`{"registrytoken":"r"}`):                                                 {RegistryToken: "r"},
		enc(`{"auth":"` + base64.StdEncoding.EncodeToString([]byte("a:b:c")) + `"}`): {Username: "a", Password: "b:c"},
	} {
		if got := registryAuth(in); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v", in, got)
		}
	}
}
