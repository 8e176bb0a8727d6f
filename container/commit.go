package container

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	apicontainer "github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/cnm"
	"linkspan/container/layer"
	"linkspan/image"
)

// Commit implements Service. The container is held meanwhile, and with Pause its
// processes are frozen.
func (e *Engine) Commit(ctx context.Context, ref string, o CommitOptions) (string, error) {
	en, c, err := e.locked(ctx, ref)
	if err != nil {
		return "", err
	}
	defer en.unlock()
	layered, err := e.layered(c, o)
	if err != nil {
		return "", err
	}
	parent, err := e.cfg.Images.Get(ctx, c.ImageID)
	if errors.Is(err, cnm.ErrNotFound) {
		return "", cnm.Conflict("container %s cannot be committed: its image %s is gone; `docker export` packs its files all the same", c.Name, c.ImageRef)
	}
	if err != nil {
		return "", err
	}
	if o.Pause && c.State.Phase == Running && en.currentRun() != nil {
		thaw, err := e.freeze(ctx, en)
		if err != nil {
			return "", err
		}
		defer thaw()
	}
	id, err := e.commitLayer(ctx, c, parent, layered)
	if err != nil {
		return "", err
	}
	e.publish(c, "commit", "comment", o.Comment, "imageID", id, "imageRef", layered.Ref)
	return id, nil
}

// freeze pauses a container, and thaw ends that. The record says so before it
// happens: a daemon that dies meanwhile leaves nobody standing still.
func (e *Engine) freeze(ctx context.Context, en *entry) (thaw func(), err error) {
	ctx = lasting(ctx)
	en.entering.Lock()
	defer en.entering.Unlock()
	if _, err := e.change(ctx, en, "freezing", func(c *Container) { c.State.Frozen = true }); err != nil {
		return nil, err
	}
	if err := e.ctd.pause(ctx, en.id); err != nil {
		e.observe(en, "unfrozen", func(c *Container) { c.State.Frozen = false })
		return nil, err
	}
	c := e.observe(en, "frozen", func(c *Container) { c.State.Phase = Paused })
	e.publish(c, "pause")
	return func() {
		// It may have been killed meanwhile: then there is nothing to thaw.
		if c := en.load(); c.State.Phase.running() && !e.thawed(ctx, c) {
			return
		}
		c := e.observe(en, "unfrozen", func(c *Container) {
			if c.State.Frozen = false; c.State.Phase == Paused {
				c.State.Phase = Running
			}
		})
		e.publish(c, "unpause")
	}, nil
}

// thawed lets a container go on that a commit had paused.
func (e *Engine) thawed(ctx context.Context, c *Container) bool {
	if err := e.ctd.resume(ctx, c.ID); err != nil {
		e.log.Error("a container that was paused for a commit stays paused; `docker unpause` lets it go on", "container", c.Name, "error", err)
		return false
	}
	return true
}

// commitLayer packs what the container changed while the image is written.
func (e *Engine) commitLayer(ctx context.Context, c *Container, parent *image.Image, l image.Layered) (string, error) {
	v, err := e.bare(ctx, c)
	if err != nil {
		return "", err
	}
	defer v.Close()
	changes, err := e.compare(ctx, c, v)
	if err != nil {
		return "", err
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(layer.Write(changes, v.Root(), w))
	}()
	id, err := e.cfg.Images.Layered(ctx, parent, r, l)
	r.CloseWithError(errors.New("nobody reads any more"))
	<-done
	return id, err
}

// layered is the new image's configuration: the container's, what the request
// puts over it, and then its instructions.
func (e *Engine) layered(c *Container, o CommitOptions) (image.Layered, error) {
	l := image.Layered{Author: o.Author, Comment: o.Comment, CreatedBy: strings.Join(c.Config.Cmd, " ")}
	switch {
	case o.Repo == "" && o.Tag != "":
		return l, cnm.Invalid("a tag needs a repository: %q has none", o.Tag)
	case o.Repo != "" && o.Tag != "":
		l.Ref = o.Repo + ":" + o.Tag
	default:
		l.Ref = o.Repo
	}
	own := imageConfig(c.Config)
	if o.Config != nil {
		over := *o.Config
		over.Image = c.Config.Image
		if err := merge(&over, asImage(own)); err != nil {
			return l, err
		}
		own = imageConfig(&over)
	}
	if err := image.ApplyChanges(&own, o.Changes); err != nil {
		return l, err
	}
	l.Config, l.OnBuild, l.Shell = own.ImageConfig, own.OnBuild, own.Shell
	if h := own.Healthcheck; h != nil {
		l.Healthcheck = &image.Healthcheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout,
			StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	}
	return l, nil
}

// imageConfig is the part of a container's configuration that images have; the
// copy is the caller's to change.
func imageConfig(c *apicontainer.Config) dockerspec.DockerOCIImageConfig {
	out := dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{
		User: c.User, Env: slices.Clone(c.Env), Entrypoint: slices.Clone(c.Entrypoint), Cmd: slices.Clone(c.Cmd),
		Volumes: maps.Clone(c.Volumes), WorkingDir: c.WorkingDir, Labels: maps.Clone(c.Labels), StopSignal: c.StopSignal,
	}}
	for p := range c.ExposedPorts {
		if out.ExposedPorts == nil {
			out.ExposedPorts = map[string]struct{}{}
		}
		out.ExposedPorts[p.String()] = struct{}{}
	}
	if h := c.Healthcheck; h != nil {
		out.Healthcheck = &dockerspec.HealthcheckConfig{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout,
			StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	}
	out.OnBuild, out.Shell = slices.Clone(c.OnBuild), slices.Clone(c.Shell)
	return out
}

// asImage is a configuration as merge takes it.
func asImage(c dockerspec.DockerOCIImageConfig) *image.Image {
	i := &image.Image{OnBuild: c.OnBuild, Shell: c.Shell}
	i.Config.Config = c.ImageConfig
	if h := c.Healthcheck; h != nil {
		i.Healthcheck = &image.Healthcheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout,
			StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	}
	return i
}
