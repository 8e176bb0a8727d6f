// Package config is the daemon's configuration: dockerd's flags and dockerd's
// JSON keys, decoded once into one typed value.
package config

import (
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	units "github.com/docker/go-units"
)

// DefaultFile is read when --config-file is not given; it may be absent.
const DefaultFile = "/etc/linkspan/daemon.json"

// Config is the daemon's configuration. The zero value is not usable: Parse and
// Default fill in the defaults, which are named on each field.
type Config struct {
	// Hosts are the sockets to listen on. Default: unix://<ExecRoot>/linkspan.sock,
	// or unix:///var/run/docker.sock when the daemon is called as dockerd.
	Hosts []Host
	// Group owns the unix sockets (mode 0660). Default "docker"; a daemon whose host
	// has no such group uses root, unless the name was given by the person
	// (GroupGiven).
	Group      string
	GroupGiven bool
	// ConfigFile is the file that was read, or would have been. Default DefaultFile.
	ConfigFile string
	// DataRoot holds what outlives a reboot. Default /var/lib/linkspan.
	DataRoot string
	// ExecRoot holds what does not: sockets, pins, the keeper. Default /run/linkspan.
	ExecRoot string
	// Pidfile defaults to <ExecRoot>/linkspan.pid.
	Pidfile string
	// Debug, default false, lowers the log level to debug; see Level.
	Debug bool
	// LogLevel is default info; LogFormat is "text" (default) or "json".
	LogLevel  slog.Level
	LogFormat string
	// Labels of the daemon, "key=value", each key once. Default none.
	Labels []string
	// ShutdownTimeout is how long containers get to stop when the daemon is told to
	// stop them. Default 15 s; negative: no limit.
	ShutdownTimeout time.Duration
	// Repair puts right what somebody else changes of the kernel's objects.
	Repair bool
	// CheckInterval is between two comparisons of the whole kernel with what is
	// declared; zero or less: there are none.
	CheckInterval time.Duration
	// MetricsAddr is where Prometheus finds the metrics: "unix:///path", "ADDRESS:PORT"
	// or ":PORT" (every address). Default "": nowhere.
	MetricsAddr string
	// Mesh names the etcd cluster that holds the mesh, "etcd://ADDRESS:PORT,…", where one
	// exists already. Default "": the mesh, if there is one, was made or joined by `linkspan
	// mesh`. MeshCA, MeshCert and MeshKey are files for TLS with that cluster; all empty:
	// without TLS. MeshListen is this host's address on the wire that the hosts share,
	// MeshName its name in the mesh. See MeshEndpoints.
	Mesh                      string
	MeshCA, MeshCert, MeshKey string
	// MeshUser is this host's user in that cluster, where it has users, and
	// MeshPasswordFile has its password: it is on no command line and in no configuration.
	MeshUser, MeshPasswordFile string
	MeshListen                 netip.Addr
	MeshName                   string
	// MeshPorts are the mesh's ports by name, for those that are not the usual ones (see
	// MeshPortNames). Default none.
	MeshPorts map[string]uint16
	// Experimental, default false, is reported to clients.
	Experimental bool
	// Features are reported; none changes anything. Default none.
	Features map[string]bool

	// Containerd is the address of its socket. Default "": a running one, else a
	// private child.
	Containerd string
	// ContainerdNamespace defaults to "linkspan".
	ContainerdNamespace string

	// RegistryMirrors are asked before the Docker Hub, in order: http or https URLs
	// with host and no path, without a slash at the end. Default none.
	RegistryMirrors []string
	// InsecureRegistries are host, host:port, or CIDR: TLS is not verified, and plain
	// http is tried. Default none (127.0.0.0/8 and ::1 always are).
	InsecureRegistries []string
	// MaxConcurrentDownloads is the layers downloaded at once in one pull. Default 3.
	MaxConcurrentDownloads int
	// MaxDownloadAttempts is the tries per layer. Default 5.
	MaxDownloadAttempts int
	// The proxies of pulls. Default "": the daemon's own environment decides. See
	// ProxyEnv.
	HTTPProxy, HTTPSProxy, NoProxy string

	// DefaultRuntime is a name of Runtimes or a stock one ("runc", "crun"). Default "runc".
	DefaultRuntime string
	// Runtimes are additional OCI runtimes by name. Default none.
	Runtimes map[string]Runtime
	// DefaultIPCMode is "private" (default) or "shareable".
	DefaultIPCMode string
	// DefaultCgroupnsMode is "private" or "host". Default "": private with cgroup v2,
	// host with v1, as dockerd.
	DefaultCgroupnsMode string
	// DefaultShmSize is the size of /dev/shm in bytes. Default 64 MiB.
	DefaultShmSize int64
	// DefaultUlimits hold for containers that do not set their own. Default none.
	DefaultUlimits map[string]*units.Ulimit
	// CgroupParent is the cgroup above the containers'. Default "": chosen by the engine.
	CgroupParent string
	// SeccompProfile is "builtin" (default), "unconfined", or an absolute path.
	SeccompProfile string
	// NoNewPrivileges, default false, sets that bit on containers that do not say.
	NoNewPrivileges bool

	// Init, default false, runs an init as the first process of containers that do
	// not say. InitPath is that binary; default "": Linkspan's own.
	Init     bool
	InitPath string
	// LogDriver keeps the logs of containers that name none: "json-file" (default),
	// "local" or "none". LogOpts are its options; default none.
	LogDriver string
	LogOpts   map[string]string

	// TLS, default false, is needed for TCP sockets beyond the loopback; TLSVerify
	// implies it and asks clients for a certificate that TLSCACert signed. TLSGiven
	// says that the person decided about TLS, with whatever value. The files are
	// needed with TLS.
	TLS, TLSVerify, TLSGiven   bool
	TLSCACert, TLSCert, TLSKey string

	// Bridge is a bridge of the person's, used for the default network and never
	// changed; BridgeNone: there is no default network. Default "": Linkspan's own
	// docker0.
	Bridge string
	// MTU of the default bridge, in bytes. Default 1500.
	MTU int
	// BIP is the default bridge's own address with its subnet's length, IPv4.
	// Default invalid: 172.17.0.1/16 or the first free pool.
	BIP netip.Prefix
	// FixedCIDR is the part of the subnet that containers get addresses from, masked.
	// Default invalid: all of it.
	FixedCIDR netip.Prefix
	// DefaultGateway is what containers of the default bridge route through. Default
	// invalid: the bridge's own address.
	DefaultGateway netip.Addr
	// IPv6, default false, gives the default bridge IPv6. BIP6, FixedCIDR6 and
	// DefaultGateway6 are as their IPv4 counterparts; FixedCIDR6 alone is the subnet.
	// Default invalid: a subnet of the daemon's own.
	IPv6             bool
	BIP6, FixedCIDR6 netip.Prefix
	DefaultGateway6  netip.Addr
	// ICC, default true, lets containers of the default bridge reach each other.
	ICC bool
	// IPMasq, default true, hides what leaves the default bridge behind the host.
	IPMasq bool
	// IPForward, default true, turns forwarding on where publishing needs it.
	IPForward bool
	// AllowDirectRouting, default false, lets other hosts reach published ports on
	// the containers' own addresses.
	AllowDirectRouting bool
	// AcceptMark lets packets with that mark in to containers. Default none.
	AcceptMark Mark
	// AddressPools are what networks without a subnet are cut from. Default none: the
	// pools of network/ and ipam/.
	AddressPools []AddressPool
	// NetworkOpts are options of new networks by driver. Default none.
	NetworkOpts map[string]map[string]string
	// DefaultBindIP is the host address of published ports that name none. Default
	// invalid, as is 0.0.0.0: every address of both families.
	DefaultBindIP netip.Addr

	// DNS servers, options and search domains for containers. Default none: the
	// host's resolv.conf.
	DNS        []netip.Addr
	DNSOptions []string
	DNSSearch  []string
	// HostGatewayIPs is what host-gateway means in --add-host; at most one of each
	// family. Default none: the default bridge's addresses.
	HostGatewayIPs []netip.Addr

	// What this value was made from, so that Reload can make it again.
	name   string
	args   []string
	warned []string // said already
}

// Runtime is an additional OCI runtime.
type Runtime struct {
	// Path of the binary, for a runtime that containerd's runc shim drives.
	Path string `json:"path,omitempty"`
	// Args are put before the runtime's own.
	Args []string `json:"runtimeArgs,omitempty"`
	// Type is a containerd shim ("io.containerd.kata.v2"); then Path is empty.
	Type string `json:"runtimeType,omitempty"`
	// Options go to that shim as they are.
	Options map[string]any `json:"options,omitempty"`
}

// Default returns the configuration of a daemon that is called name ("dockerd",
// or anything else for linkspan) without any flag or file.
func Default(name string) *Config {
	c := defaults(name)
	c.settle()
	return c
}

func defaults(name string) *Config {
	return &Config{
		Group:                  "docker",
		ConfigFile:             DefaultFile,
		DataRoot:               "/var/lib/linkspan",
		ExecRoot:               "/run/linkspan",
		LogFormat:              "text",
		ShutdownTimeout:        15 * time.Second,
		Repair:                 true,
		CheckInterval:          5 * time.Minute,
		ContainerdNamespace:    "linkspan",
		MaxConcurrentDownloads: 3,
		MaxDownloadAttempts:    5,
		DefaultRuntime:         "runc",
		DefaultIPCMode:         "private",
		DefaultShmSize:         64 << 20,
		SeccompProfile:         "builtin",
		LogDriver:              "json-file",
		MTU:                    1500,
		ICC:                    true,
		IPMasq:                 true,
		IPForward:              true,
		name:                   name,
	}
}

// settle fills in the defaults that follow from other values.
func (c *Config) settle() {
	base := defaults(c.name)
	for _, n := range []struct{ at, base *int }{
		{&c.MTU, &base.MTU},
		{&c.MaxConcurrentDownloads, &base.MaxConcurrentDownloads},
		{&c.MaxDownloadAttempts, &base.MaxDownloadAttempts},
	} {
		if *n.at == 0 {
			*n.at = *n.base
		}
	}
	if c.Pidfile == "" {
		c.Pidfile = filepath.Join(c.ExecRoot, "linkspan.pid")
	}
	c.TLS = c.TLS || c.TLSVerify
	if c.TLS {
		for _, f := range []struct {
			at   *string
			name string
		}{{&c.TLSCACert, "ca.pem"}, {&c.TLSCert, "cert.pem"}, {&c.TLSKey, "key.pem"}} {
			if *f.at == "" {
				*f.at = filepath.Join(filepath.Dir(DefaultFile), f.name)
			}
		}
	}
	for i, h := range c.Hosts {
		if h.Proto == "unix" && h.Addr == "" {
			h = c.defaultHost()
		}
		c.Hosts[i] = h.port(c.TLS)
	}
	if len(c.Hosts) == 0 {
		c.Hosts = []Host{c.defaultHost()}
	}
}

func (c *Config) defaultHost() Host {
	// Who starts dockerd expects the socket where every client looks for it.
	if c.name == "dockerd" {
		return Host{"unix", "/var/run/docker.sock"}
	}
	return Host{"unix", filepath.Join(c.ExecRoot, "linkspan.sock")}
}

// Level is the level that the log starts at: LogLevel, lowered by Debug.
func (c *Config) Level() slog.Level {
	if c.Debug {
		return min(c.LogLevel, slog.LevelDebug)
	}
	return c.LogLevel
}

// ProxyEnv is the configured proxies as environment assignments. The daemon sets
// them on itself before its first request, as dockerd does: Go's HTTP client
// reads them once.
func (c *Config) ProxyEnv() map[string]string {
	env := map[string]string{}
	for k, v := range map[string]string{"HTTP_PROXY": c.HTTPProxy, "HTTPS_PROXY": c.HTTPSProxy, "NO_PROXY": c.NoProxy} {
		if v != "" {
			env[k] = v
		}
	}
	return env
}
