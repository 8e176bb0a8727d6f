package doctor

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Here asks the machine itself. folders are those whose disks matter.
func Here(ctx context.Context, folders ...string) Machine {
	m := Machine{Now: time.Now()}
	var t unix.Timex
	if state, err := unix.Adjtimex(&t); err == nil { // mode 0: it is only read
		m.Unsynchronised = state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0
	}
	m.Namespace, _ = os.Readlink("/proc/self/ns/net")
	for _, f := range folders {
		m.Disks = append(m.Disks, disk(f))
	}
	m.Legacy = legacy(ctx)
	return m
}

// disk asks for the folder, or the nearest above it that is there.
func disk(path string) Disk {
	d := Disk{Path: path}
	for at := path; ; at = filepath.Dir(at) {
		var s unix.Statfs_t
		err := unix.Statfs(at, &s)
		if errors.Is(err, fs.ErrNotExist) && at != "/" {
			continue
		}
		if d.Err = err; err == nil {
			size := uint64(s.Bsize)
			d.Total, d.Free = s.Blocks*size, s.Bfree*size
			d.Inodes, d.Left = s.Files, s.Ffree
			d.ReadOnly = s.Flags&unix.ST_RDONLY != 0
		}
		return d
	}
}

// legacy reads the older iptables' FORWARD chain, if that table is in use: to ask for
// one that is not would make it.
func legacy(ctx context.Context) string {
	names, err := os.ReadFile("/proc/net/ip_tables_names")
	if err != nil || !bytes.Contains(names, []byte("filter")) {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, program := range []string{"iptables-legacy", "iptables"} {
		out, err := exec.CommandContext(ctx, program, "-S", "FORWARD").Output()
		if err == nil {
			return strings.TrimSpace(string(out))
		}
	}
	return "unreadable"
}
