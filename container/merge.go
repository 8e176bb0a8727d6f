package container

import (
	"maps"
	"slices"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"

	"linkspan/cnm"
	"linkspan/image"
)

// merge fills what a client left open from the image's configuration, as Docker
// does. c is the engine's own copy.
func merge(c *apicontainer.Config, img *image.Image) error {
	i := img.Config.Config
	if c.User == "" {
		c.User = i.User
	}
	for p := range i.ExposedPorts {
		port, err := apinetwork.ParsePort(p)
		if err != nil {
			return cnm.Invalid("image %s exposes a port that is none: %w", c.Image, err)
		}
		if c.ExposedPorts == nil {
			c.ExposedPorts = apinetwork.PortSet{}
		}
		c.ExposedPorts[port] = struct{}{}
	}
	c.Env = mergeEnv(c.Env, i.Env)
	c.Labels = over(i.Labels, c.Labels)
	c.Volumes = over(i.Volumes, c.Volumes)
	// A new entry point takes the image's command with it; an empty one ([""])
	// is how a person says that there shall be none.
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = i.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = i.Entrypoint
		}
	}
	if c.WorkingDir == "" {
		c.WorkingDir = i.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = i.StopSignal
	}
	if len(c.Shell) == 0 {
		c.Shell = img.Shell
	}
	if len(c.OnBuild) == 0 {
		c.OnBuild = img.OnBuild
	}
	if h := img.Healthcheck; h != nil {
		c.Healthcheck = mergeHealth(c.Healthcheck, &apicontainer.HealthConfig{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout,
			StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries})
	}
	return nil
}

// over returns base with what wins on top; nil if both are empty.
func over[V any](base, wins map[string]V) map[string]V {
	if len(base) == 0 {
		return wins
	}
	out := maps.Clone(base)
	maps.Copy(out, wins)
	return out
}

// mergeEnv appends those of the image whose names the client did not set.
func mergeEnv(own, img []string) []string {
	out := slices.Clone(own)
	for _, e := range img {
		k, _, _ := strings.Cut(e, "=")
		if !slices.ContainsFunc(own, func(o string) bool { n, _, _ := strings.Cut(o, "="); return n == k }) {
			out = append(out, e)
		}
	}
	return out
}

// command resolves what is run: entry point and command in one.
func command(c *apicontainer.Config) (path string, args []string, err error) {
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		c.Entrypoint = nil
	}
	all := slices.Concat(c.Entrypoint, c.Cmd)
	if len(all) == 0 {
		return "", nil, cnm.Invalid("no command specified: image %s has none, so name one after it", c.Image)
	}
	return all[0], all[1:], nil
}
