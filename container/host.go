package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/pkg/cap"
	"golang.org/x/sys/unix"

	"linkspan/container/spec"
)

// hostFacts finds out by trying what this host can do.
func hostFacts() (spec.Host, error) {
	h := spec.Host{CgroupV2: cgroupV2(), RecursiveRO: recursiveRO()}
	var err error
	h.Caps, err = boundingCaps()
	return h, err
}

// cgroupV2: the unified hierarchy alone, no controller of the first version.
func cgroupV2() bool {
	var s unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &s) == nil && s.Type == unix.CGROUP2_SUPER_MAGIC
}

// boundingCaps are the kernel's capabilities that this process may hand on: a
// runtime that is asked for another one fails.
func boundingCaps() ([]string, error) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sets, err := cap.ParseProcPIDStatus(f)
	if err != nil {
		return nil, fmt.Errorf("the daemon's capabilities: %w", err)
	}
	names, _ := cap.FromBitmap(sets[cap.Bounding])
	return names, nil
}

// recursiveRO tries mount_setattr(2) with nothing to set.
func recursiveRO() bool {
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	return errors.Is(err, unix.EBADF)
}

// cgroupFacts are the limits that this kernel's cgroups take.
type cgroupFacts struct {
	memory, swap, cpu, cpuset, pids bool
	cpus, mems                      string // online, as in cpuset(7): "0-3,8"
}

func readCgroupFacts(v2 bool) (f cgroupFacts) {
	const root = "/sys/fs/cgroup"
	there := func(p ...string) bool {
		_, err := os.Stat(filepath.Join(append([]string{root}, p...)...))
		return err == nil
	}
	if v2 {
		b, _ := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
		c := strings.Fields(string(b))
		has := func(n string) bool { return slices.Contains(c, n) }
		f.memory, f.cpu, f.cpuset, f.pids = has("memory"), has("cpu"), has("cpuset"), has("pids")
		// The root has no limits; whether a child has one for swap shows in /proc.
		_, err := os.Stat("/proc/swaps")
		f.swap = f.memory && err == nil
		f.cpus, f.mems = readTrim(root+"/cpuset.cpus.effective"), readTrim(root+"/cpuset.mems.effective")
		return f
	}
	f.memory, f.swap = there("memory", "memory.limit_in_bytes"), there("memory", "memory.memsw.limit_in_bytes")
	f.cpu = there("cpu", "cpu.cfs_quota_us")
	f.cpuset, f.pids = there("cpuset", "cpuset.cpus"), there("pids")
	f.cpus, f.mems = readTrim(root+"/cpuset/cpuset.cpus"), readTrim(root+"/cpuset/cpuset.mems")
	return f
}

func readTrim(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

// removeCgroupParent removes the group of all containers if it is empty: the
// kernel refuses it otherwise.
func (e *Engine) removeCgroupParent() {
	dirs := []string{"/sys/fs/cgroup"}
	if !e.host.CgroupV2 {
		dirs, _ = filepath.Glob("/sys/fs/cgroup/*")
	}
	for _, d := range dirs {
		_ = e.step("cgroup.remove", func() error { return unix.Rmdir(filepath.Join(d, e.cfg.Defaults.CgroupParent)) })
	}
}
