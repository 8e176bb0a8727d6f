package spec

import (
	"path"
	"slices"
	"strconv"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// systemMounts are the kernel's own file systems that every container has.
func systemMounts(in *Input) []specs.Mount {
	ms := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		// Of whatever IPC namespace the container is in, the host's included.
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
	}
	if shm, ok := shmMount(in, in.HostConfig.IpcMode); ok {
		ms = append(ms, shm)
	}
	if in.HostConfig.Privileged {
		for i := range ms {
			if d := ms[i].Destination; d == "/sys" || d == "/sys/fs/cgroup" {
				ms[i].Options = slices.DeleteFunc(ms[i].Options, func(o string) bool { return o == "ro" })
			}
		}
	}
	return ms
}

func shmMount(in *Input, ipc apicontainer.IpcMode) (specs.Mount, bool) {
	switch {
	case ipc.IsNone():
		return specs.Mount{}, false
	case in.ShmSource != "":
		return specs.Mount{Destination: "/dev/shm", Type: "bind", Source: in.ShmSource, Options: []string{"rbind", "rprivate"}}, true
	case ipc.IsHost():
		return specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "rprivate"}}, true
	}
	return specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(in.HostConfig.ShmSize, 10)}}, true
}

// mounts merges the system's, the engine's and the user's, where the later one
// wins a place, and orders them so that a parent is mounted before its child.
func mounts(in *Input) (ms []specs.Mount, rootPropagation string) {
	user := map[string]bool{}
	for _, m := range in.Mounts {
		user[path.Clean(m.Destination)] = true
	}
	for _, m := range systemMounts(in) {
		// With a /dev of the user's own, the things below ours would hide it.
		if user[m.Destination] || user["/dev"] && strings.HasPrefix(m.Destination, "/dev/") {
			continue
		}
		if in.HostConfig.ReadonlyRootfs && !inDev(m.Destination) && !slices.Contains(m.Options, "ro") {
			m.Options = append(m.Options, "ro")
		}
		ms = append(ms, m)
	}
	for _, f := range in.Files {
		if !user[f.Destination] {
			ms = append(ms, bind(in, f))
		}
	}
	for _, m := range in.Mounts {
		switch m.Type {
		case "tmpfs":
			ms = append(ms, specs.Mount{Destination: m.Destination, Type: "tmpfs", Source: "tmpfs", Options: m.Options})
		default:
			ms = append(ms, bind(in, m))
			rootPropagation = widest(rootPropagation, m.Propagation)
		}
	}
	slices.SortStableFunc(ms, func(a, b specs.Mount) int { return depth(a.Destination) - depth(b.Destination) })
	return ms, rootPropagation
}

// inDev: what must stay writable for programs to run at all on a read-only root.
func inDev(d string) bool {
	return d == "/proc" || d == "/dev" || strings.HasPrefix(d, "/dev/")
}

func bind(in *Input, m Mount) specs.Mount {
	o := []string{"rbind"}
	if m.NonRecursive {
		o[0] = "bind"
	}
	if m.ReadOnly {
		if in.Host.RecursiveRO && !m.NonRecursive && !m.ROTopOnly {
			o = append(o, "rro")
		} else {
			o = append(o, "ro")
		}
	}
	p := m.Propagation
	if p == "" {
		p = "rprivate"
	}
	return specs.Mount{Destination: m.Destination, Type: "bind", Source: m.Source, Options: append(o, p)}
}

// widest returns the propagation that the root needs so that mounts on a
// shared or slave bind travel at all.
func widest(root, p string) string {
	switch p {
	case "shared", "rshared":
		return "shared"
	case "slave", "rslave":
		if root == "" {
			return "rslave"
		}
	}
	return root
}

func depth(p string) int {
	p = path.Clean(p)
	if p == "/" {
		return 0
	}
	return strings.Count(p, "/")
}
