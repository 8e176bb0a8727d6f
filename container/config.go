package container

import (
	"context"
	"log/slog"
	"net/netip"

	containerd "github.com/containerd/containerd/v2/client"
	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/container/etc"
	"linkspan/events"
	"linkspan/image"
	"linkspan/keeper"
	"linkspan/network"
	"linkspan/store"
	"linkspan/volume"
)

// Volumes is what containers need of the volume service.
type Volumes interface {
	Create(ctx context.Context, r volume.CreateRequest) (*volume.Volume, error)
	Remove(ctx context.Context, name string, force bool) error
	Hold(name, who string) (release func())
	CopyUp(ctx context.Context, src, name string) error
	Mount(ctx context.Context, name string) error
	Unmount(ctx context.Context, name string, used func() bool) error
}

// Config is what New needs. Fields without a default are required.
type Config struct {
	// Client talks to the containerd at Address (which is for messages).
	Client  *containerd.Client
	Address string
	// Namespace is containerd's, this daemon's own. Instance marks what we make
	// in it.
	Namespace, Instance string
	Snapshotter         string // default "overlayfs"
	// Runtime is containerd's runtime; default "io.containerd.runc.v2".
	Runtime string
	// Runtimes are the names that --runtime takes besides "runc", with the OCI
	// runtime binary that the shim then runs.
	Runtimes map[string]string

	Store   store.Store
	Network network.Service
	Images  image.Service
	Volumes Volumes
	Keeper  keeper.Keeper
	Events  *events.Bus

	// Root is the data root: containers have their folders below
	// Root/containers. ExecRoot is for what need not outlive a reboot.
	Root, ExecRoot string

	Defaults Defaults
	// HostResolv is where the host keeps its resolvers.
	HostResolv etc.Host
	// StopOnShutdown makes Shutdown stop the containers (live-restore off).
	StopOnShutdown bool
	// Hook is called at every fail point, with its name; nil in production.
	Hook   func(point string)
	Logger *slog.Logger // default: slog's
}

// Defaults are the daemon's wishes for containers that have none of their own.
type Defaults struct {
	Ulimits      map[string]*apicontainer.Ulimit
	ShmSize      int64                // bytes; default 64 MiB
	IpcMode      apicontainer.IpcMode // default "private"
	CgroupnsMode apicontainer.CgroupnsMode
	CgroupParent string // default "/linkspan-INSTANCE"
	Runtime      string // a name of Config.Runtimes; default "runc"
	DNS          []netip.Addr
	DNSSearch    []string
	DNSOptions   []string
	// HostGateway is what host-gateway stands for in --add-host; default: the host
	// on the container's own network.
	HostGateway     []netip.Addr
	SeccompProfile  string // a file, "builtin" or "unconfined"
	NoNewPrivileges bool
	// Init is for containers that do not say; InitPath is the host's program,
	// default: docker-init, tini-static or tini, where it is found.
	Init     bool
	InitPath string
	// LogConfig is for containers that name no log driver; default json-file.
	LogConfig apicontainer.LogConfig
}

func (c *Config) fill() {
	if c.Snapshotter == "" {
		c.Snapshotter = "overlayfs"
	}
	if c.Runtime == "" {
		c.Runtime = "io.containerd.runc.v2"
	}
	if c.Hook == nil {
		c.Hook = func(string) {}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	d := &c.Defaults
	if d.ShmSize == 0 {
		d.ShmSize = 64 << 20
	}
	if d.IpcMode == "" {
		d.IpcMode = apicontainer.IPCModePrivate
	}
	if d.CgroupParent == "" {
		// Of this daemon alone, so that it can be removed when it is empty.
		d.CgroupParent = "/linkspan-" + c.Instance
	}
}
