package container

import (
	"strconv"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
)

// minMemory is Docker's: with less, the runtime itself does not come up.
const minMemory = 6 << 20

func (e *Engine) verifyResources(_ *apicontainer.Config, hc *apicontainer.HostConfig) error {
	r := &hc.Resources
	switch {
	case r.Memory < 0 || r.Memory > 0 && r.Memory < minMemory:
		return cnm.Invalid("Minimum memory limit allowed is 6MB")
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return cnm.Invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	case r.Memory == 0 && r.MemorySwap > 0:
		return cnm.Invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	case r.MemoryReservation < 0 || r.MemoryReservation > 0 && r.MemoryReservation < minMemory:
		return cnm.Invalid("Minimum memory reservation allowed is 6MB")
	case r.Memory > 0 && r.MemoryReservation > r.Memory:
		return cnm.Invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100):
		return cnm.Invalid("Invalid value: %v, valid memory swappiness range is 0-100", *r.MemorySwappiness)
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return cnm.Invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return cnm.Invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1_000_000):
		return cnm.Invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return cnm.Invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case r.CPUShares < 0:
		return cnm.Invalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	case r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000):
		return cnm.Invalid("Range of blkio weight is from 10 to 1000")
	}
	if n := onlineCPUs(e.cgroups.cpus); r.NanoCPUs < 0 || n > 0 && r.NanoCPUs > int64(n)*1e9 {
		return cnm.Invalid("Range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", n, n)
	}
	if err := within("CPUs", r.CpusetCpus, e.cgroups.cpus); err != nil {
		return err
	}
	if err := within("memory nodes", r.CpusetMems, e.cgroups.mems); err != nil {
		return err
	}
	for _, u := range r.Ulimits {
		if u.Hard != -1 && u.Soft > u.Hard {
			return cnm.Invalid("ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
	}
	return nil
}

// fitResources takes back, with a warning, what this kernel cannot limit.
func (e *Engine) fitResources(r *apicontainer.Resources) (warnings []string) {
	f := e.cgroups
	warn := func(s string) { warnings = append(warnings, s) }
	if r.Memory > 0 && !f.memory {
		warn("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.Memory, r.MemorySwap = 0, -1
	}
	if r.Memory > 0 && r.MemorySwap != -1 && !f.swap {
		warn("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
		r.MemorySwap = -1
	}
	// As much swap as memory, unless told.
	if r.Memory > 0 && r.MemorySwap == 0 {
		r.MemorySwap = 2 * r.Memory
	}
	if e.host.CgroupV2 {
		if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 {
			warn("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
			r.MemorySwappiness = nil
		}
		if r.OomKillDisable != nil && *r.OomKillDisable {
			warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
			r.OomKillDisable = nil
		}
	}
	if r.NanoCPUs > 0 && !f.cpu || (r.CPUPeriod != 0 || r.CPUQuota > 0) && !f.cpu {
		warn("Your kernel does not support CPU cfs period/quota or the cgroup is not mounted. Limitation discarded.")
		r.NanoCPUs, r.CPUPeriod, r.CPUQuota = 0, 0, 0
	}
	if (r.CpusetCpus != "" || r.CpusetMems != "") && !f.cpuset {
		warn("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
		r.CpusetCpus, r.CpusetMems = "", ""
	}
	if r.PidsLimit != nil && *r.PidsLimit > 0 && !f.pids {
		warn("Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.")
		r.PidsLimit = nil
	}
	if r.OomKillDisable != nil && *r.OomKillDisable && r.Memory == 0 {
		warn("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
	}
	return warnings
}

// parseList decodes a list as in cpuset(7): "0-2,5".
func parseList(s string) (map[int]bool, bool) {
	out := map[int]bool{}
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, ranged := strings.Cut(part, "-")
		a, err := strconv.Atoi(lo)
		b := a
		if err == nil && ranged {
			b, err = strconv.Atoi(hi)
		}
		if err != nil || a < 0 || b < a || b > 8192 {
			return nil, false
		}
		for i := a; i <= b; i++ {
			out[i] = true
		}
	}
	return out, true
}

func onlineCPUs(list string) int {
	m, _ := parseList(list)
	return len(m)
}

func within(what, asked, online string) error {
	if asked == "" {
		return nil
	}
	want, ok := parseList(asked)
	if !ok {
		return cnm.Invalid("Invalid value %s for cpuset %s", asked, strings.ToLower(what))
	}
	have, ok := parseList(online)
	for i := range want {
		if ok && !have[i] {
			return cnm.Invalid("Requested %s are not available - requested %s, available: %s", what, asked, online)
		}
	}
	return nil
}
