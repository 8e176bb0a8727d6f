package docker

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"linkspan/cnm"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// imagePush is `docker push`. Without a tag all tags of the repository are pushed.
func (s *server) imagePush(c *call) error {
	platform, err := onePlatform(c.Query("platform"))
	if err != nil {
		return err
	}
	refs, err := s.pushRefs(c, c.Vars["name"], c.Query("tag"))
	if err != nil {
		return err
	}
	p, auth := progress{c}, registryAuth(c.R.Header.Get(registry.AuthHeader))
	for _, ref := range refs {
		if err := s.Images.Push(c.Context(), ref, platform, auth, p.pushed); err != nil {
			return p.end(err)
		}
	}
	return nil
}

func (s *server) pushRefs(c *call, name, tag string) ([]string, error) {
	if tag != "" {
		ref, err := repoTag(name, tag)
		return []string{ref}, err
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, cnm.Invalid("invalid reference format: %q is no image name: %w", name, err)
	}
	if !reference.IsNameOnly(named) {
		return []string{name}, nil
	}
	images, err := s.Images.List(c.Context())
	if err != nil {
		return nil, err
	}
	var refs []string
	for _, img := range images {
		for _, t := range img.RepoTags {
			if have, err := reference.ParseNormalizedNamed(t); err == nil && have.Name() == named.Name() {
				refs = append(refs, t)
			}
		}
	}
	if len(refs) == 0 {
		return nil, cnm.NotFound("An image does not exist locally with the tag: %s", reference.FamiliarName(named))
	}
	return refs, nil
}

// digestLine is the last thing that a push says.
var digestLine = regexp.MustCompile(`^(\S+): digest: (\S+) size: (\d+)$`)

// pushed is tell, which repeats the digest for programs, as dockerd does.
func (p progress) pushed(id, status string, current, total int64) {
	p.tell(id, status, current, total)
	m := digestLine.FindStringSubmatch(status)
	if id != "" || m == nil {
		return
	}
	size, _ := strconv.Atoi(m[3])
	aux, err := json.Marshal(struct {
		Tag, Digest string
		Size        int
	}{m[1], m[2], size})
	if err != nil {
		return
	}
	raw := json.RawMessage(aux)
	p.send(line{Message: jsonstream.Message{Progress: &jsonstream.Progress{}, Aux: &raw}})
}

// onePlatform reads a platform as push and save carry it: JSON since 1.46, and
// "linux/arm64" from those who write requests by hand.
func onePlatform(s string) (string, error) {
	if !strings.HasPrefix(s, "{") {
		return s, nil
	}
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(s), &p); err != nil {
		return "", cnm.Invalid("invalid platform %s: %w", s, err)
	}
	if p.OS == "" || p.Architecture == "" {
		return "", cnm.Invalid("invalid platform %s: it must name os and architecture", s)
	}
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/"), nil
}

// imageSave is `docker save`: one archive of all the images that are named.
func (s *server) imageSave(c *call) error {
	names := c.R.URL.Query()["names"]
	if n := c.Vars["name"]; n != "" {
		names = []string{n}
	}
	if len(names) == 0 {
		return cnm.Invalid("no image to save: the query must have names, once for each")
	}
	platforms := c.R.URL.Query()["platform"]
	if len(platforms) > 1 {
		return cnm.Unsupported("not yet: saving several platforms at once; name one, or none for this host's")
	}
	platform, err := onePlatform(c.Query("platform"))
	if err != nil {
		return err
	}
	c.Header().Set("Content-Type", "application/x-tar")
	err = s.Images.Save(c.Context(), names, platform, c.w)
	if err != nil && c.w.started() && c.Context().Err() == nil {
		// An archive cut short must not look whole: the connection breaks.
		s.log.Error("the saving of images was cut short", "images", names, "error", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// distribution tells what the registry knows of an image, without a pull.
func (s *server) distribution(c *call) error {
	d, err := s.Images.Distribution(c.Context(), c.Vars["name"], registryAuth(c.R.Header.Get(registry.AuthHeader)))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, registry.DistributionInspect{Descriptor: d.Descriptor, Platforms: orEmpty(d.Platforms)})
}
