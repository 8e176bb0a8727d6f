package docker

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/image"

	"github.com/distribution/reference"
	apiimage "github.com/moby/moby/api/types/image"
)

func (s *server) imageRoutes() []route {
	later := func(why string) handler {
		return func(*call) error { return cnm.Unsupported("not yet: %s", why) }
	}
	return []route{
		post("/images/create", s.imageCreate),
		post("/images/load", s.imageLoad),
		post("/images/prune", s.imagePrune),
		post("/images/{name...}/push", s.imagePush),
		post("/images/{name...}/tag", s.imageTag),
		get("/images/json", s.imageList),
		get("/images/search", later("searching the Docker Hub: use its web page")),
		get("/images/get", s.imageSave),
		get("/images/{name...}/get", s.imageSave),
		get("/distribution/{name...}/json", s.distribution),
		get("/images/{name...}/history", s.imageHistory),
		get("/images/{name...}/json", s.imageInspect),
		del("/images/{name...}", s.imageRemove),
	}
}

// imageSummary is one line of `docker images`.
type imageSummary struct {
	apiimage.Summary
	VirtualSize *int64 `json:",omitempty"` // until 1.43
}

// imageList answers `docker images`. What counts as dangling is dockerd's rule:
// true takes images without a tag, false leaves out those without any name.
func (s *server) imageList(c *call) error {
	f, err := c.Filters()
	if err != nil {
		return err
	}
	if v := c.Query("filter"); v != "" && c.Version.Before(41) { // a filter before there were filters
		f["reference"] = map[string]bool{v: true}
	}
	if err := f.Only("dangling", "label", "before", "since", "reference", "until"); err != nil {
		return err
	}
	keep, err := s.imageFilter(c, f)
	if err != nil {
		return err
	}
	images, err := s.Images.List(c.Context())
	if err != nil {
		return err
	}
	list := []imageSummary{}
	var usage *image.Usage
	if c.Bool("shared-size") {
		if usage, err = s.imageUsage(c, images); err != nil {
			return err
		}
	}
	for _, img := range images {
		tags, digests, err := matching(f, img)
		if err != nil {
			return err
		}
		if !keep(img) || f.Has("reference") && len(tags)+len(digests) == 0 {
			continue
		}
		if len(tags)+len(digests) == 0 && c.Version.Before(43) {
			tags, digests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
		}
		j := imageSummary{Summary: apiimage.Summary{
			ID: img.ID, Created: unixTime(img.Created), Labels: img.Labels, RepoTags: orEmpty(tags), RepoDigests: orEmpty(digests),
			Size: img.Size, SharedSize: -1, Containers: -1,
		}}
		if usage != nil {
			j.SharedSize = usage.Shared[img.ID]
		}
		if c.Version.Before(44) {
			j.VirtualSize = &j.Size
		}
		list = append(list, j)
	}
	return c.JSON(http.StatusOK, list)
}

// imageFilter reads all filters but reference.
func (s *server) imageFilter(c *call, f filters) (func(*image.Image) bool, error) {
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	var before, since *image.Image
	for key, to := range map[string]**image.Image{"before": &before, "since": &since} {
		for _, ref := range f.Values(key) {
			if *to, err = s.Images.Get(c.Context(), ref); err != nil {
				return nil, err
			}
		}
	}
	until, err := f.until()
	if err != nil {
		return nil, err
	}
	return func(img *image.Image) bool {
		switch {
		case dangling && len(img.RepoTags) > 0,
			!dangling && f.Has("dangling") && len(img.RepoTags)+len(img.Digests) == 0,
			!f.Labels("label", img.Labels),
			before != nil && !img.Created.Before(before.Created),
			since != nil && !img.Created.After(since.Created),
			!until.IsZero() && !img.Created.Before(until):
			return false
		}
		return true
	}, nil
}

// matching are the names of an image that the filter reference asks for: a name
// with or without tag, or a pattern of path.Match.
func matching(f filters, img *image.Image) (tags, digests []string, err error) {
	if !f.Has("reference") {
		return img.RepoTags, img.Digests, nil
	}
	match := func(names []string) (list []string, err error) {
		for _, n := range names {
			ref, err := reference.ParseNormalizedNamed(n)
			if err != nil {
				continue
			}
			for _, pattern := range f.Values("reference") {
				ok, err := reference.FamiliarMatch(pattern, ref)
				if err != nil {
					return nil, badFilter("reference", pattern)
				}
				if ok {
					list = append(list, n)
					break
				}
			}
		}
		return list, nil
	}
	if tags, err = match(img.RepoTags); err == nil {
		digests, err = match(img.Digests)
	}
	return tags, digests, err
}

// imageHistory answers `docker history`.
func (s *server) imageHistory(c *call) error {
	items, err := s.Images.History(c.Context(), c.Vars["name"])
	if err != nil {
		return err
	}
	list := []apiimage.HistoryResponseItem{}
	for _, i := range items {
		list = append(list, apiimage.HistoryResponseItem{
			ID: i.ID, Created: unixTime(i.Created), CreatedBy: i.CreatedBy, Comment: i.Comment, Size: i.Size, Tags: i.Tags,
		})
	}
	return c.JSON(http.StatusOK, list)
}

// imageTag answers `docker tag`.
func (s *server) imageTag(c *call) error {
	target, err := repoTag(c.Query("repo"), c.Query("tag"))
	if err != nil {
		return err
	}
	if target == "" {
		return cnm.Invalid("invalid reference format: the query lacks repo, the name to give to the image")
	}
	if err := s.Images.Tag(c.Context(), c.Vars["name"], target); err != nil {
		return err
	}
	return c.Empty(http.StatusCreated)
}

// repoTag puts a name together from the API's two halves.
func repoTag(repo, tag string) (string, error) {
	if repo == "" || tag == "" {
		return repo, nil
	}
	named, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return "", cnm.Invalid("invalid reference format: %q is no image name: %w", repo, err)
	}
	if _, err := reference.WithTag(reference.TrimNamed(named), tag); err != nil {
		return "", cnm.Invalid("invalid tag format: %q", tag)
	}
	return reference.FamiliarName(named) + ":" + tag, nil
}

// imageRemove answers `docker rmi`.
func (s *server) imageRemove(c *call) error {
	if strings.TrimSpace(c.Vars["name"]) == "" {
		return cnm.Invalid("image name cannot be blank")
	}
	if c.Has("platforms") {
		return cnm.Unsupported("not yet: removing single platforms of image %s: an image here is of one platform; leave platforms out", c.Vars["name"])
	}
	gone, err := s.Images.Remove(c.Context(), c.Vars["name"], c.Bool("force"), !c.Bool("noprune"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, deletedJSON(gone))
}

func deletedJSON(gone []image.Deleted) []apiimage.DeleteResponse {
	list := []apiimage.DeleteResponse{}
	for _, d := range gone {
		list = append(list, apiimage.DeleteResponse{Untagged: d.Untagged, Deleted: d.Deleted})
	}
	return list
}

// imagePruner is an image service that can prune.
type imagePruner interface {
	Prune(context.Context, image.PruneOptions) ([]image.Deleted, int64, error)
}

// imagePrune answers `docker image prune`: with dangling=false (-a) all images
// that no container uses.
func (s *server) imagePrune(c *call) error {
	f, err := c.Filters()
	if err != nil {
		return err
	}
	dangling, err := f.Bool("dangling", true)
	if err != nil {
		return err
	}
	match, err := f.pruneRules("dangling")
	if err != nil {
		return err
	}
	p, ok := s.Images.(imagePruner)
	if !ok {
		return cnm.Unsupported("not yet: this image service cannot prune")
	}
	gone, bytes, err := p.Prune(c.Context(), image.PruneOptions{
		All: !dangling, Match: func(i *image.Image) bool { return match(i.Created, i.Labels) },
	})
	if err != nil {
		return err
	}
	s.pruned("image", uint64(bytes))
	return c.JSON(http.StatusOK, apiimage.PruneReport{ImagesDeleted: slices.Clip(deletedJSON(gone)), SpaceReclaimed: uint64(bytes)})
}
