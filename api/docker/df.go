package docker

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"linkspan/image"
	"linkspan/volume"
)

// dfJSON is the answer of GET /system/df until 1.52.
type dfJSON struct {
	LayersSize  int64
	Images      []dfImage
	Containers  []*summaryJSON
	Volumes     []dfVolume
	BuildCache  []any
	BuilderSize int64 `json:",omitempty"`
}

type dfImage struct {
	ID          string `json:"Id"`
	ParentID    string `json:"ParentId"`
	RepoTags    []string
	RepoDigests []string
	Created     int64
	Size        int64
	SharedSize  int64
	Labels      map[string]string
	Containers  int64
}

type dfVolume struct {
	CreatedAt, Driver string
	Labels            map[string]string
	Mountpoint, Name  string
	Options           map[string]string
	Scope             string
	UsageData         struct{ Size, RefCount int64 }
}

// diskUsage adds up what images, containers and volumes hold; a layer that
// several images share counts once.
func (s *server) diskUsage(c *call) error {
	types := c.R.URL.Query()["type"]
	want := func(t string) bool { return len(types) == 0 || slices.Contains(types, t) }
	df := dfJSON{Images: []dfImage{}, Containers: []*summaryJSON{}, Volumes: []dfVolume{}, BuildCache: []any{}}
	containers := s.Containers.List()
	if want("image") {
		images, err := s.Images.List(c.Context())
		if err != nil {
			return err
		}
		users := map[string]int64{}
		for _, ctr := range containers {
			users[ctr.ImageID]++
		}
		usage, err := s.imageUsage(c, images)
		if err != nil {
			return err
		}
		df.LayersSize = usage.Layers
		for _, i := range images {
			df.Images = append(df.Images, dfImage{
				SharedSize: usage.Shared[i.ID],
				ID:         i.ID, RepoTags: orEmpty(i.RepoTags), RepoDigests: orEmpty(i.Digests), Created: i.Created.Unix(),
				Size: i.Size, Labels: orEmptyMap(i.Labels), Containers: users[i.ID],
			})
		}
	}
	if want("container") {
		names, links := imageNames{s: s, c: c}, linkNames(containers)
		for _, ctr := range containers {
			j := s.renderSummary(c, ctr, links[ctr.ID], &names)
			j.SizeRw, j.SizeRootFs, _ = s.Containers.Size(c.Context(), ctr.ID)
			df.Containers = append(df.Containers, j)
		}
		slices.SortFunc(df.Containers, func(a, b *summaryJSON) int { return strings.Compare(a.ID, b.ID) })
	}
	if want("volume") && s.Volumes != nil {
		volumes, err := s.Volumes.List(c.Context())
		if err != nil {
			return err
		}
		users := map[string]int64{}
		for _, ctr := range containers {
			for _, m := range ctr.Mounts {
				users[m.Name]++
			}
		}
		for _, v := range volumes {
			j := dfVolume{
				CreatedAt: v.Created.UTC().Format(time.RFC3339), Driver: volume.Driver, Labels: v.Labels,
				Mountpoint: v.Mountpoint, Name: v.Name, Options: v.Options, Scope: "local",
			}
			j.UsageData.RefCount = users[v.Name]
			if j.UsageData.Size, err = s.Volumes.Size(c.Context(), v.Name); err != nil {
				j.UsageData.Size = -1 // Docker's word for "not known"
			}
			df.Volumes = append(df.Volumes, j)
		}
	}
	return c.JSON(http.StatusOK, df)
}

// usager is an image service that tells layers apart.
type usager interface {
	Usage(context.Context) (*image.Usage, error)
}

// imageUsage is what the images take; without a service that tells layers apart,
// each image has its own.
func (s *server) imageUsage(c *call, images []*image.Image) (*image.Usage, error) {
	if u, ok := s.Images.(usager); ok {
		return u.Usage(c.Context())
	}
	u := &image.Usage{}
	for _, i := range images {
		u.Layers += i.Size
	}
	return u, nil
}
