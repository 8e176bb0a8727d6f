package usage

import (
	"strings"
	"testing"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/google/go-cmp/cmp"
	apicontainer "github.com/moby/moby/api/types/container"
)

var host = Host{CPU: 5e9, CPUs: 2, Memory: 8 << 30}

func TestFillV1(t *testing.T) {
	var s apicontainer.StatsResponse
	err := Fill(&s, &v1.Metrics{
		CPU: &v1.CPUStat{
			Usage:      &v1.CPUUsage{Total: 300, Kernel: 100, User: 200, PerCPU: []uint64{120, 180}},
			Throttling: &v1.Throttle{Periods: 7, ThrottledPeriods: 3, ThrottledTime: 99},
		},
		Memory: &v1.MemoryStat{
			Cache: 1, PgFault: 2, TotalInactiveFile: 4096, HierarchicalSwapLimit: 5, TotalPgPgIn: 6,
			Usage: &v1.MemoryEntry{Limit: 1 << 62, Usage: 10000, Max: 20000, Failcnt: 4},
		},
		Blkio: &v1.BlkIOStat{IoServiceBytesRecursive: []*v1.BlkIOEntry{{Op: "Read", Major: 8, Minor: 1, Value: 512}}},
		Pids:  &v1.PidsStat{Current: 3, Limit: 100},
	}, host)
	if err != nil {
		t.Fatal(err)
	}
	want := apicontainer.CPUStats{
		CPUUsage:    apicontainer.CPUUsage{TotalUsage: 300, PercpuUsage: []uint64{120, 180}, UsageInKernelmode: 100, UsageInUsermode: 200},
		SystemUsage: 5e9, OnlineCPUs: 2, ThrottlingData: apicontainer.ThrottlingData{Periods: 7, ThrottledPeriods: 3, ThrottledTime: 99},
	}
	if d := cmp.Diff(want, s.CPUStats); d != "" {
		t.Error(d)
	}
	m := s.MemoryStats
	if m.Usage != 10000 || m.MaxUsage != 20000 || m.Failcnt != 4 || m.Limit != 8<<30 {
		t.Errorf("memory: %+v", m)
	}
	for k, v := range map[string]uint64{"cache": 1, "pgfault": 2, "total_inactive_file": 4096, "hierarchical_memsw_limit": 5, "total_pgpgin": 6, "rss": 0} {
		if got, ok := m.Stats[k]; !ok || got != v {
			t.Errorf("memory.stats.%s: %d, %v; want %d", k, got, ok, v)
		}
	}
	if len(m.Stats) != 32 {
		t.Errorf("%d memory counters: %v", len(m.Stats), m.Stats)
	}
	if d := cmp.Diff([]apicontainer.BlkioStatEntry{{Major: 8, Minor: 1, Op: "Read", Value: 512}}, s.BlkioStats.IoServiceBytesRecursive); d != "" {
		t.Error(d)
	}
	if s.PidsStats != (apicontainer.PidsStats{Current: 3, Limit: 100}) {
		t.Errorf("pids: %+v", s.PidsStats)
	}
}

func TestFillV2(t *testing.T) {
	var s apicontainer.StatsResponse
	err := Fill(&s, &v2.Metrics{
		CPU:          &v2.CPUStat{UsageUsec: 3, UserUsec: 2, SystemUsec: 1, NrPeriods: 5, NrThrottled: 4, ThrottledUsec: 6},
		Memory:       &v2.MemoryStat{Anon: 11, InactiveFile: 22, Usage: 4000, UsageLimit: 64 << 20, MaxUsage: 5000, Pgfault: 9},
		MemoryEvents: &v2.MemoryEvents{Oom: 1},
		Io:           &v2.IOStat{Usage: []*v2.IOEntry{{Major: 254, Rbytes: 10, Wbytes: 20, Rios: 1, Wios: 2}}},
		Pids:         &v2.PidsStat{Current: 1},
	}, host)
	if err != nil {
		t.Fatal(err)
	}
	if u := s.CPUStats.CPUUsage; u.TotalUsage != 3000 || u.UsageInUsermode != 2000 || u.UsageInKernelmode != 1000 || u.PercpuUsage != nil {
		t.Errorf("cpu: %+v", u)
	}
	if d := s.CPUStats.ThrottlingData; d.ThrottledTime != 6000 || d.Periods != 5 || d.ThrottledPeriods != 4 {
		t.Errorf("throttling: %+v", d)
	}
	m := s.MemoryStats
	if m.Usage != 4000 || m.Limit != 64<<20 || m.Failcnt != 1 || m.Stats["inactive_file"] != 22 || m.Stats["anon"] != 11 || m.Stats["pgfault"] != 9 {
		t.Errorf("memory: %+v", m)
	}
	if _, ok := m.Stats["usage_limit"]; ok || len(m.Stats) != 31 {
		t.Errorf("%d memory counters: %v", len(m.Stats), m.Stats)
	}
	want := []apicontainer.BlkioStatEntry{{Major: 254, Op: "read", Value: 10}, {Major: 254, Op: "write", Value: 20}}
	if d := cmp.Diff(want, s.BlkioStats.IoServiceBytesRecursive); d != "" {
		t.Error(d)
	}
}

func TestFillUnknown(t *testing.T) {
	if err := Fill(&apicontainer.StatsResponse{}, 3, host); err == nil {
		t.Error("a number is no metrics")
	}
	// Nothing counted: nothing invented.
	var s apicontainer.StatsResponse
	if err := Fill(&s, &v1.Metrics{}, host); err != nil || s.MemoryStats.Limit != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		in    string
		total uint64
		cpus  uint32
		bad   bool
	}{
		{in: "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1 1 1 1 1 1 1\ncpu1 1 1 1 1 1 1 1 1\nintr 5 5\n", total: 28 * 1e7, cpus: 2},
		{in: "cpu  1 2 3\n", bad: true},
		{in: "cpu  1 2 3 x 5 6 7\n", bad: true},
		{in: "", bad: true},
	} {
		total, cpus, err := parseStat(strings.NewReader(c.in))
		if (err != nil) != c.bad || total != c.total || cpus != c.cpus {
			t.Errorf("%q: %d %d %v", c.in, total, cpus, err)
		}
	}
}

func TestParseMemInfo(t *testing.T) {
	if n, err := parseMemInfo(strings.NewReader("MemTotal:  2048 kB\nMemFree: 1 kB\n")); err != nil || n != 2<<20 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := parseMemInfo(strings.NewReader("nothing\n")); err == nil {
		t.Error("no MemTotal was taken")
	}
}

func TestReadHost(t *testing.T) {
	h, err := ReadHost()
	if err != nil || h.CPU == 0 || h.CPUs == 0 || h.Memory == 0 {
		t.Errorf("%+v, %v", h, err)
	}
}
