package docker

// Facts are what `docker info` and `docker version` tell of the daemon and its
// host and what only the daemon can know. HostFacts reads those of the host.
type Facts struct {
	ID      string // stable over restarts of one data root
	Name    string // the host's name
	RootDir string
	Labels  []string

	Driver        string // the snapshotter, "overlayfs"
	DriverStatus  [][2]string
	CgroupDriver  string // "cgroupfs" or "systemd"
	CgroupVersion string // "1" or "2"

	KernelVersion, OperatingSystem, OSVersion string
	Arch                                      string // as uname says it, "x86_64"
	NCPU                                      int
	MemTotal                                  int64
	// Limits that this kernel's cgroups can set.
	MemoryLimit, SwapLimit, CPUShares, CPUCfs, CPUSet, PidsLimit, OomKillDisable bool
	IPv4Forwarding                                                               bool
	BridgeNfIptables, BridgeNfIP6tables                                          bool

	ContainerdAddress, ContainerdNamespace, ContainerdVersion string
	RuncVersion                                               string
	Runtimes                                                  map[string]string // name → path
	DefaultRuntime                                            string
	SecurityOptions                                           []string // "name=seccomp,profile=builtin"
	NetworkDrivers                                            []string
	AddressPools                                              []AddressPool
	// LoggingDriver is the one of containers that name none; empty: json-file, as
	// LogDrivers' only.
	LoggingDriver string
	LogDrivers    []string

	RegistryMirrors, InsecureRegistries []string
	HTTPProxy, HTTPSProxy, NoProxy      string
	Debug, LiveRestore, Experimental    bool
	InitBinary                          string
	// Firewall says what serves published ports, with lines of detail.
	Firewall       string
	FirewallStatus [][2]string
	// Warnings are for the person who types `docker info`.
	Warnings []string
}

// AddressPool is one pool that networks without a subnet are cut from.
type AddressPool struct {
	Base string
	Size int
}
