package bolt

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"linkspan/cnm"
)

// lockedError names the process that has the file, if it can be found.
func lockedError(path string) error {
	pid, command := holder(path)
	who := "another process"
	if pid > 0 {
		who = fmt.Sprintf("process %d (%s)", pid, command)
	}
	return cnm.Errorf(cnm.ErrConflict, "data root %s is used by %s; stop it, or give this daemon another --data-root",
		filepath.Dir(path), who)
}

// holder finds the process that has the file open and locked. /proc/PID/fdinfo
// shows the locks of a descriptor (proc(5)); unlike /proc/locks it needs no
// device number, which differs from stat's on btrfs and overlayfs.
func holder(path string) (pid int, command string) {
	want, err := os.Stat(path)
	if err != nil {
		return 0, ""
	}
	procs, _ := os.ReadDir("/proc")
	for _, proc := range procs {
		pid, err := strconv.Atoi(proc.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", proc.Name())
		fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
		for _, fd := range fds {
			link := filepath.Join(dir, "fd", fd.Name())
			// The name first: stat of a descriptor on a dead file server would hang.
			if target, err := os.Readlink(link); err != nil || filepath.Base(target) != filepath.Base(path) {
				continue
			}
			info, err := os.Stat(link)
			if err != nil || !os.SameFile(info, want) {
				continue
			}
			if text, err := os.ReadFile(filepath.Join(dir, "fdinfo", fd.Name())); err != nil || !bytes.Contains(text, []byte("FLOCK")) {
				continue
			}
			comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
			return pid, string(bytes.TrimSpace(comm))
		}
	}
	return 0, ""
}
