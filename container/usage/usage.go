// Package usage turns what a container's cgroup counts into Docker's statistics,
// for both versions of the hierarchy. But for reading the host's own clock it is
// pure.
package usage

import (
	"fmt"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	apicontainer "github.com/moby/moby/api/types/container"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Fill puts one sample of metrics, as a containerd shim sends them, into s.
func Fill(s *apicontainer.StatsResponse, metrics any, host Host) error {
	switch m := metrics.(type) {
	case *v1.Metrics:
		fillV1(s, m)
	case *v2.Metrics:
		fillV2(s, m)
	default:
		return fmt.Errorf("the runtime sends metrics of an unknown kind, %T", metrics)
	}
	s.CPUStats.SystemUsage, s.CPUStats.OnlineCPUs = host.CPU, host.CPUs
	// Without a limit of its own a container has the host's memory: clients divide
	// by it.
	if l := &s.MemoryStats.Limit; s.MemoryStats.Usage > 0 && (*l == 0 || *l > host.Memory) {
		*l = host.Memory
	}
	return nil
}

func fillV1(s *apicontainer.StatsResponse, m *v1.Metrics) {
	if c := m.GetCPU(); c != nil {
		u, t := c.GetUsage(), c.GetThrottling()
		s.CPUStats.CPUUsage = apicontainer.CPUUsage{
			TotalUsage: u.GetTotal(), PercpuUsage: u.GetPerCPU(), UsageInKernelmode: u.GetKernel(), UsageInUsermode: u.GetUser(),
		}
		s.CPUStats.ThrottlingData = apicontainer.ThrottlingData{
			Periods: t.GetPeriods(), ThrottledPeriods: t.GetThrottledPeriods(), ThrottledTime: t.GetThrottledTime(),
		}
	}
	if mem := m.GetMemory(); mem != nil {
		u := mem.GetUsage()
		s.MemoryStats = apicontainer.MemoryStats{
			Usage: u.GetUsage(), MaxUsage: u.GetMax(), Failcnt: u.GetFailcnt(), Limit: u.GetLimit(), Stats: counters(mem, kernelNames),
		}
	}
	if b := m.GetBlkio(); b != nil {
		s.BlkioStats = apicontainer.BlkioStats{
			IoServiceBytesRecursive: entries(b.GetIoServiceBytesRecursive()), IoServicedRecursive: entries(b.GetIoServicedRecursive()),
			IoQueuedRecursive: entries(b.GetIoQueuedRecursive()), IoServiceTimeRecursive: entries(b.GetIoServiceTimeRecursive()),
			IoWaitTimeRecursive: entries(b.GetIoWaitTimeRecursive()), IoMergedRecursive: entries(b.GetIoMergedRecursive()),
			IoTimeRecursive: entries(b.GetIoTimeRecursive()), SectorsRecursive: entries(b.GetSectorsRecursive()),
		}
	}
	s.PidsStats = apicontainer.PidsStats{Current: m.GetPids().GetCurrent(), Limit: m.GetPids().GetLimit()}
}

// fillV2: the kernel counts CPU time in microseconds there (Documentation,
// cgroup-v2.rst, cpu.stat), Docker's clients expect nanoseconds.
func fillV2(s *apicontainer.StatsResponse, m *v2.Metrics) {
	if c := m.GetCPU(); c != nil {
		s.CPUStats.CPUUsage = apicontainer.CPUUsage{
			TotalUsage: c.GetUsageUsec() * 1000, UsageInKernelmode: c.GetSystemUsec() * 1000, UsageInUsermode: c.GetUserUsec() * 1000,
		}
		s.CPUStats.ThrottlingData = apicontainer.ThrottlingData{
			Periods: c.GetNrPeriods(), ThrottledPeriods: c.GetNrThrottled(), ThrottledTime: c.GetThrottledUsec() * 1000,
		}
	}
	if mem := m.GetMemory(); mem != nil {
		s.MemoryStats = apicontainer.MemoryStats{
			Usage: mem.GetUsage(), MaxUsage: mem.GetMaxUsage(), Limit: mem.GetUsageLimit(),
			Failcnt: m.GetMemoryEvents().GetOom(), Stats: counters(mem, ownFields),
		}
	}
	for _, e := range m.GetIo().GetUsage() {
		b := &s.BlkioStats
		add := func(to *[]apicontainer.BlkioStatEntry, op string, n uint64) {
			*to = append(*to, apicontainer.BlkioStatEntry{Major: e.GetMajor(), Minor: e.GetMinor(), Op: op, Value: n})
		}
		add(&b.IoServiceBytesRecursive, "read", e.GetRbytes())
		add(&b.IoServiceBytesRecursive, "write", e.GetWbytes())
		add(&b.IoServicedRecursive, "read", e.GetRios())
		add(&b.IoServicedRecursive, "write", e.GetWios())
	}
	s.PidsStats = apicontainer.PidsStats{Current: m.GetPids().GetCurrent(), Limit: m.GetPids().GetLimit()}
}

func entries(in []*v1.BlkIOEntry) []apicontainer.BlkioStatEntry {
	var out []apicontainer.BlkioStatEntry
	for _, e := range in {
		out = append(out, apicontainer.BlkioStatEntry{Major: e.GetMajor(), Minor: e.GetMinor(), Op: e.GetOp(), Value: e.GetValue()})
	}
	return out
}

// The message's fields bear the names of memory.stat's lines but for these
// (memory.txt of cgroup v1).
var kernelNames = map[string]string{
	"pg_pg_in": "pgpgin", "pg_pg_out": "pgpgout", "pg_fault": "pgfault", "pg_maj_fault": "pgmajfault",
	"total_pg_pg_in": "total_pgpgin", "total_pg_pg_out": "total_pgpgout",
	"total_pg_fault": "total_pgfault", "total_pg_maj_fault": "total_pgmajfault",
	"hierarchical_swap_limit": "hierarchical_memsw_limit",
}

// Of the second version's message these are no lines of memory.stat.
var ownFields = map[string]string{
	"usage": "", "usage_limit": "", "swap_usage": "", "swap_limit": "", "max_usage": "", "swap_max_usage": "",
}

// counters are the plain numbers of a message by their kernel's names; an empty
// one leaves a number out.
func counters(m proto.Message, names map[string]string) map[string]uint64 {
	r := m.ProtoReflect()
	out := map[string]uint64{}
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Kind() != protoreflect.Uint64Kind {
			continue
		}
		name := string(f.Name())
		if k, ok := names[name]; ok {
			name = k
		}
		if name != "" {
			out[name] = r.Get(f).Uint()
		}
	}
	return out
}
