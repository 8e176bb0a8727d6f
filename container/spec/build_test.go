package spec

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	"linkspan/internal/golden"

	apicontainer "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"linkspan/cnm"
)

// caps is a kernel's list, short enough to read in a golden file.
var caps = append(DefaultCaps(), "CAP_NET_ADMIN", "CAP_SYS_ADMIN")

func plain() *Input {
	return &Input{
		ID:         "0123456789ab",
		Host:       Host{Caps: caps},
		Config:     &apicontainer.Config{Env: []string{"A=1"}, WorkingDir: "/srv"},
		HostConfig: &apicontainer.HostConfig{ShmSize: 64 << 20},
		Args:       []string{"/bin/sh", "-c", "true"},
		Hostname:   "0123456789ab",
		NetNS:      "/run/linkspan/netns/sb1",
		Files: []Mount{
			{Source: "/data/c/resolv.conf", Destination: "/etc/resolv.conf"},
			{Source: "/data/c/hostname", Destination: "/etc/hostname"},
			{Source: "/data/c/hosts", Destination: "/etc/hosts"},
		},
		CgroupsPath: "/linkspan/0123456789ab",
		// The default profile is 400 system calls long: see TestSeccomp.
		Security: Security{Seccomp: Unconfined},
	}
}

func TestGolden(t *testing.T) {
	for name, change := range map[string]func(*Input){
		"plain": func(*Input) {},
		"tty": func(in *Input) {
			in.Config.Tty = true
			in.HostConfig.ConsoleSize = [2]uint{24, 80}
			in.Config.Env = []string{"TERM=dumb", "PATH=/bin"}
		},
		"privileged": func(in *Input) {
			in.HostConfig.Privileged = true
			in.Host.Devices = []specs.LinuxDevice{{Path: "/dev/kvm", Type: "c", Major: 10, Minor: 232}}
		},
		"limits": func(in *Input) {
			r := &in.HostConfig.Resources
			r.Memory, r.MemorySwap, r.NanoCPUs, r.CPUShares = 64<<20, 128<<20, 1_500_000_000, 512
			r.CpusetCpus = "0-1"
			r.PidsLimit, r.MemorySwappiness = ptr(int64(100)), ptr(int64(-1))
			in.HostConfig.OomScoreAdj = -500
			in.Ulimits = []*apicontainer.Ulimit{{Name: "nofile", Soft: 1024, Hard: 2048}}
		},
		"mounts": func(in *Input) {
			in.Host.RecursiveRO = true
			in.HostConfig.ReadonlyRootfs = true
			in.Mounts = []Mount{
				{Type: "bind", Source: "/h/deep", Destination: "/a/b/c", ReadOnly: true},
				{Type: "bind", Source: "/h/a", Destination: "/a", Propagation: "rshared"},
				{Type: "bind", Source: "/h/one", Destination: "/one", ReadOnly: true, NonRecursive: true},
				{Type: "bind", Source: "/h/top", Destination: "/top", ReadOnly: true, ROTopOnly: true},
				{Type: "tmpfs", Destination: "/tmp", Options: []string{"noexec", "size=1m"}},
				{Type: "bind", Source: "/h/hosts", Destination: "/etc/hosts"},
				{Type: "bind", Source: "/h/shm", Destination: "/dev/shm"},
			}
		},
		"slave": func(in *Input) {
			in.Mounts = []Mount{{Type: "bind", Source: "/h", Destination: "/h", Propagation: "rslave"}}
		},
		"shared": func(in *Input) {
			in.HostConfig.IpcMode, in.HostConfig.PidMode, in.HostConfig.UTSMode = "host", "host", "host"
			in.HostConfig.CgroupnsMode = "private"
		},
		"joined": func(in *Input) {
			in.PidNS, in.IpcNS, in.ShmSource = "/proc/7/ns/pid", "/proc/7/ns/ipc", "/run/linkspan/shm/7"
			in.HostConfig.IpcMode, in.HostConfig.PidMode = "container:x", "container:x"
			in.HostConfig.GroupAdd = []string{"5"}
			in.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{5}}
		},
		"names": func(in *Input) {
			in.Hostname, in.Domainname = "db", "example.org"
			in.HostConfig.Sysctls = map[string]string{"kernel.shmmax": "1", "net.core.somaxconn": "9"}
			in.HostConfig.Annotations = map[string]string{"k": "v"}
			in.HostConfig.MaskedPaths, in.HostConfig.ReadonlyPaths = []string{}, []string{"/proc/bus"}
			in.Host.CgroupV2 = true
			in.HostConfig.IpcMode = "none"
		},
		"caps": func(in *Input) {
			in.HostConfig.CapAdd, in.HostConfig.CapDrop = []string{"net_admin"}, []string{"CAP_MKNOD", "chown"}
			in.Security.NoNewPrivileges = true
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := plain()
			change(in)
			s, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, name, s)
		})
	}
}

func TestExecGolden(t *testing.T) {
	in := plain()
	in.Config.Env = []string{"A=1", "B=2"}
	in.Ulimits = []*apicontainer.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}
	for name, e := range map[string]*Exec{
		"exec":     {Args: []string{"id"}},
		"exec-tty": {Args: []string{"bash"}, Env: []string{"B=3", "A"}, Cwd: "/tmp", Tty: true, Privileged: true, Size: &[2]uint{10, 20}, User: specs.User{UID: 33}},
	} {
		p, err := ExecProcess(in, e)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, name, p)
	}
}

func compare(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, filepath.Join("testdata", name+".json"), string(got)+"\n")
}

func TestSeccomp(t *testing.T) {
	build := func(change func(*Input)) (*specs.LinuxSeccomp, error) {
		in := plain()
		in.Security.Seccomp = ""
		change(in)
		s, err := Build(in)
		if err != nil {
			return nil, err
		}
		return s.Linux.Seccomp, nil
	}
	allows := func(p *specs.LinuxSeccomp, call string) bool {
		for _, s := range p.Syscalls {
			for _, n := range s.Names {
				if n == call && s.Action == specs.ActAllow && len(s.Args) == 0 {
					return true
				}
			}
		}
		return false
	}
	p, err := build(func(*Input) {})
	if err != nil {
		t.Fatal(err)
	}
	if p == nil || p.DefaultAction != specs.ActErrno || !allows(p, "read") || allows(p, "mount") {
		t.Error("the default profile must allow read and refuse mount")
	}
	// What a capability gives, the profile must not take.
	if p, _ = build(func(in *Input) { in.HostConfig.CapAdd = []string{"SYS_ADMIN"} }); !allows(p, "mount") {
		t.Error("CAP_SYS_ADMIN must allow mount")
	}
	if p, _ = build(func(in *Input) { in.HostConfig.Privileged = true }); p != nil {
		t.Error("privileged containers have no profile")
	}
	if p, _ = build(func(in *Input) {
		in.Security.Seccomp = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}`
	}); p == nil || p.DefaultAction != specs.ActAllow || len(p.Syscalls) != 1 {
		t.Errorf("own profile: %+v", p)
	}
	if _, err = build(func(in *Input) { in.Security.Seccomp = `[1]` }); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("broken profile: %v", err)
	}
}
