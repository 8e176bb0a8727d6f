package docker

import (
	"context"
	"encoding/json"
	"testing"

	"linkspan/cnm"
	"linkspan/image"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layeredImages are three: b is a with one layer more, c has the same layer on
// other ground, and d's layers cannot be told.
type layeredImages struct{ image.Service }

func (layeredImages) List(context.Context) ([]*image.Image, error) {
	img := func(id string, size int64, history []ocispec.History, diffs ...digest.Digest) *image.Image {
		i := &image.Image{ID: id, Size: size}
		i.Config.RootFS.DiffIDs, i.Config.History = diffs, history
		return i
	}
	filled, empty := ocispec.History{}, ocispec.History{EmptyLayer: true}
	return []*image.Image{
		img("a", 100, []ocispec.History{filled, empty}, "sha256:1"),
		img("b", 107, []ocispec.History{filled, empty, filled}, "sha256:1", "sha256:2"),
		img("c", 57, nil, "sha256:3", "sha256:2"),
		img("d", 1000, nil),
	}, nil
}

func (layeredImages) History(_ context.Context, ref string) ([]image.HistoryItem, error) {
	sizes := map[string][]int64{"a": {0, 100}, "b": {7, 0, 100}, "c": {7, 50}}[ref] // newest first
	if sizes == nil {
		return nil, cnm.NotFound("No such image: %s", ref)
	}
	var items []image.HistoryItem
	for _, n := range sizes {
		items = append(items, image.HistoryItem{Size: n})
	}
	return items, nil
}

// TestSharedLayers: a layer counts once, and is shared only on the same ground.
func TestSharedLayers(t *testing.T) {
	cfg := testConfig(newFakeContainers(), newFakeNetwork())
	cfg.Images = layeredImages{}
	h := New(cfg)
	var df struct {
		LayersSize int64
		Images     []struct {
			ID         string `json:"Id"`
			SharedSize int64
		}
	}
	w := request(t, h, "GET", "/system/df?type=image", "")
	if err := json.Unmarshal(w.Body.Bytes(), &df); err != nil {
		t.Fatal(err)
	}
	if want := int64(100 + 7 + 50 + 7 + 1000); df.LayersSize != want {
		t.Errorf("%d in all, want %d", df.LayersSize, want)
	}
	want := map[string]int64{"a": 100, "b": 100, "c": 0, "d": 0}
	for _, i := range df.Images {
		if i.SharedSize != want[i.ID] {
			t.Errorf("%s shares %d, want %d", i.ID, i.SharedSize, want[i.ID])
		}
	}
	for query, want := range map[string]int64{"": -1, "?shared-size=1": 100} {
		var list []struct{ SharedSize int64 }
		w := request(t, h, "GET", "/images/json"+query, "")
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || list[0].SharedSize != want {
			t.Errorf("%s: %v %s", query, err, w.Body)
		}
	}
}
