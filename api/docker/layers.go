package docker

import (
	"slices"
	"strings"

	"linkspan/image"
)

// layers are the layers of all images by what lies below them: two images share a
// layer if theirs and all below it are the same.
type layers struct {
	size  map[string]int64
	users map[string]int
	of    map[string][]string // image id → its layers
}

// layersOf asks the image service for the sizes. An image whose layers cannot be
// told is left out: it counts with its own size.
func (s *server) layersOf(c *call, images []*image.Image) *layers {
	l := &layers{size: map[string]int64{}, users: map[string]int{}, of: map[string][]string{}}
	for _, img := range images {
		if _, again := l.of[img.ID]; again {
			continue
		}
		items, err := s.Images.History(c.Context(), img.ID)
		if err != nil {
			s.log.Warn("the layers of an image are not known", "image", img.ID, "error", err)
			continue
		}
		slices.Reverse(items) // the lowest layer first
		var filled []image.HistoryItem
		for i, item := range items {
			if h := img.Config.History; len(h) != len(items) || !h[i].EmptyLayer {
				filled = append(filled, item)
			}
		}
		ids := img.Config.RootFS.DiffIDs
		if len(filled) != len(ids) {
			continue
		}
		var chain strings.Builder
		l.of[img.ID] = []string{}
		for i, id := range ids {
			chain.WriteString(id.String())
			key := chain.String()
			l.size[key] = filled[i].Size
			l.users[key]++
			l.of[img.ID] = append(l.of[img.ID], key)
		}
	}
	return l
}

// shared is the part of an image that others have too.
func (l *layers) shared(id string) (n int64) {
	for _, key := range l.of[id] {
		if l.users[key] > 1 {
			n += l.size[key]
		}
	}
	return n
}

// total is what all images take, each layer once.
func (l *layers) total(images []*image.Image) (n int64) {
	for _, size := range l.size {
		n += size
	}
	for _, img := range images {
		if _, known := l.of[img.ID]; !known {
			n += img.Size
		}
	}
	return n
}
