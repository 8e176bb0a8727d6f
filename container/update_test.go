package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
	"linkspan/network"
)

func (n *fakeNet) Stats(context.Context, string) ([]network.InterfaceStats, error) {
	return []network.InterfaceStats{{Name: "eth0", RxBytes: 11, TxBytes: 22, RxDropped: 3}}, nil
}

func TestUpdated(t *testing.T) {
	type res = apicontainer.Resources
	n := func(i int64) *int64 { return &i }
	for _, c := range []struct {
		name  string
		old   res
		up    apicontainer.UpdateConfig
		check func(*apicontainer.HostConfig) bool
		err   string
	}{
		{name: "nothing told", old: res{Memory: 7, CPUShares: 3}, check: func(h *apicontainer.HostConfig) bool { return h.Memory == 7 && h.CPUShares == 3 }},
		{name: "memory and swap", old: res{Memory: 1 << 28, MemorySwap: 1 << 29}, up: apicontainer.UpdateConfig{Resources: res{Memory: 1 << 30, MemorySwap: 1 << 31}},
			check: func(h *apicontainer.HostConfig) bool { return h.Memory == 1<<30 && h.MemorySwap == 1<<31 }},
		{name: "memory above swap", old: res{Memory: 1 << 28, MemorySwap: 1 << 29}, up: apicontainer.UpdateConfig{Resources: res{Memory: 1 << 30}}, err: "update the memoryswap at the same time"},
		{name: "memory with swap unlimited", old: res{Memory: 1 << 28, MemorySwap: -1}, up: apicontainer.UpdateConfig{Resources: res{Memory: 1 << 30}},
			check: func(h *apicontainer.HostConfig) bool { return h.Memory == 1<<30 && h.MemorySwap == -1 }},
		{name: "cpus over a quota", old: res{CPUQuota: 5000}, up: apicontainer.UpdateConfig{Resources: res{NanoCPUs: 1e9}}, err: "Nano CPUs cannot be updated as CPU Quota"},
		{name: "cpus over a period", old: res{CPUPeriod: 5000}, up: apicontainer.UpdateConfig{Resources: res{NanoCPUs: 1e9}}, err: "Nano CPUs cannot be updated as CPU Period"},
		{name: "a quota over cpus", old: res{NanoCPUs: 1e9}, up: apicontainer.UpdateConfig{Resources: res{CPUQuota: 5000}}, err: "CPU Quota cannot be updated as NanoCPUs"},
		{name: "pids", old: res{PidsLimit: n(5)}, up: apicontainer.UpdateConfig{Resources: res{PidsLimit: n(-1)}}, check: func(h *apicontainer.HostConfig) bool { return *h.PidsLimit == -1 }},
		{name: "policy", up: apicontainer.UpdateConfig{RestartPolicy: apicontainer.RestartPolicy{Name: "always"}}, check: func(h *apicontainer.HostConfig) bool { return h.RestartPolicy.Name == "always" }},
	} {
		old := &apicontainer.HostConfig{Resources: c.old}
		got, err := updated(old, &c.up)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) || !errors.Is(err, cnm.ErrConflict) {
				t.Errorf("%s: %v, want %q", c.name, err, c.err)
			}
		case err != nil || !c.check(got):
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
	auto := &apicontainer.HostConfig{AutoRemove: true}
	if _, err := updated(auto, &apicontainer.UpdateConfig{RestartPolicy: apicontainer.RestartPolicy{Name: "always"}}); !errors.Is(err, cnm.ErrConflict) {
		t.Errorf("a restart policy with --rm: %v", err)
	}
}

// cgroupFile reads a file of a container's cgroup, whichever version there is.
func (w *world) cgroupFile(id, v1, v2 string) string {
	w.t.Helper()
	c, err := w.e.Get(id)
	if err != nil {
		w.t.Fatal(err)
	}
	var p string
	if !w.e.host.CgroupV2 {
		ctl, file, _ := strings.Cut(v1, "/")
		p = filepath.Join("/sys/fs/cgroup", ctl, w.e.cgroupPath(c), file)
	} else {
		p = filepath.Join("/sys/fs/cgroup", w.e.cgroupPath(c), v2)
	}
	b, err := os.ReadFile(p)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestUpdateLive(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	defer w.clean()
	id := w.run("up", "sleep 1000")
	pids := int64(77)
	warnings, err := e.Update(t.Context(), id, apicontainer.UpdateConfig{
		Resources:     apicontainer.Resources{Memory: 64 << 20, CPUShares: 512, PidsLimit: &pids, NanoCPUs: 5e8},
		RestartPolicy: apicontainer.RestartPolicy{Name: "unless-stopped"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(warnings)
	if got := w.cgroupFile(id, "memory/memory.limit_in_bytes", "memory.max"); got != "67108864" {
		t.Errorf("memory limit %s", got)
	}
	if got := w.cgroupFile(id, "pids/pids.max", "pids.max"); got != "77" {
		t.Errorf("pids limit %s", got)
	}
	if got := w.cgroupFile(id, "cpu/cpu.cfs_quota_us", "cpu.max"); !strings.HasPrefix(got, "50000") {
		t.Errorf("cpu quota %s", got)
	}
	c, _ := e.Get(id)
	if r := c.HostConfig; r.Memory != 64<<20 || r.CPUShares != 512 || *r.PidsLimit != 77 || r.RestartPolicy.Name != "unless-stopped" {
		t.Errorf("the record: %+v", r.Resources)
	}
	pids = -1
	if _, err := e.Update(t.Context(), id, apicontainer.UpdateConfig{Resources: apicontainer.Resources{PidsLimit: &pids}}); err != nil {
		t.Fatal(err)
	}
	if got := w.cgroupFile(id, "pids/pids.max", "pids.max"); got != "max" {
		t.Errorf("pids limit %s", got)
	}
	if _, err := e.Update(t.Context(), id, apicontainer.UpdateConfig{Resources: apicontainer.Resources{Memory: 1 << 20}}); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("1 MB: %v", err)
	}
	if _, err := e.Update(t.Context(), "nobody", apicontainer.UpdateConfig{}); !errors.Is(err, cnm.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	if got := w.cgroupFile(id, "memory/memory.limit_in_bytes", "memory.max"); got != "67108864" {
		t.Errorf("memory limit after refusals: %s", got)
	}
}

// A limit below what is in use is refused, and nothing changes.
func TestUpdateBelowUse(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	defer w.clean()
	// 40 MB in a tmpfs cannot be freed without swap.
	id := w.run("fat", "dd if=/dev/zero of=/dev/shm/x bs=1M count=40; touch /ready; sleep 1000", func(r *CreateRequest) {
		r.HostConfig.Memory, r.HostConfig.MemorySwap = 128<<20, 128<<20
	})
	w.eventually("the container is ready", func() bool { _, err := e.StatPath(t.Context(), id, "/ready"); return err == nil })
	_, err := e.Update(t.Context(), id, apicontainer.UpdateConfig{Resources: apicontainer.Resources{Memory: 10 << 20, MemorySwap: 10 << 20}})
	if !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "below the") || !strings.HasPrefix(err.Error(), "Cannot update container "+id) {
		t.Errorf("%v", err)
	}
	if c, _ := e.Get(id); c.HostConfig.Memory != 128<<20 || c.State.Phase != Running {
		t.Errorf("after the refusal: %d bytes, %s", c.HostConfig.Memory, c.State.Phase)
	}
}

func TestStats(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	defer w.clean()
	id := w.run("busy", "dd if=/dev/zero of=/dev/null bs=1M count=500; sleep 1000", func(r *CreateRequest) { r.HostConfig.Memory = 256 << 20 })
	w.eventually("CPU time is counted", func() bool {
		s, err := e.Stats(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return s.CPUStats.CPUUsage.TotalUsage > 0 && s.MemoryStats.Usage > 0
	})
	s, err := e.Stats(t.Context(), "busy")
	if err != nil {
		t.Fatal(err)
	}
	if s.ID != id || s.Name != "/busy" || s.Read.IsZero() || s.CPUStats.SystemUsage == 0 || s.CPUStats.OnlineCPUs == 0 {
		t.Errorf("%+v", s)
	}
	if s.MemoryStats.Limit != 256<<20 || s.PidsStats.Current == 0 || len(s.MemoryStats.Stats) < 20 {
		t.Errorf("%+v %+v", s.MemoryStats, s.PidsStats)
	}
	if n := s.Networks["eth0"]; n.RxBytes != 11 || n.TxBytes != 22 || n.RxDropped != 3 {
		t.Errorf("networks: %+v", s.Networks)
	}
	still := w.create("still", "true")
	s, err = e.Stats(t.Context(), still)
	if err != nil || s.ID != still || s.CPUStats.CPUUsage.TotalUsage != 0 || !s.Read.IsZero() {
		t.Errorf("one that does not run: %+v, %v", s, err)
	}
}
