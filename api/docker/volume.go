package docker

import (
	"net/http"
	"time"

	"linkspan/cnm"
	"linkspan/volume"

	apivolume "github.com/moby/moby/api/types/volume"
)

func (s *server) volumeRoutes() []route {
	return []route{
		get("/volumes", s.volumeList),
		get("/volumes/{name}", s.volumeInspect),
		post("/volumes/create", s.volumeCreate),
		post("/volumes/prune", s.volumePrune),
		put("/volumes/{name}", func(c *call) error {
			return cnm.Unsupported("not yet: updating volume %s: only volumes of a swarm can be updated", c.Vars["name"])
		}),
		del("/volumes/{name}", s.volumeRemove),
	}
}

func volumeJSON(v *volume.Volume) apivolume.Volume {
	return apivolume.Volume{
		Name: v.Name, Driver: volume.Driver, Mountpoint: v.Mountpoint, Scope: "local",
		CreatedAt: v.Created.Format(time.RFC3339), Labels: orEmptyMap(v.Labels), Options: orEmptyMap(v.Options),
	}
}

func (s *server) volumeList(c *call) error {
	f, err := c.Filters()
	if err != nil {
		return err
	}
	if err := f.Only("dangling", "driver", "label", "name"); err != nil {
		return err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return err
	}
	volumes, err := s.Volumes.List(c.Context())
	if err != nil {
		return err
	}
	used := s.usedVolumes()
	list := apivolume.ListResponse{Volumes: []apivolume.Volume{}}
	for _, v := range volumes {
		if f.Has("dangling") && dangling == used[v.Name] ||
			!f.Exact("driver", volume.Driver) || !f.Labels("label", v.Labels) || !f.Match("name", v.Name) {
			continue
		}
		list.Volumes = append(list.Volumes, volumeJSON(v))
	}
	return c.JSON(http.StatusOK, list)
}

// usedVolumes are the names of the volumes that containers mount.
func (s *server) usedVolumes() map[string]bool {
	used := map[string]bool{}
	for _, ctr := range s.Containers.List() {
		for _, m := range ctr.Mounts {
			if m.Type == "volume" {
				used[m.Name] = true
			}
		}
	}
	return used
}

func (s *server) volumeInspect(c *call) error {
	v, err := s.Volumes.Get(c.Context(), c.Vars["name"])
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, volumeJSON(v))
}

func (s *server) volumeCreate(c *call) error {
	var r apivolume.CreateRequest
	if err := c.ReadJSON(&r); err != nil {
		return err
	}
	if r.ClusterVolumeSpec != nil {
		return cnm.Unsupported("not yet: volume %s as a cluster volume: this daemon is not part of a swarm", r.Name)
	}
	v, err := s.Volumes.Create(c.Context(), volume.CreateRequest{Name: r.Name, Driver: r.Driver, Labels: r.Labels, Options: r.DriverOpts})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, volumeJSON(v))
}

func (s *server) volumeRemove(c *call) error {
	if err := s.Volumes.Remove(c.Context(), c.Vars["name"], c.Bool("force")); err != nil {
		return err
	}
	return c.Empty(http.StatusNoContent)
}

// volumePrune removes unused anonymous volumes; with all=true, and for clients
// before 1.42, also named ones.
func (s *server) volumePrune(c *call) error {
	f, err := c.Filters()
	if err != nil {
		return err
	}
	if err := f.Only("label", "label!", "all"); err != nil {
		return err
	}
	all, err := f.Bool("all", c.Version.Before(42))
	if err != nil {
		return err
	}
	names, bytes, err := s.Volumes.Prune(c.Context(), func(v *volume.Volume) bool {
		return (all || v.Anonymous()) && f.Labels("label", v.Labels) && (!f.Has("label!") || !f.Labels("label!", v.Labels))
	})
	if err != nil {
		return err
	}
	s.pruned("volume", uint64(bytes))
	return c.JSON(http.StatusOK, apivolume.PruneReport{VolumesDeleted: orEmpty(names), SpaceReclaimed: uint64(bytes)})
}
