// Package spec builds the OCI runtime specification of a container and of an
// exec. It is pure: everything that must be looked up on the host or in the
// container's root filesystem comes in as data.
package spec

import (
	apicontainer "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Version is the specification version that is written, whatever the library
// knows: runc 1.1 writes 1.0.2-dev and crun 1.8 refuses a newer one than its
// own, while nothing that we use needs more.
const Version = "1.0.2"

// Host is what the host can do.
type Host struct {
	// Caps are the capabilities that a process here can have at all: the kernel's
	// that are in the daemon's own bounding set.
	Caps []string
	// CgroupV2: the unified hierarchy alone.
	CgroupV2 bool
	// Devices are the host's devices, given to privileged containers.
	Devices []specs.LinuxDevice
	// RecursiveRO: mount_setattr(2) is there (Linux 5.12), so that a read-only
	// bind is read-only all the way down.
	RecursiveRO bool
}

// Input is everything that decides a container's specification.
type Input struct {
	ID   string
	Host Host

	Config     *apicontainer.Config
	HostConfig *apicontainer.HostConfig
	// Args is the resolved command, program first.
	Args []string

	// Hostname and Domainname of the UTS namespace; unused with the host's.
	Hostname, Domainname string
	// User is resolved against the container's own passwd and group files.
	User specs.User

	// NetNS is the sandbox's path, in host mode too: an absent one would be
	// containerd's own namespace.
	NetNS string
	// PidNS and IpcNS are paths of namespaces to join; empty: by the modes in
	// HostConfig.
	PidNS, IpcNS string
	// ShmSource is a host directory bound to /dev/shm: the tmpfs of a shareable
	// or joined IPC namespace; empty: a tmpfs of its own.
	ShmSource string

	// Mounts are the user's, in no particular order: binds, volumes, tmpfs.
	Mounts []Mount
	// Files are the bind mounts that the engine adds (/etc/hosts …). A user's
	// mount at the same place wins.
	Files []Mount

	// CgroupsPath as cgroupfs has it ("/linkspan-b12a12/<id>").
	CgroupsPath string
	// Devices are the ones asked for with --device, resolved.
	Devices []specs.LinuxDevice
	// DeviceRules are the matching cgroup rules.
	DeviceRules []specs.LinuxDeviceCgroup
	// BlkioDevices resolved to numbers.
	BlockIO *specs.LinuxBlockIO

	// Security is the decoded --security-opt.
	Security Security
	// Ulimits are the container's merged over the daemon's defaults.
	Ulimits []*apicontainer.Ulimit
}

// Mount is one mount to make.
type Mount struct {
	Type        string // "bind" or "tmpfs"
	Source      string
	Destination string
	ReadOnly    bool
	// Propagation is Docker's word; empty: rprivate.
	Propagation string
	// NonRecursive binds that one mount and not what is mounted below it.
	NonRecursive bool
	// ROTopOnly makes only the topmost mount of a recursive bind read-only.
	ROTopOnly bool
	// Options of a tmpfs, in mount(8)'s words.
	Options []string
}
