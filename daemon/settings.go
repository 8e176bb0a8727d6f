package daemon

import (
	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/config"
	"linkspan/container"
)

// containerConfig hands the daemon's options to the container engine.
func (e *engine) containerConfig() container.Config {
	c := e.cfg
	out := container.Config{
		Client: e.client, Address: e.containerd.Address, Namespace: e.namespace, Instance: e.instance,
		Store: e.store, Network: e.network, Images: e.images, Volumes: e.volumes, Keeper: hooked(e.keeper, e.hook), Events: e.events,
		Root: c.DataRoot, ExecRoot: c.ExecRoot, Hook: e.hook, Logger: e.log,
		Runtimes: map[string]string{}, Defaults: containerDefaults(c),
	}
	for name, r := range c.Runtimes {
		out.Runtimes[name] = r.Path
	}
	return out
}

// containerDefaults are the daemon's wishes for containers, at the start and at each
// reload.
func containerDefaults(c *config.Config) container.Defaults {
	d := container.Defaults{
		Ulimits: map[string]*apicontainer.Ulimit{}, ShmSize: c.DefaultShmSize, IpcMode: apicontainer.IpcMode(c.DefaultIPCMode),
		CgroupnsMode: apicontainer.CgroupnsMode(c.DefaultCgroupnsMode), CgroupParent: c.CgroupParent, Runtime: c.DefaultRuntime,
		DNS: c.DNS, DNSSearch: c.DNSSearch, DNSOptions: c.DNSOptions, HostGateway: c.HostGatewayIPs,
		SeccompProfile: c.SeccompProfile, NoNewPrivileges: c.NoNewPrivileges, Init: c.Init, InitPath: c.InitPath,
		LogConfig: apicontainer.LogConfig{Type: c.LogDriver, Config: c.LogOpts},
	}
	for name, u := range c.DefaultUlimits {
		d.Ulimits[name] = &apicontainer.Ulimit{Name: u.Name, Hard: u.Hard, Soft: u.Soft}
	}
	return d
}
