package images

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"sort"
	"strings"
)

// What goes into the layers besides packages. The programs are embedded as
// source: a test binary that runs far from the checkout builds them as well.
//
//go:embed all:files pause/*.go netprobe/*.go
var tree embed.FS

// format is part of every key: raise it when the builder makes different
// layers from the same recipe.
const format = "2"

// key is the cache key of a layer: a hash over its recipe, the files and
// program sources it takes, this machine's architecture and the layer below.
// It does not hold package versions: a cached layer stays until its recipe
// changes or the cache is removed.
func key(l Layer, below string) (string, error) {
	h := sha256.New()
	recipe, err := json.Marshal(l)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "%s %s %s\n%s\n", format, runtime.GOARCH, below, recipe)
	folders := []string{path.Join("files", l.Name)}
	for _, source := range l.Programs {
		folders = append(folders, source)
	}
	sort.Strings(folders)
	for _, folder := range folders {
		if _, err := fs.Stat(tree, folder); err != nil {
			continue // a layer without files of ours
		}
		err := fs.WalkDir(tree, folder, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(name, "_test.go") {
				return err
			}
			data, err := tree.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "%s %d\n", name, len(data))
			h.Write(data)
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:24], nil
}

// keys gives every layer's key; the catalogue lists a layer after its parent.
func keys(layers []Layer) (map[string]string, error) {
	out := make(map[string]string, len(layers))
	for _, l := range layers {
		below, known := out[l.From]
		if l.From != "" && !known {
			return nil, fmt.Errorf("layer %s stands on %q, which is not before it in the catalogue", l.Name, l.From)
		}
		k, err := key(l, below)
		if err != nil {
			return nil, err
		}
		out[l.Name] = k
	}
	return out, nil
}

// Key names the state of the whole catalogue: all recipes of images and layers.
// It is known without building anything.
func Key() (string, error) {
	k, err := keys(Layers())
	if err != nil {
		return "", err
	}
	return catalogueKey(Images(), k)
}

func catalogueKey(images []Image, layerKeys map[string]string) (string, error) {
	h := sha256.New()
	data, err := json.Marshal(images)
	if err != nil {
		return "", err
	}
	h.Write(data)
	for _, image := range images {
		for _, l := range image.Layers {
			k, ok := layerKeys[l]
			if !ok {
				return "", fmt.Errorf("image %s wants layer %q, which is not in the catalogue", image.Name, l)
			}
			fmt.Fprintln(h, k)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:24], nil
}

// setKey names one outcome: these very images. A layer that was removed and
// built again has other bytes under the same recipe, and a registry's storage
// must hold what the manifests say.
func setKey(images []Built) string {
	h := sha256.New()
	for _, image := range images {
		fmt.Fprintln(h, image.Name, image.Tags, image.Digest)
	}
	return hex.EncodeToString(h.Sum(nil))[:24]
}
