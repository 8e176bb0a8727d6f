package container

import (
	"errors"
	"strings"
	"testing"

	"github.com/docker/go-units"
	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"

	"linkspan/cnm"
)

func p[T any](v T) *T { return &v }

func TestVerify(t *testing.T) {
	e := &Engine{cfg: Config{Runtime: "io.containerd.runc.v2", Runtimes: map[string]string{"crun": "/usr/bin/crun"}},
		cgroups: cgroupFacts{cpus: "0-1", mems: "0"}}
	port := apinetwork.MustParsePort("80/tcp")
	for _, c := range []struct {
		name   string
		change func(*apicontainer.Config, *apicontainer.HostConfig)
		words  string
		class  error
	}{
		{name: "plain"},
		{"no image", func(c *apicontainer.Config, _ *apicontainer.HostConfig) { c.Image = "" }, "no image specified", nil},
		{"env", func(c *apicontainer.Config, _ *apicontainer.HostConfig) { c.Env = []string{"A=1", "=x"} }, "invalid environment variable: =x", nil},
		{"empty env", func(c *apicontainer.Config, _ *apicontainer.HostConfig) { c.Env = []string{""} }, "invalid environment variable: ", nil},
		{"workdir", func(c *apicontainer.Config, _ *apicontainer.HostConfig) { c.WorkingDir = "a" }, "the working directory 'a' is invalid, it needs to be an absolute path", nil},
		{"hostname", func(c *apicontainer.Config, _ *apicontainer.HostConfig) { c.Hostname = strings.Repeat("h", 65) }, "invalid hostname format", nil},
		{"two lines of a hostname", func(c *apicontainer.Config, _ *apicontainer.HostConfig) { c.Hostname = "a\nb" }, `invalid hostname "a\nb"`, nil},
		{"two lines of hosts", func(_ *apicontainer.Config, h *apicontainer.HostConfig) {
			h.ExtraHosts = []string{"ok:1.2.3.4", "a\u0085b:1.2.3.4"}
		}, "invalid add-host", nil},
		{"signal", func(c *apicontainer.Config, _ *apicontainer.HostConfig) { c.StopSignal = "FOO" }, "invalid signal: FOO", nil},
		{"stop timeout", func(c *apicontainer.Config, _ *apicontainer.HostConfig) { c.StopTimeout = p(-2) }, "invalid stop timeout", nil},
		{"policy", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.RestartPolicy.Name = "sometimes" }, "invalid restart policy", nil},
		{"policy count", func(_ *apicontainer.Config, h *apicontainer.HostConfig) {
			h.RestartPolicy = apicontainer.RestartPolicy{Name: "always", MaximumRetryCount: 3}
		}, "maximum retry count can only be used with 'on-failure'", nil},
		{"rm and policy", func(_ *apicontainer.Config, h *apicontainer.HostConfig) {
			h.AutoRemove, h.RestartPolicy.Name = true, "always"
		}, "can't create 'AutoRemove' container with restart policy", nil},
		{"shm", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.ShmSize = -1 }, "SHM size can not be less than 0", nil},
		{"oom score", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.OomScoreAdj = 1001 }, "range for oom score adj is [-1000, 1000]", nil},
		{"cap", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.CapAdd = []string{"FLY"} }, `invalid capability: "FLY"`, nil},
		{"ipc", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.IpcMode = "x" }, "invalid IPC mode: x", nil},
		{"pid", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.PidMode = "container:" }, "invalid PID mode", nil},
		{"uts", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.UTSMode = "x" }, "invalid UTS mode", nil},
		{"cgroupns", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.CgroupnsMode = "x" }, "invalid cgroup namespace mode", nil},
		{"uts hostname", func(c *apicontainer.Config, h *apicontainer.HostConfig) { h.UTSMode, c.Hostname = "host", "x" }, "conflicting options: hostname and the UTS mode", nil},
		{"isolation", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.Isolation = "hyperv" }, "invalid isolation", nil},
		{"net empty", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.NetworkMode = "container:" }, "invalid container format container:<name|id>", nil},
		{"net hostname", func(c *apicontainer.Config, h *apicontainer.HostConfig) {
			h.NetworkMode, c.Hostname = "container:x", "h"
		}, "conflicting options: hostname and the network mode", nil},
		{"net hosts", func(_ *apicontainer.Config, h *apicontainer.HostConfig) {
			h.NetworkMode, h.ExtraHosts = "container:x", []string{"a:1.1.1.1"}
		}, "conflicting options: custom host-to-IP mapping and the network mode", nil},
		{"net ports", func(_ *apicontainer.Config, h *apicontainer.HostConfig) {
			h.NetworkMode, h.PortBindings = "container:x", apinetwork.PortMap{port: nil}
		}, "conflicting options: port publishing and the container type network mode", nil},
		{"net all ports", func(_ *apicontainer.Config, h *apicontainer.HostConfig) {
			h.NetworkMode, h.PublishAllPorts = "container:x", true
		},
			"conflicting options: port publishing and the container type network mode", nil},
		{"net expose", func(c *apicontainer.Config, h *apicontainer.HostConfig) {
			h.NetworkMode, c.ExposedPorts = "container:x", apinetwork.PortSet{port: {}}
		}, "conflicting options: port exposing and the container type network mode", nil},
		{"runtime", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.Runtime = "kata" }, "unknown or invalid runtime name: kata", nil},
		{"known runtime", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.Runtime = "crun" }, "", nil},
		{"memory", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.Memory = 1 << 20 }, "Minimum memory limit allowed is 6MB", nil},
		{"swap", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.Memory, h.MemorySwap = 64<<20, 32<<20 }, "Minimum memoryswap limit should be larger than memory limit, see usage", nil},
		{"swap alone", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.MemorySwap = 32 << 20 }, "You should always set the Memory limit when using Memoryswap limit, see usage", nil},
		{"cpus", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.NanoCPUs = 3e9 }, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", nil},
		{"cpu period", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.NanoCPUs, h.CPUPeriod = 1e9, 10000 }, "Nano CPUs and CPU Period cannot both be set", nil},
		{"cpuset", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.CpusetCpus = "0-5" }, "Requested CPUs are not available - requested 0-5, available: 0-1", nil},
		{"cpuset words", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.CpusetCpus = "all" }, "Invalid value all for cpuset cpus", nil},
		{"ulimit", func(_ *apicontainer.Config, h *apicontainer.HostConfig) {
			h.Ulimits = []*units.Ulimit{{Name: "nofile", Soft: 5, Hard: 4}}
		}, "ulimit soft limit must be less than or equal to hard limit: 5 > 4", nil},
		{"no init", func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.Init = p(false) }, "", nil},
		{"gpus", func(_ *apicontainer.Config, h *apicontainer.HostConfig) {
			h.DeviceRequests = []apicontainer.DeviceRequest{{}}
		}, "--gpus", cnm.ErrUnsupported},
		{"health", func(c *apicontainer.Config, _ *apicontainer.HostConfig) {
			c.Healthcheck = &apicontainer.HealthConfig{Test: []string{"CMD"}}
		}, "has no command", nil},
		{"no health", func(c *apicontainer.Config, _ *apicontainer.HostConfig) {
			c.Healthcheck = &apicontainer.HealthConfig{Test: []string{"NONE"}}
		}, "", nil},
	} {
		cfg, hc := &apicontainer.Config{Image: "img"}, &apicontainer.HostConfig{}
		if c.change != nil {
			c.change(cfg, hc)
		}
		err := e.verify(cfg, hc)
		if c.words == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if c.class == nil {
			c.class = cnm.ErrInvalid
		}
		if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %q", c.name, err, c.words)
		}
	}
}

func TestFitResources(t *testing.T) {
	full := &Engine{cgroups: cgroupFacts{memory: true, swap: true, cpu: true, cpuset: true, pids: true}}
	r := apicontainer.Resources{Memory: 10 << 20}
	if w := full.fitResources(&r); len(w) != 0 || r.MemorySwap != 20<<20 {
		t.Errorf("%v %+v", w, r)
	}
	bare := &Engine{}
	r = apicontainer.Resources{Memory: 10 << 20, NanoCPUs: 1e9, CpusetCpus: "0", PidsLimit: p(int64(5))}
	if w := bare.fitResources(&r); len(w) != 4 || r.Memory != 0 || r.NanoCPUs != 0 || r.CpusetCpus != "" || r.PidsLimit != nil {
		t.Errorf("%q %+v", w, r)
	}
	noswap := &Engine{cgroups: cgroupFacts{memory: true}}
	r = apicontainer.Resources{Memory: 10 << 20}
	if w := noswap.fitResources(&r); len(w) != 1 || r.MemorySwap != -1 {
		t.Errorf("%q %+v", w, r)
	}
	noswap.host.CgroupV2 = true
	r = apicontainer.Resources{MemorySwappiness: p(int64(5)), OomKillDisable: p(true)}
	if w := noswap.fitResources(&r); len(w) != 2 || r.MemorySwappiness != nil || r.OomKillDisable != nil {
		t.Errorf("%q %+v", w, r)
	}
}

func TestParseList(t *testing.T) {
	for in, n := range map[string]int{"0": 1, "0-3": 4, "0-1,5": 3, "7,7": 1} {
		if m, ok := parseList(in); !ok || len(m) != n {
			t.Errorf("%q: %v %v", in, m, ok)
		}
	}
	for _, in := range []string{"", "a", "3-1", "-1", "1-", "0-99999"} {
		if _, ok := parseList(in); ok {
			t.Errorf("%q was taken", in)
		}
	}
}

func TestParseRule(t *testing.T) {
	d, err := parseRule("c 13:* rw")
	if err != nil || d.Type != "c" || *d.Major != 13 || d.Minor != nil || d.Access != "rw" || !d.Allow {
		t.Errorf("%+v %v", d, err)
	}
	for _, in := range []string{"", "c 13 rw", "x 1:1 r", "c 1:1 rr", "c 1:1", "c a:1 r"} {
		if _, err := parseRule(in); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
