package container

import (
	"context"
	"maps"
	"os"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/container/logs"
	"linkspan/keeper"
)

// fillLogConfig puts the daemon's log driver and options where the container names
// none; options go with their driver alone, as in Docker.
func fillLogConfig(to *apicontainer.LogConfig, daemon apicontainer.LogConfig) {
	if daemon.Type == "" {
		daemon.Type = logs.JSONFile
	}
	if to.Type == "" {
		to.Type = daemon.Type
	}
	if to.Type == daemon.Type && len(daemon.Config) > 0 {
		all := maps.Clone(daemon.Config)
		maps.Copy(all, to.Config)
		to.Config = all
	}
}

// openStream declares the container's stdio to the keeper: it exists from the
// creation on, so that attaching before the start works.
func (e *Engine) openStream(ctx context.Context, c *Container) (keeper.Stream, error) {
	s := keeper.StreamSpec{ID: c.ID, TTY: c.Config.Tty, Stdin: c.Config.OpenStdin, StdinOnce: c.Config.StdinOnce}
	if c.HostConfig.LogConfig.Type != logs.None {
		s.LogPath = e.logPath(c.ID)
		var err error
		if s.Log, err = logOptions(c); err != nil {
			return keeper.Stream{}, err
		}
	}
	return e.cfg.Keeper.OpenStream(ctx, s)
}

func logOptions(c *Container) (keeper.LogOptions, error) {
	l := c.HostConfig.LogConfig
	set, err := logs.Parse(l.Type, l.Config)
	if err != nil {
		return keeper.LogOptions{}, err
	}
	host, _ := os.Hostname()
	attrs, err := set.Attrs(&logs.Subject{
		ContainerID: c.ID, ContainerName: c.Name, ImageID: c.ImageID, ImageRef: c.ImageRef, Args: append([]string{c.Path}, c.Args...),
		Env: c.Config.Env, Labels: c.Config.Labels, Host: host,
	})
	if err != nil {
		return keeper.LogOptions{}, err
	}
	return keeper.LogOptions{MaxSize: set.MaxSize, MaxFile: set.MaxFile, Compress: set.Compress, Attrs: attrs}, nil
}
