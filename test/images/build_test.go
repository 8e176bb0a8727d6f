package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"linkspan/probe"
)

// whole builds the catalogue into the machine's cache: minutes at most the
// first time, nothing afterwards.
func whole(t *testing.T) *Set {
	t.Helper()
	probe.Require(t, probe.Root, probe.Overlayfs)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	set, err := Build(ctx, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestSecondBuildDoesNothing(t *testing.T) {
	whole(t)
	started := time.Now()
	again := whole(t)
	if len(again.Made) != 0 {
		t.Errorf("the second build made %v", again.Made)
	}
	t.Logf("a cached build took %v", time.Since(started))
	if left, _ := os.ReadDir(again.cache.path("tmp")); len(left) != 0 {
		t.Errorf("left in tmp: %v", left)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if bytes.Contains(mounts, []byte(again.cache.dir+"/tmp")) {
		t.Error("a mount of the build is still there")
	}
}

func get(t *testing.T, method, url string, accept string) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequest(method, url, nil)
	must(t, err)
	request.Header.Set("Accept", accept)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	must(t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	must(t, err)
	return response, data
}

// The registry answers what a daemon's pull asks, for every image and tag.
func TestRegistryServes(t *testing.T) {
	set := whole(t)
	url, stop, err := set.Serve(context.Background(), "", "127.0.0.1:0")
	must(t, err)
	defer stop()
	if response, _ := get(t, http.MethodGet, url+"/v2/", ""); response.StatusCode != http.StatusOK {
		t.Fatalf("GET /v2/: %s", response.Status)
	}
	for _, image := range set.Images {
		at := url + "/v2/" + image.Repository()
		for _, tag := range image.Tags {
			response, data := get(t, http.MethodGet, at+"/manifests/"+tag, typeManifest)
			if response.StatusCode != http.StatusOK || response.Header.Get("Docker-Content-Digest") != image.Digest || !bytes.Equal(data, image.Manifest) {
				t.Errorf("%s:%s: %s, digest %s, want %s", image.Name, tag, response.Status, response.Header.Get("Docker-Content-Digest"), image.Digest)
			}
			response, _ = get(t, http.MethodHead, at+"/manifests/"+tag, typeManifest)
			if response.StatusCode != http.StatusOK || response.ContentLength != int64(len(image.Manifest)) || response.Header.Get("Content-Type") != typeManifest {
				t.Errorf("HEAD %s:%s: %s, %d bytes of %s", image.Name, tag, response.Status, response.ContentLength, response.Header.Get("Content-Type"))
			}
		}
		_, data := get(t, http.MethodGet, at+"/blobs/"+image.ID, "")
		var config configuration
		must(t, json.Unmarshal(data, &config))
		if config.Architecture != runtime.GOARCH || len(config.RootFS.DiffIDs) != len(image.Layers) {
			t.Errorf("%s: configuration from the registry: %+v", image.Name, config)
		}
		for _, l := range image.layers {
			response, _ := get(t, http.MethodHead, at+"/blobs/"+l.Digest, "")
			if response.StatusCode != http.StatusOK || response.ContentLength != l.Size {
				t.Errorf("%s: layer %s: %s, %d bytes, want %d", image.Name, l.Name, response.Status, response.ContentLength, l.Size)
			}
		}
	}
	if response, _ := get(t, http.MethodGet, url+"/v2/library/none/manifests/latest", typeManifest); response.StatusCode != http.StatusNotFound {
		t.Errorf("an image that is not there: %s, want 404", response.Status)
	}
	// What many tests share, none may change.
	if response, _ := get(t, http.MethodPost, url+"/v2/library/mysql/blobs/uploads/", ""); response.StatusCode < 400 {
		t.Errorf("an upload to the read-only registry: %s", response.Status)
	}
	stop()
	stop() // twice is no error
	if _, err := http.Get(url + "/v2/"); err == nil {
		t.Error("the registry answers after stop")
	}
}

var namespaces atomic.Int32

// netnsPath makes a network namespace with loopback up.
func netnsPath(t *testing.T) string {
	t.Helper()
	probe.Require(t, probe.Root, probe.NetNS)
	name := fmt.Sprintf("lsimg-%d-%d", os.Getpid(), namespaces.Add(1))
	for _, args := range [][]string{{"netns", "add", name}, {"-n", name, "link", "set", "lo", "up"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			t.Errorf("ip netns del: %v %s", err, out)
		}
	})
	return "/run/netns/" + name
}

// Two tests serve on the same port at once, each in its own namespace; a port
// that is taken is an error in the registry's words.
func TestRegistryInNamespace(t *testing.T) {
	set := whole(t)
	ns := netnsPath(t)
	url, stop, err := set.Serve(context.Background(), ns, "127.0.0.1:5000")
	must(t, err)
	defer stop()
	if url != "http://127.0.0.1:5000" {
		t.Errorf("url %s", url)
	}
	out, err := exec.Command("nsenter", "--net="+ns, "curl", "-sf", url+"/v2/library/pause/tags/list").Output()
	if err != nil || !strings.Contains(string(out), `"latest"`) {
		t.Errorf("curl in the namespace: %v %s", err, out)
	}
	if _, _, err := set.Serve(context.Background(), ns, "127.0.0.1:5000"); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a taken port: %v", err)
	}
	if _, _, err := set.Serve(context.Background(), "/run/netns/none-such", "127.0.0.1:0"); err == nil {
		t.Error("a namespace that is not there was served")
	}
}

// An interrupted step leaves no mount and no process, whatever it was doing.
func TestConfinedLeavesNothing(t *testing.T) {
	probe.Require(t, probe.Root)
	dir := t.TempDir()
	script := `mkdir -p "$1/m"; mount -t tmpfs tmpfs "$1/m"; touch "$1/m/in" "$1/ready"; sleep 61.75 & sleep 61.75`
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- confined(ctx, script, dir) }()
	for deadline := time.Now().Add(time.Minute); !exists(filepath.Join(dir, "ready")); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the script does not start")
		}
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("an interrupted step reports success")
	}
	if exists(filepath.Join(dir, "m/in")) {
		t.Error("the mount of the step is visible outside")
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		left, _ := exec.Command("pgrep", "-f", "sleep 61.75").Output()
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("processes of the step are left: %s", left)
		}
	}
	must(t, os.RemoveAll(dir)) // EBUSY if anything is mounted
}

func TestToolErrorCarriesTheOutput(t *testing.T) {
	err := tool(context.Background(), "sh", "-c", "echo told; echo why >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "why") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error: %v", err)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Error("the exit status is lost")
	}
	long := shortened(strings.Fields(strings.Repeat("word ", 50)))
	if len(long) > 20 {
		t.Errorf("a command line of %d words in an error", len(long))
	}
}

// A catalogue of one small layer, built from nothing: the way of the builder
// without a base.
func TestBuildFromScratch(t *testing.T) {
	probe.Require(t, probe.Root, probe.Overlayfs)
	layers := []Layer{{Name: "pause", Programs: map[string]string{"/pause": "pause"}}}
	images := []Image{{Name: "pause", Tags: []string{"latest"}, Layers: []string{"pause"}, Config: RunConfig{Entrypoint: []string{"/pause"}}}}
	o := Options{Cache: t.TempDir()}
	set, err := build(context.Background(), o, layers, images)
	must(t, err)
	if len(set.Made) != 2 {
		t.Errorf("made %v, want the layer and the registry", set.Made)
	}
	f, err := os.Open(set.cache.layerTar(mustKey(t, layers)))
	must(t, err)
	defer f.Close()
	if got := layerEntries(t, f); !strings.HasPrefix(got["pause"], "0 755") {
		t.Errorf("the layer holds %v", got)
	}
	again, err := build(context.Background(), o, layers, images)
	must(t, err)
	if len(again.Made) != 0 || again.Images[0].Digest != set.Images[0].Digest {
		t.Errorf("the second build made %v", again.Made)
	}
	forced, err := build(context.Background(), Options{Cache: o.Cache, Force: true}, layers, images)
	must(t, err)
	if len(forced.Made) == 0 {
		t.Error("a forced build made nothing")
	}
	url, stop, err := forced.Serve(context.Background(), "", "127.0.0.1:0")
	must(t, err)
	defer stop()
	response, _ := get(t, http.MethodHead, url+"/v2/library/pause/blobs/"+forced.Images[0].layers[0].Digest, "")
	if response.StatusCode != http.StatusOK {
		t.Errorf("the registry lacks the layer that was built again: %s", response.Status)
	}
	if _, err := set.Find("none"); err == nil {
		t.Error("an image that is not there was found")
	}
}

func mustKey(t *testing.T, layers []Layer) string {
	t.Helper()
	k, err := keys(layers)
	must(t, err)
	return k[layers[0].Name]
}
