package spec

import (
	"maps"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Build makes the container's specification.
func Build(in *Input) (*specs.Spec, error) {
	hc := in.HostConfig
	caps, err := Caps(in.Host.Caps, hc.CapAdd, hc.CapDrop, hc.Privileged)
	if err != nil {
		return nil, err
	}
	ms, rootPropagation := mounts(in)
	res := resources(&hc.Resources)
	res.BlockIO = in.BlockIO
	s := &specs.Spec{
		Version:     Version,
		Root:        &specs.Root{Path: "rootfs", Readonly: hc.ReadonlyRootfs},
		Mounts:      ms,
		Annotations: hc.Annotations,
		Process:     process(in, caps),
		Linux: &specs.Linux{
			CgroupsPath:       in.CgroupsPath,
			Resources:         res,
			Namespaces:        namespaces(in),
			Devices:           in.Devices,
			RootfsPropagation: rootPropagation,
		},
	}
	if !hc.UTSMode.IsHost() {
		s.Hostname = in.Hostname
	}
	s.Linux.Sysctl = sysctls(in)
	if hc.Privileged {
		s.Linux.Devices = append(append([]specs.LinuxDevice{}, in.Host.Devices...), in.Devices...)
		res.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	} else {
		res.Devices = append(deviceRules(), in.DeviceRules...)
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = MaskedPaths(), ReadonlyPaths()
		// An empty list is a wish (systempaths=unconfined); none is not.
		if hc.MaskedPaths != nil {
			s.Linux.MaskedPaths = hc.MaskedPaths
		}
		if hc.ReadonlyPaths != nil {
			s.Linux.ReadonlyPaths = hc.ReadonlyPaths
		}
	}
	return s, applySeccomp(s, in)
}

func process(in *Input, caps []string) *specs.Process {
	c, hc := in.Config, in.HostConfig
	p := &specs.Process{
		Terminal:        c.Tty,
		Args:            in.Args,
		Env:             Env(in.Hostname, c.Tty, c.Env),
		Cwd:             c.WorkingDir,
		User:            in.User,
		NoNewPrivileges: in.Security.NoNewPrivileges,
		Capabilities:    capSets(caps),
		Rlimits:         rlimits(in.Ulimits),
	}
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	if hc.OomScoreAdj != 0 {
		p.OOMScoreAdj = ptr(hc.OomScoreAdj)
	}
	if c.Tty && hc.ConsoleSize[0] != 0 && hc.ConsoleSize[1] != 0 {
		p.ConsoleSize = &specs.Box{Height: hc.ConsoleSize[0], Width: hc.ConsoleSize[1]}
	}
	return p
}

// capSets leaves the inheritable set empty: a file with inheritable
// capabilities must not regain what --cap-drop took (CVE-2022-24769).
func capSets(caps []string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

func sysctls(in *Input) map[string]string {
	out := map[string]string{}
	hc := in.HostConfig
	_, rest, err := SplitSysctls(hc.Sysctls, false, false, false)
	if err == nil {
		maps.Copy(out, rest)
	}
	// The specification of that version has no domainname; the UTS namespace has.
	if in.Domainname != "" && !hc.UTSMode.IsHost() {
		out["kernel.domainname"] = in.Domainname
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func namespaces(in *Input) []specs.LinuxNamespace {
	hc := in.HostConfig
	ns := []specs.LinuxNamespace{
		{Type: specs.MountNamespace},
		{Type: specs.NetworkNamespace, Path: in.NetNS},
	}
	if !hc.UTSMode.IsHost() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.UTSNamespace})
	}
	if !hc.PidMode.IsHost() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: in.PidNS})
	}
	if !hc.IpcMode.IsHost() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: in.IpcNS})
	}
	// Docker's default: private on the unified hierarchy, the host's on v1.
	if hc.CgroupnsMode.IsPrivate() || hc.CgroupnsMode.IsEmpty() && in.Host.CgroupV2 {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return ns
}
