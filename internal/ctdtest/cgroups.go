package ctdtest

import (
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroupsOf are the cgroups of processes, with their parents: runc makes both
// and removes the inner one at best.
func cgroupsOf(pids []int) map[string]bool {
	found := map[string]bool{}
	for _, pid := range pids {
		b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
		for line := range strings.Lines(string(b)) {
			// ID:controllers:path (cgroups(7))
			if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 && f[2] != "/" {
				found[f[2]] = true
				found[path.Dir(f[2])] = true
			}
		}
	}
	return found
}

// removeCgroups removes those that are empty, in all hierarchies; the kernel
// refuses the others.
func removeCgroups(paths map[string]bool) {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 5 || !strings.Contains(line, " - cgroup") {
			continue
		}
		for range 2 { // children before parents
			for p := range paths {
				if p != "/" && p != "." {
					_ = os.Remove(filepath.Join(f[4], p))
				}
			}
		}
	}
}
