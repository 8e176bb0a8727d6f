package images

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/internal/golden"
)

// fixed stands for layers whose bytes differ from build to build.
func fixed(names []string) []builtLayer {
	var out []builtLayer
	for i, n := range names {
		out = append(out, builtLayer{layerInfo: layerInfo{
			Name:   n,
			Digest: digestOf([]byte("compressed " + n)), DiffID: digestOf([]byte("tar " + n)), Size: int64(1000 * (i + 1)),
			Created: time.Date(2024, 5, 1+i, 12, 0, 0, 0, time.UTC),
		}})
	}
	return out
}

// What `docker inspect IMAGE` says is part of what the e2e tests rely on.
func TestConfigurationGolden(t *testing.T) {
	for _, image := range Images() {
		t.Run(image.Name, func(t *testing.T) {
			built, err := assemble(image, fixed(image.Layers))
			if err != nil {
				t.Fatal(err)
			}
			var pretty bytes.Buffer
			// The architecture is the machine's.
			data := bytes.Replace(built.Config, []byte(`"architecture":"`+runtime.GOARCH+`"`), []byte(`"architecture":"ARCH"`), 1)
			if err := json.Indent(&pretty, data, "", "  "); err != nil {
				t.Fatal(err)
			}
			pretty.WriteByte('\n')
			golden.Compare(t, filepath.Join("testdata", "config", image.Name+".json"), pretty.String())
		})
	}
}

func TestManifestPointsAtWhatExists(t *testing.T) {
	image := Images()[0]
	built, err := assemble(image, fixed(image.Layers))
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := json.Unmarshal(built.Manifest, &m); err != nil {
		t.Fatal(err)
	}
	if m.Config.Digest != built.ID || m.Config.Size != int64(len(built.Config)) || digestOf(built.Config) != built.ID {
		t.Errorf("config descriptor %+v does not fit the configuration %s of %d bytes", m.Config, built.ID, len(built.Config))
	}
	if digestOf(built.Manifest) != built.Digest {
		t.Error("digest is not the manifest's")
	}
	if len(m.Layers) != 2 || m.Layers[0].Size != 1000 || m.Layers[1].Digest != digestOf([]byte("compressed mysql")) {
		t.Errorf("layers: %+v", m.Layers)
	}
	if built.Size() != 3000 {
		t.Errorf("size %d, want 3000", built.Size())
	}
	again, _ := assemble(image, fixed(image.Layers))
	if again.Digest != built.Digest {
		t.Error("the same image has two digests")
	}
}

// The images and tags that people's command lines name (issue 2, section 8).
func TestCatalogueHasWhatPeoplePull(t *testing.T) {
	want := map[string][]string{
		"mysql": {"latest", "5.7", "8"}, "postgres": {"latest", "9.4"}, "redis": {"latest"}, "mariadb": {"latest"}, "python-web": {"v1.0", "latest"}, "nginx": {"latest"},
		"php-fpm": {"latest"}, "apache": {"latest"}, "adminer": {"latest"}, "pause": {"latest"},
		"centos": {"latest", "7"}, "busybox": {"latest"},
	}
	ports := map[string][]string{
		"mysql": {"3306/tcp", "33060/tcp"}, "postgres": {"5432/tcp"}, "redis": {"6379/tcp"}, "mariadb": {"3306/tcp"}, "python-web": {"80/tcp"}, "nginx": {"80/tcp"},
		"php-fpm": {"9000/tcp"}, "apache": {"80/tcp"}, "adminer": {"8080/tcp"},
	}
	for _, image := range Images() {
		if tags, ok := want[image.Name]; ok {
			if !slices.Equal(image.Tags, tags) {
				t.Errorf("%s: tags %v, want %v", image.Name, image.Tags, tags)
			}
			delete(want, image.Name)
		}
		if len(image.Config.ExposedPorts) != len(ports[image.Name]) {
			t.Errorf("%s exposes %v, want %v", image.Name, image.Config.ExposedPorts, ports[image.Name])
		}
		for _, p := range ports[image.Name] {
			if _, ok := image.Config.ExposedPorts[p]; !ok {
				t.Errorf("%s does not expose %s", image.Name, p)
			}
		}
		if len(image.Config.Entrypoint)+len(image.Config.Cmd) == 0 {
			t.Errorf("%s has nothing to run", image.Name)
		}
	}
	for name := range want {
		t.Errorf("no image %s", name)
	}
}

// Every layer is used, every folder below files/ belongs to a layer, and all
// servers share the base, so that a host unpacks it once.
func TestCatalogueIsConsistent(t *testing.T) {
	used, layers := map[string]bool{}, map[string]Layer{}
	for _, l := range Layers() {
		layers[l.Name] = l
	}
	for _, image := range Images() {
		below := ""
		for _, name := range image.Layers {
			l, ok := layers[name]
			if !ok {
				t.Errorf("%s: no layer %q", image.Name, name)
			}
			if l.From != below {
				t.Errorf("%s: layer %s stands on %q, the image puts it on %q", image.Name, name, l.From, below)
			}
			below = name
			used[name] = true
		}
		if len(image.Layers) > 2 {
			t.Errorf("%s has %d layers: one on the base is enough", image.Name, len(image.Layers))
		}
	}
	for name := range layers {
		if !used[name] {
			t.Errorf("layer %s is in no image", name)
		}
	}
	folders, err := fs.ReadDir(tree, "files")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		if _, ok := layers[f.Name()]; !ok {
			t.Errorf("files/%s belongs to no layer", f.Name())
		}
	}
}

// A script with a syntax error would show itself minutes into a build.
func TestScriptsParse(t *testing.T) {
	err := fs.WalkDir(tree, "files", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := tree.ReadFile(name)
		if err != nil {
			return err
		}
		shell := ""
		switch {
		case bytes.HasPrefix(data, []byte("#!/bin/bash\n")):
			shell = "bash"
		case bytes.HasPrefix(data, []byte("#!/bin/sh\n")), strings.HasSuffix(name, "/setup.sh"):
			shell = "sh"
		case strings.Contains(name, "/bin/") || strings.HasSuffix(name, ".sh"):
			t.Errorf("%s is run but does not begin with #!", name)
		}
		if shell == "" {
			return nil
		}
		cmd := exec.Command(shell, "-n")
		cmd.Stdin = bytes.NewReader(data)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{"base": baseScript, "layer": layerScript, "chroot": chrootScript} {
		cmd := exec.Command("sh", "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s script: %v\n%s", name, err, out)
		}
	}
}

func TestKeys(t *testing.T) {
	layers := Layers()
	first, err := keys(layers)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for name, k := range first {
		if other, double := seen[k]; double {
			t.Errorf("layers %s and %s have the same key", name, other)
		}
		seen[k] = name
	}
	// One package more in redis: redis alone is built again.
	change := func(name string, edit func(*Layer)) map[string]string {
		changed := Layers()
		for i := range changed {
			if changed[i].Name == name {
				edit(&changed[i])
			}
		}
		k, err := keys(changed)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	differ := func(a, b map[string]string) (names []string) {
		for name := range a {
			if a[name] != b[name] {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	if got := differ(first, change("redis", func(l *Layer) { l.Packages = append(l.Packages, "curl") })); !slices.Equal(got, []string{"redis"}) {
		t.Errorf("a package in redis changes %v", got)
	}
	onBase := []string{"apache", "base", "centos", "mysql", "nginx", "php", "postgres", "python-web", "redis"}
	if got := differ(first, change("base", func(l *Layer) { l.Packages = append(l.Packages, "curl") })); !slices.Equal(got, onBase) {
		t.Errorf("a package in the base changes %v, want %v", got, onBase)
	}
	if got := differ(first, change("pause", func(l *Layer) { l.Programs = map[string]string{"/pause": "netprobe"} })); !slices.Equal(got, []string{"pause"}) {
		t.Errorf("another program in pause changes %v", got)
	}
	again, _ := keys(Layers())
	if len(differ(first, again)) != 0 {
		t.Error("keys differ between two calls")
	}

	if _, err := keys([]Layer{{Name: "a", From: "b"}, {Name: "b"}}); err == nil {
		t.Error("a layer before its parent has no key, and keys said nothing")
	}
	one, err := catalogueKey(Images(), first)
	if err != nil {
		t.Fatal(err)
	}
	images := Images()
	images[0].Config.Env = append([]string{"A=1"}, images[0].Config.Env...)
	if two, _ := catalogueKey(images, first); two == one {
		t.Error("another environment, the same key")
	}
	if _, err := catalogueKey([]Image{{Name: "x", Layers: []string{"none"}}}, first); err == nil {
		t.Error("an image of a layer that is not there has a key")
	}
	if known, err := Key(); err != nil || known != one {
		t.Errorf("Key: %s, %v, want %s", known, err, one)
	}
}

// The storage of a registry belongs to images of these bytes, not of this recipe.
func TestSetKeyIsOfTheOutcome(t *testing.T) {
	image := Images()[0]
	layers := fixed(image.Layers)
	first, err := assemble(image, layers)
	must(t, err)
	layers[1].Digest = digestOf([]byte("built again"))
	second, err := assemble(image, layers)
	must(t, err)
	if setKey([]Built{first}) == setKey([]Built{second}) {
		t.Error("another layer, the same storage")
	}
}
