package docker

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/image"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	apiimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// imageJSON is the answer of `docker image inspect`. The fields that ended, with
// the version that ended them, are pointers or interfaces.
type imageJSON struct {
	ID              string `json:"Id"`
	RepoTags        []string
	RepoDigests     []string
	Parent          string
	Comment         string
	Created         string     `json:",omitempty"`
	Container       *string    `json:",omitempty"` // 1.44
	ContainerConfig *oldConfig `json:",omitempty"` // 1.44
	DockerVersion   string
	Author          string
	Config          any
	Architecture    string
	Variant         string `json:",omitempty"`
	Os              string
	OsVersion       string `json:",omitempty"`
	Size            int64
	VirtualSize     *int64 `json:",omitempty"` // 1.43
	GraphDriver     storage.DriverData
	RootFS          apiimage.RootFS
	Metadata        apiimage.Metadata
}

// imageConfig is what 1.50 and later say of a config: the fields of dockerd's
// type that an image can have, and the empty ones that were always there.
type imageConfig struct {
	User         string
	ExposedPorts map[string]struct{}           `json:",omitempty"`
	Env          []string                      // always there
	Cmd          []string                      // always there
	Healthcheck  *dockerspec.HealthcheckConfig `json:",omitempty"`
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	OnBuild      []string
	Labels       map[string]string
	StopSignal   string   `json:",omitempty"`
	Shell        []string `json:",omitempty"`
}

// oldConfig is the config until 1.49: that of a container, of which an image
// never has these.
type oldConfig struct {
	Hostname     string
	Domainname   string
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	Tty          bool
	OpenStdin    bool
	StdinOnce    bool
	Image        string
	imageConfig
}

func (s *server) imageInspect(c *call) error {
	img, err := s.Images.Get(c.Context(), c.Vars["name"])
	if err != nil {
		return err
	}
	if p := c.Query("platform"); p != "" {
		if err := hasPlatform(c.Vars["name"], img, p); err != nil {
			return err
		}
	}
	return c.JSON(http.StatusOK, s.renderImage(c, img))
}

// hasPlatform: from 1.49 a client may insist on a platform, given as JSON.
func hasPlatform(name string, img *image.Image, platform string) error {
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(platform), &p); err != nil {
		return cnm.Invalid("failed to parse platform: %q must be JSON like {\"os\":\"linux\",\"architecture\":\"amd64\"}: %w", platform, err)
	}
	have := img.Config.Platform
	if p.OS != have.OS || p.Architecture != have.Architecture || p.Variant != "" && p.Variant != have.Variant {
		return cnm.NotFound("image with reference %s was found but its platform (%s) does not match the specified platform (%s)", name, platformWord(have), platformWord(p))
	}
	return nil
}

func platformWord(p ocispec.Platform) string {
	w := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		w += "/" + p.Variant
	}
	return w
}

func (s *server) renderImage(c *call, img *image.Image) *imageJSON {
	o := img.Config
	j := &imageJSON{
		ID: img.ID, RepoTags: orEmpty(img.RepoTags), RepoDigests: orEmpty(img.Digests), Author: o.Author,
		Architecture: o.Architecture, Variant: o.Variant, Os: o.OS, OsVersion: o.OSVersion, Size: img.Size,
		RootFS: apiimage.RootFS{Type: o.RootFS.Type}, Metadata: apiimage.Metadata{LastTagTime: img.LastTagged},
	}
	if n := len(o.History); n > 0 {
		j.Comment = o.History[n-1].Comment
	}
	if !img.Created.IsZero() || c.Version.Before(44) {
		j.Created = img.Created.Format(time.RFC3339Nano)
	}
	for _, d := range o.RootFS.DiffIDs {
		j.RootFS.Layers = append(j.RootFS.Layers, d.String())
	}
	if s.Info != nil {
		j.GraphDriver.Name = s.Info(c.Context()).Driver
	}
	cfg := renderImageConfig(img)
	j.Config = cfg
	if c.Version.Before(50) {
		j.Config = oldConfig{imageConfig: cfg}
	}
	if c.Version.Before(45) || oldCompose(c.R) {
		j.Container, j.ContainerConfig = new(string), &oldConfig{}
	}
	if c.Version.Before(44) {
		j.VirtualSize = &j.Size
	}
	return j
}

// oldCompose: docker-compose 1 asks in the newest version that a server offers, and
// reads ContainerConfig, which ended with 1.44: dockerd from 25 on breaks its `up` for a
// container that is there already (KeyError: 'ContainerConfig').
func oldCompose(r *http.Request) bool { return strings.HasPrefix(r.UserAgent(), "docker-compose/1.") }

func renderImageConfig(img *image.Image) imageConfig {
	o := img.Config.Config
	cfg := imageConfig{
		User: o.User, ExposedPorts: o.ExposedPorts, Env: o.Env, Cmd: o.Cmd, Volumes: o.Volumes, WorkingDir: o.WorkingDir,
		Entrypoint: o.Entrypoint, OnBuild: img.OnBuild, Labels: o.Labels, StopSignal: o.StopSignal, Shell: img.Shell,
	}
	if h := img.Healthcheck; h != nil {
		cfg.Healthcheck = &dockerspec.HealthcheckConfig{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
		}
	}
	return cfg
}

// unixTime is 0 for no time at all, where time.Time would be before Christ.
func unixTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
