package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Here asks the machine itself. folders are those whose disks matter.
func Here(folders ...string) Machine {
	m := Machine{Now: time.Now()}
	var t unix.Timex
	if state, err := unix.Adjtimex(&t); err == nil { // mode 0: it is only read
		m.Unsynchronised = state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0
	}
	m.Namespace, _ = os.Readlink("/proc/self/ns/net")
	for _, f := range folders {
		m.Disks = append(m.Disks, disk(f))
	}
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
