package docker

import (
	"maps"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"linkspan/container"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
)

// infoJSON is system.Info with what older clients still read. A field here wins
// over the one of the same name inside.
type infoJSON struct {
	*system.Info
	RegistryConfig    registryJSON
	ContainerdCommit  commitJSON
	RuncCommit        commitJSON
	InitCommit        commitJSON
	BridgeNfIptables  *bool   `json:",omitempty"` // dropped in 1.50
	BridgeNfIP6tables *bool   `json:"BridgeNfIp6tables,omitempty"`
	ExecutionDriver   string  `json:",omitempty"`
	ClusterStore      *string `json:",omitempty"` // dropped in 1.42
	ClusterAdvertise  *string `json:",omitempty"`
}

// commitJSON: until 1.48 the CLI compares ID with Expected and warns.
type commitJSON struct {
	ID       string
	Expected string `json:",omitempty"`
}

type registryJSON struct {
	*registry.ServiceConfig
	AllowNondistributableArtifactsCIDRs     *[]string `json:",omitempty"` // dropped in 1.49
	AllowNondistributableArtifactsHostnames *[]string `json:",omitempty"`
}

func (s *server) info(c *call) error {
	f := s.facts(c)
	i := &system.Info{
		ID: f.ID, Name: f.Name, DockerRootDir: f.RootDir, Labels: orEmpty(f.Labels),
		Driver: f.Driver, DriverStatus: f.DriverStatus,
		Plugins: system.PluginsInfo{
			Volume:  []string{"local"},
			Network: orEmpty(f.NetworkDrivers),
			Log:     f.LogDrivers,
		},
		MemoryLimit: f.MemoryLimit, SwapLimit: f.SwapLimit,
		CPUCfsPeriod: f.CPUCfs, CPUCfsQuota: f.CPUCfs, CPUShares: f.CPUShares, CPUSet: f.CPUSet,
		PidsLimit: f.PidsLimit, OomKillDisable: f.OomKillDisable, IPv4Forwarding: f.IPv4Forwarding,
		Debug: f.Debug, NFd: openFiles(), NGoroutines: runtime.NumGoroutine(),
		SystemTime:    time.Now().Format(time.RFC3339Nano),
		LoggingDriver: or(f.LoggingDriver, "json-file"), CgroupDriver: f.CgroupDriver, CgroupVersion: f.CgroupVersion,
		KernelVersion: f.KernelVersion, OperatingSystem: f.OperatingSystem, OSVersion: f.OSVersion,
		OSType: runtime.GOOS, Architecture: f.Arch, NCPU: f.NCPU, MemTotal: f.MemTotal,
		IndexServerAddress: "https://index.docker.io/v1/",
		HTTPProxy:          f.HTTPProxy, HTTPSProxy: f.HTTPSProxy, NoProxy: f.NoProxy,
		ExperimentalBuild: f.Experimental, ServerVersion: s.Version,
		Runtimes: map[string]system.RuntimeWithStatus{}, DefaultRuntime: f.DefaultRuntime,
		Swarm:              swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		LiveRestoreEnabled: f.LiveRestore,
		InitBinary:         f.InitBinary,
		SecurityOptions:    orEmpty(f.SecurityOptions),
		CDISpecDirs:        []string{},
		Warnings:           orEmpty(f.Warnings),
	}
	if len(i.Plugins.Log) == 0 {
		i.Plugins.Log = []string{"json-file"}
	}
	for name, path := range f.Runtimes {
		i.Runtimes[name] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: path}}
	}
	for _, p := range f.AddressPools {
		if base, err := netip.ParsePrefix(p.Base); err == nil {
			i.DefaultAddressPools = append(i.DefaultAddressPools, system.NetworkAddressPool{Base: base, Size: p.Size})
		}
	}
	for _, ctr := range s.Containers.List() {
		i.Containers++
		switch ctr.State.Phase {
		case container.Running, container.Restarting:
			i.ContainersRunning++
		case container.Paused:
			i.ContainersPaused++
		default:
			i.ContainersStopped++
		}
	}
	// An image store that is away must not take `docker info` with it: info is how
	// a person finds out.
	if images, err := s.Images.List(c.Context()); err == nil {
		i.Images = len(images)
	} else {
		i.Warnings = append(i.Warnings, "WARNING: images cannot be counted: "+err.Error())
	}
	v := infoJSON{
		Info:             i,
		RegistryConfig:   registryJSON{ServiceConfig: registries(f)},
		ContainerdCommit: commitJSON{ID: f.ContainerdVersion},
		RuncCommit:       commitJSON{ID: f.RuncVersion},
		InitCommit:       commitJSON{ID: "N/A"}, // --init brings no program of its own version
	}
	s.infoByVersion(c.Version, f, &v)
	return c.JSON(http.StatusOK, v)
}

// infoByVersion adds what a version still or already has.
func (s *server) infoByVersion(v Version, f Facts, i *infoJSON) {
	if v.Before(42) {
		none := ""
		i.ClusterStore, i.ClusterAdvertise = &none, &none
	}
	if v.Before(49) {
		var none []string
		i.RegistryConfig.AllowNondistributableArtifactsCIDRs = &none
		i.RegistryConfig.AllowNondistributableArtifactsHostnames = &none
		i.ContainerdCommit.Expected = i.ContainerdCommit.ID
		i.RuncCommit.Expected = i.RuncCommit.ID
		i.InitCommit.Expected = i.InitCommit.ID
	} else if f.Firewall != "" {
		i.FirewallBackend = &system.FirewallInfo{Driver: f.Firewall, Info: f.FirewallStatus}
	}
	if v.Before(50) {
		i.BridgeNfIptables, i.BridgeNfIP6tables = &f.BridgeNfIptables, &f.BridgeNfIP6tables
	}
	if !v.Before(47) && f.ContainerdAddress != "" {
		i.Containerd = &system.ContainerdInfo{
			Address:    f.ContainerdAddress,
			Namespaces: system.ContainerdNamespaces{Containers: f.ContainerdNamespace, Plugins: f.ContainerdNamespace},
		}
	}
}

// registries are the mirrors and insecure registries as dockerd shows them:
// addresses with a length as CIDRs, the rest as entries of the index.
func registries(f Facts) *registry.ServiceConfig {
	r := &registry.ServiceConfig{
		InsecureRegistryCIDRs: []netip.Prefix{},
		IndexConfigs: map[string]*registry.IndexInfo{
			"docker.io": {Name: "docker.io", Mirrors: orEmpty(f.RegistryMirrors), Secure: true, Official: true},
		},
		Mirrors: orEmpty(f.RegistryMirrors),
	}
	// dockerd trusts loopback registries without TLS, and so do we.
	for _, in := range append(slices.Clone(f.InsecureRegistries), "127.0.0.0/8", "::1/128") {
		if p, err := netip.ParsePrefix(in); err == nil {
			r.InsecureRegistryCIDRs = append(r.InsecureRegistryCIDRs, p)
			continue
		}
		name := strings.TrimPrefix(strings.TrimPrefix(in, "http://"), "https://")
		r.IndexConfigs[name] = &registry.IndexInfo{Name: name, Mirrors: []string{}}
	}
	return r
}

// openFiles counts the daemon's descriptors; 0 if it cannot.
func openFiles() int {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	return max(len(names)-1, 0) // without the one just opened
}

// orEmpty keeps JSON's null away from clients that iterate without looking.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// orEmptyMap is orEmpty for maps; the copy is the caller's own.
func orEmptyMap[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return maps.Clone(m)
}
