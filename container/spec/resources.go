package spec

import (
	apicontainer "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func ptr[T any](v T) *T { return &v }

// resources maps Docker's limits to the specification's. A zero is no limit.
func resources(r *apicontainer.Resources) *specs.LinuxResources {
	out := &specs.LinuxResources{}
	out.Memory = memory(r)
	out.CPU = cpu(r)
	if r.PidsLimit != nil && *r.PidsLimit > 0 {
		out.Pids = &specs.LinuxPids{Limit: ptr(*r.PidsLimit)}
	}
	return out
}

// UpdateResources are the limits as a running container gets them anew: what is
// zero stays as it is, and no limit of processes is one to be set.
func UpdateResources(r *apicontainer.Resources) *specs.LinuxResources {
	out := resources(r)
	if r.PidsLimit != nil && *r.PidsLimit <= 0 {
		out.Pids = &specs.LinuxPids{Limit: ptr(int64(-1))}
	}
	if out.Memory != nil {
		// They are set at the start alone.
		out.Memory.Swappiness, out.Memory.DisableOOMKiller = nil, nil
	}
	if r.BlkioWeight > 0 {
		out.BlockIO = &specs.LinuxBlockIO{Weight: ptr(r.BlkioWeight)}
	}
	return out
}

func memory(r *apicontainer.Resources) *specs.LinuxMemory {
	m := specs.LinuxMemory{}
	set := false
	if r.Memory > 0 {
		m.Limit, set = ptr(r.Memory), true
	}
	if r.MemoryReservation > 0 {
		m.Reservation, set = ptr(r.MemoryReservation), true
	}
	if r.MemorySwap != 0 {
		m.Swap, set = ptr(r.MemorySwap), true
	}
	// The client sends -1 for "not told".
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 {
		m.Swappiness, set = ptr(uint64(*r.MemorySwappiness)), true
	}
	if r.OomKillDisable != nil && *r.OomKillDisable {
		m.DisableOOMKiller, set = ptr(true), true
	}
	if !set {
		return nil
	}
	return &m
}

func cpu(r *apicontainer.Resources) *specs.LinuxCPU {
	c := specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	set := c.Cpus != "" || c.Mems != ""
	if r.CPUShares > 0 {
		c.Shares, set = ptr(uint64(r.CPUShares)), true
	}
	if r.NanoCPUs > 0 {
		// As Docker: a period of 100 ms and its share of it.
		c.Period, set = ptr(uint64(100_000)), true
		c.Quota = ptr(r.NanoCPUs * 100_000 / 1e9)
	}
	if r.CPUPeriod != 0 {
		c.Period, set = ptr(uint64(r.CPUPeriod)), true
	}
	if r.CPUQuota != 0 {
		c.Quota, set = ptr(r.CPUQuota), true
	}
	if r.CPURealtimePeriod != 0 {
		c.RealtimePeriod, set = ptr(uint64(r.CPURealtimePeriod)), true
	}
	if r.CPURealtimeRuntime != 0 {
		c.RealtimeRuntime, set = ptr(r.CPURealtimeRuntime), true
	}
	if !set {
		return nil
	}
	return &c
}

// rlimits in the specification's words; "core" is RLIMIT_CORE.
func rlimits(us []*apicontainer.Ulimit) []specs.POSIXRlimit {
	var out []specs.POSIXRlimit
	for _, u := range us {
		out = append(out, specs.POSIXRlimit{Type: "RLIMIT_" + upper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	return out
}
