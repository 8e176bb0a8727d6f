package image

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/image/imagetest"
	"linkspan/probe"
)

// realRegistry runs Debian's docker-registry, empty and writable, on loopback.
func realRegistry(t *testing.T) (host string) {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skipf("probe: %v (apt install docker-registry)", err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host = free.Addr().String()
	free.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", filepath.Join(dir, "data"), host)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", host)
		if err == nil {
			c.Close()
			return host
		}
		if time.Now().After(end) {
			t.Fatalf("docker-registry does not listen: %v", err)
		}
	}
}

// TestPushToDockerRegistry pushes a committed image to Debian's docker-registry and
// pulls it back on another host: the same image, whose base was not sent twice.
func TestPushToDockerRegistry(t *testing.T) {
	probe.Require(t, probe.Root, probe.Containerd, probe.Overlayfs)
	host := realRegistry(t)
	r := newRig(t)
	b, _ := imagetest.OCILayout(imagetest.Simple("base", strings.Repeat("big ", 1<<18)), map[string]string{ocispec.AnnotationRefName: host + "/team/base:1"})
	r.load(b)
	if _, err := r.push(host+"/team/base:1", nil); err != nil {
		t.Fatal(err)
	}
	layer := imagetest.Tar(map[string]string{"added": "yes"})
	id, err := r.Layered(t.Context(), r.get(host+"/team/base:1"), bytes.NewReader(layer), Layered{Ref: host + "/team/app:2"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := r.push(host+"/team/app:2", nil)
	if err != nil {
		t.Fatal(err)
	}
	p := r.must(host + "/team/app:2")
	l.has(t, "Mounted from "+host+"/team/base", short(p.diffs[2].String())+": Pushed", "2: digest: "+p.desc.Digest.String())
	other := newRig(t)
	other.pull(host + "/team/app:2")
	img := other.get(host + "/team/app:2")
	if img.ID != id {
		t.Errorf("%s came back for %s", img.ID, id)
	}
	if err := other.Prepare(t.Context(), img, "c"); err != nil {
		t.Fatal(err)
	}
	if f := other.files("c"); f["added"] != "yes" || f["layer-0"] != "base" {
		t.Errorf("%d files", len(f))
	}
	if d, err := other.Distribution(t.Context(), host+"/team/app:2", nil); err != nil || d.Descriptor.Digest != p.desc.Digest {
		t.Errorf("%+v %v", d, err)
	}
}
