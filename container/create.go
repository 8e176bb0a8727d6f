package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/platforms"
	apicontainer "github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"linkspan/cnm"
	"linkspan/container/etc"
	"linkspan/container/spec"
	"linkspan/image"
)

// Create implements Service. Before the last commit nobody sees the container;
// what a crash leaves of it is swept at the next start.
func (e *Engine) Create(ctx context.Context, r CreateRequest) (string, []string, error) {
	c, img, warnings, err := e.define(ctx, r)
	if err != nil {
		return "", nil, err
	}
	if c.Name, err = e.claim(r.Name, c.ID); err != nil {
		return "", nil, err
	}
	more, err := e.realize(lasting(ctx), c, img)
	if err != nil {
		e.unclaim(c.Name, c.ID)
		return "", nil, err
	}
	return c.ID, append(warnings, more...), nil
}

// define makes a container's definition, and nothing else.
func (e *Engine) define(ctx context.Context, r CreateRequest) (*Container, *image.Image, []string, error) {
	c := &Container{ID: newID(), Created: time.Now().UTC(), State: State{Phase: Created}}
	if err := cloneConfig(&r, c); err != nil {
		return nil, nil, nil, err
	}
	hc := c.HostConfig
	if err := e.verify(c.Config, hc); err != nil {
		return nil, nil, nil, err
	}
	img, err := e.cfg.Images.Get(ctx, c.Config.Image)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := rightPlatform(r.Platform, c.Config.Image, img); err != nil {
		return nil, nil, nil, err
	}
	c.ImageID, c.ImageRef = img.ID, c.Config.Image
	if err := merge(c.Config, img); err != nil {
		return nil, nil, nil, err
	}
	if c.Path, c.Args, err = command(c.Config); err != nil {
		return nil, nil, nil, err
	}
	if err := verifyConfig(c.Config, hc); err != nil { // what came from the image
		return nil, nil, nil, err
	}
	e.fillHostConfig(hc)
	warnings := e.fitResources(&hc.Resources)
	if err := e.resolveRefs(c); err != nil {
		return nil, nil, nil, err
	}
	if c.Networks, err = e.canonicalNetworks(hc.NetworkMode, r.Networks); err != nil {
		return nil, nil, nil, err
	}
	c.Numbers = numbered(c.Networks, nil, e.ownNetwork(hc.NetworkMode))
	if err := e.resolveLinks(c); err != nil {
		return nil, nil, nil, err
	}
	if _, err := etc.ParseExtraHosts(hc.ExtraHosts, e.hostGateways(c, nil)); err != nil {
		return nil, nil, nil, err
	}
	if _, err := spec.ParseSecurity(hc.SecurityOpt, e.security); err != nil {
		return nil, nil, nil, err
	}
	if _, _, err := devices(&hc.Resources); err != nil {
		return nil, nil, nil, err
	}
	if _, err := blockIO(&hc.Resources); err != nil {
		return nil, nil, nil, err
	}
	if _, err := logOptions(c); err != nil {
		return nil, nil, nil, err
	}
	if e.withInit(hc) {
		if _, err := e.initProgram(); err != nil {
			return nil, nil, nil, err
		}
	}
	c.Mounts, err = e.resolveMounts(c)
	return c, img, warnings, err
}

// cloneConfig makes the definition the engine's own: defaults are filled in,
// and the caller keeps what it sent.
func cloneConfig(r *CreateRequest, c *Container) error {
	if r.Config == nil {
		return cnm.Invalid("config cannot be empty in order to create a container")
	}
	c.Config, c.HostConfig = &apicontainer.Config{}, &apicontainer.HostConfig{}
	for _, x := range []struct{ from, to any }{{r.Config, c.Config}, {r.HostConfig, c.HostConfig}} {
		b, err := json.Marshal(x.from)
		if err == nil {
			err = json.Unmarshal(b, x.to)
		}
		if err != nil {
			return cnm.Invalid("the container's configuration: %w", err)
		}
	}
	return nil
}

func rightPlatform(asked, ref string, img *image.Image) error {
	if asked == "" {
		return nil
	}
	p, err := platforms.Parse(asked)
	if err != nil {
		return cnm.Invalid("%w", err)
	}
	has := ocispec.Platform{OS: img.Config.OS, Architecture: img.Config.Architecture, Variant: img.Config.Variant}
	if has.OS == "" || platforms.Only(p).Match(platforms.Normalize(has)) {
		return nil
	}
	return cnm.NotFound("image with reference %s was found but its platform (%s) does not match the specified platform (%s)", ref, platforms.Format(has), platforms.Format(p))
}

// fillHostConfig puts the daemon's defaults where the client was silent, so
// that inspect shows what applies.
func (e *Engine) fillHostConfig(hc *apicontainer.HostConfig) {
	d := e.defaults.Load()
	if hc.NetworkMode == "" {
		hc.NetworkMode = "default"
	}
	if hc.RestartPolicy.Name == "" {
		hc.RestartPolicy.Name = apicontainer.RestartPolicyDisabled
	}
	fillLogConfig(&hc.LogConfig, d.LogConfig)
	if hc.ShmSize == 0 {
		hc.ShmSize = d.ShmSize
	}
	if hc.IpcMode == "" {
		hc.IpcMode = d.IpcMode
	}
	if hc.CgroupnsMode == "" {
		hc.CgroupnsMode = d.CgroupnsMode
	}
	if hc.CgroupnsMode == "" {
		hc.CgroupnsMode = apicontainer.CgroupnsModeHost
		if e.host.CgroupV2 {
			hc.CgroupnsMode = apicontainer.CgroupnsModePrivate
		}
	}
	if hc.Runtime == "" {
		hc.Runtime = *e.defaultRuntime.Load()
	}
	if hc.MaskedPaths == nil && !hc.Privileged {
		hc.MaskedPaths = spec.MaskedPaths()
	}
	if hc.ReadonlyPaths == nil && !hc.Privileged {
		hc.ReadonlyPaths = spec.ReadonlyPaths()
	}
}

// resolveRefs looks up the containers that this one joins, and gives it its
// host name.
func (e *Engine) resolveRefs(c *Container) error {
	hc := c.HostConfig
	for _, ref := range []struct {
		joins bool
		name  string
	}{{hc.IpcMode.IsContainer(), hc.IpcMode.Container()}, {hc.PidMode.IsContainer(), hc.PidMode.Container()}} {
		if ref.joins {
			if _, err := e.Get(ref.name); err != nil {
				return notImage(err)
			}
		}
	}
	var err error
	switch {
	case hc.NetworkMode.IsContainer():
		target, err := e.Get(hc.NetworkMode.ConnectedContainer())
		if err != nil {
			return notImage(err)
		}
		c.Target = target.ID
		c.Config.Hostname, c.Config.Domainname = target.Config.Hostname, target.Config.Domainname
	case c.Config.Hostname != "":
	case hc.NetworkMode.IsHost(), hc.UTSMode.IsHost():
		if c.Config.Hostname, err = os.Hostname(); err != nil {
			return fmt.Errorf("the host's name: %w", err)
		}
	default:
		c.Config.Hostname = shortID(c.ID)
	}
	return nil
}

// notImage makes what else is missing an invalid request: clients take a 404 to
// a create for a missing image, pull it, and only then, if they can, say what was
// wrong. (dockerd answers 404 to the start, and leaves the container behind.)
func notImage(err error) error {
	if errors.Is(err, cnm.ErrNotFound) {
		return cnm.Invalid("%w", err)
	}
	return err
}

// realize makes what a definition declares, and undoes all of it on failure.
func (e *Engine) realize(ctx context.Context, c *Container, img *image.Image) (warnings []string, err error) {
	req, err := e.networkRequest(c)
	if err != nil {
		return nil, err
	}
	if warnings, err = e.cfg.Network.Check(ctx, req); err != nil {
		return nil, err
	}
	// What the definition owns is held before it exists: two creates never get one
	// address.
	if err = e.cfg.Network.Define(ctx, req); err != nil {
		return nil, err
	}
	release := e.holdVolumes(c)
	defer release()
	e.mu.Lock()
	e.unborn[c.ID] = true
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.unborn, c.ID)
		e.mu.Unlock()
	}()
	var old *Container
	if hasAnonymous(c) {
		// Volumes without a name outlive containers: only this record tells that
		// they were made for one that never came to be.
		pre := *c
		pre.Creating = true
		if err := e.commit(ctx, "creating", nil, &pre); err != nil {
			e.cfg.Network.Undefine(c.ID)
			return nil, err
		}
		old = &pre
	}
	if err = e.build(ctx, c, img); err == nil {
		err = e.commit(ctx, "created", old, c)
	}
	if err != nil {
		if uerr := e.demolish(ctx, c, true); uerr != nil {
			e.log.Error("a container that could not be created leaves something behind until the next start", "container", c.Name, "error", uerr)
		}
		return nil, err
	}
	e.mu.Lock()
	e.entries[c.ID] = newEntry(c)
	e.mu.Unlock()
	e.publish(c, "create")
	return warnings, nil
}

func (e *Engine) build(ctx context.Context, c *Container, img *image.Image) error {
	binary, err := e.runtimeBinary(c.HostConfig.Runtime)
	if err != nil {
		return err
	}
	if err := e.step("folder.make", func() error { return os.Mkdir(e.dir(c.ID), 0o710) }); err != nil {
		return cnm.Errorf(cnm.ErrExhausted, "container %s: its folder cannot be made: %w", c.Name, err)
	}
	if err := e.ctd.createContainer(ctx, c.ID, e.cfg.Instance, img.Ref, e.cfg.Runtime, binary); err != nil {
		return err
	}
	if err := e.step("image.prepare", func() error { return e.cfg.Images.Prepare(ctx, img, c.ID) }); err != nil {
		return err
	}
	if err := e.makeVolumes(ctx, c); err != nil {
		return err
	}
	_, err = e.openStream(ctx, c)
	return err
}
