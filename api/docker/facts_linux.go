package docker

import (
	"bufio"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// HostFacts reads the facts that belong to the host: kernel, distribution, CPUs,
// memory and what its cgroups can limit. The daemon adds its own.
func HostFacts() Facts {
	f := Facts{NCPU: runtime.NumCPU(), Arch: runtime.GOARCH, OperatingSystem: "Linux"}
	f.Name, _ = os.Hostname()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.KernelVersion = unix.ByteSliceToString(u.Release[:])
		f.Arch = unix.ByteSliceToString(u.Machine[:])
	}
	release := osRelease("/etc/os-release")
	if release == nil {
		release = osRelease("/usr/lib/os-release")
	}
	if n := release["PRETTY_NAME"]; n != "" {
		f.OperatingSystem = n
	}
	f.OSVersion = release["VERSION_ID"]
	f.MemTotal = memTotal("/proc/meminfo")
	f.cgroups("/sys/fs/cgroup")
	f.IPv4Forwarding = isOne("/proc/sys/net/ipv4/ip_forward")
	f.BridgeNfIptables = isOne("/proc/sys/net/bridge/bridge-nf-call-iptables")
	f.BridgeNfIP6tables = isOne("/proc/sys/net/bridge/bridge-nf-call-ip6tables")
	return f
}

// cgroups looks for the controllers. Version 2 is where the unified hierarchy
// has the root (cgroups(7)); hybrid hosts use version 1's controllers.
func (f *Facts) cgroups(root string) {
	f.CgroupDriver = "cgroupfs"
	exists := func(p string) bool { _, err := os.Stat(filepath.Join(root, p)); return err == nil }
	if b, err := os.ReadFile(filepath.Join(root, "cgroup.controllers")); err == nil {
		f.CgroupVersion = "2"
		has := map[string]bool{}
		for _, c := range strings.Fields(string(b)) {
			has[c] = true
		}
		f.MemoryLimit, f.SwapLimit = has["memory"], has["memory"]
		f.CPUShares, f.CPUCfs, f.CPUSet, f.PidsLimit = has["cpu"], has["cpu"], has["cpuset"], has["pids"]
		return
	}
	f.CgroupVersion = "1"
	f.MemoryLimit = exists("memory/memory.limit_in_bytes")
	f.SwapLimit = exists("memory/memory.memsw.limit_in_bytes")
	f.OomKillDisable = exists("memory/memory.oom_control")
	f.CPUShares = exists("cpu/cpu.shares")
	f.CPUCfs = exists("cpu/cpu.cfs_quota_us")
	f.CPUSet = exists("cpuset/cpuset.cpus")
	f.PidsLimit = exists("pids")
}

// osRelease parses os-release(5): shell assignments, values perhaps quoted.
func osRelease(path string) map[string]string {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	m := map[string]string{}
	for sc := bufio.NewScanner(file); sc.Scan(); {
		if k, v, ok := strings.Cut(strings.TrimSpace(sc.Text()), "="); ok {
			m[k] = strings.Trim(v, `"'`)
		}
	}
	return m
}

func memTotal(path string) int64 {
	file, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer file.Close()
	for sc := bufio.NewScanner(file); sc.Scan(); {
		if f := strings.Fields(sc.Text()); len(f) >= 2 && f[0] == "MemTotal:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}

func isOne(path string) bool {
	b, err := os.ReadFile(path)
	return err == nil && strings.TrimSpace(string(b)) == "1"
}
