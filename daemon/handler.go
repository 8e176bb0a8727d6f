package daemon

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"linkspan/api/admin"
	"linkspan/api/docker"
	"linkspan/container"
	"linkspan/container/logs"
)

// handler is the doors: the Engine API, and Linkspan's own verbs beside it.
func (e *engine) handler(d *daemon) http.Handler {
	facts := docker.HostFacts()
	facts.ID, facts.Name, facts.RootDir = e.id, hostname(), e.cfg.DataRoot
	facts.Driver, facts.CgroupDriver = "overlayfs", "cgroupfs"
	facts.ContainerdAddress, facts.ContainerdNamespace = e.containerd.Address, e.namespace
	facts.NetworkDrivers = slices.Sorted(maps.Keys(e.Drivers))
	facts.Runtimes = map[string]string{"runc": "runc"}
	for name, r := range e.cfg.Runtimes {
		facts.Runtimes[name] = r.Path
	}
	facts.SecurityOptions = []string{"name=seccomp,profile=" + e.cfg.SeccompProfile}
	facts.LiveRestore, facts.Experimental = true, e.cfg.Experimental
	facts.Firewall = "nftables"
	facts.InitBinary = "docker-init"
	facts.LogDrivers = logs.Drivers()
	facts.FirewallStatus = [][2]string{{"Table", "inet " + e.table()}}
	if v, err := e.client.Version(context.Background()); err == nil {
		facts.ContainerdVersion = v.Version
	}
	api := docker.New(docker.Config{
		Containers: e.containers, Images: e.images, Network: e.network, Volumes: e.volumes, Events: e.events,
		Info: func(context.Context) docker.Facts {
			f, c := facts, d.config.Load()
			f.RegistryMirrors, f.InsecureRegistries = c.RegistryMirrors, c.InsecureRegistries
			f.HTTPProxy, f.HTTPSProxy, f.NoProxy = c.HTTPProxy, c.HTTPSProxy, c.NoProxy
			f.Labels, f.Debug, f.DefaultRuntime, f.LoggingDriver = c.Labels, c.Debug, c.DefaultRuntime, c.LogDriver
			if c.InitPath != "" {
				f.InitBinary = c.InitPath
			}
			for _, p := range c.AddressPools {
				f.AddressPools = append(f.AddressPools, docker.AddressPool{Base: p.Base.String(), Size: p.Size})
			}
			return f
		},
		Files:   func(c *container.Container) docker.Files { return docker.Files(e.containers.Files(c.ID)) },
		Version: e.Version, Logger: d.log, Observe: d.meter.Observe,
	})
	return admin.Beside(api, admin.New(admin.Config{Network: e.network, Plan: e.containers.Plan, Doors: append(e.doors(), d.meter.door()), Logger: d.log, Observe: d.meter.Observe}))
}
