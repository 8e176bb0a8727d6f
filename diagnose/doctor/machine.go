package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// disks of the data root and the exec root.
func (w *ward) disks(context.Context) {
	const gib = 1 << 30
	for _, d := range w.Machine.Disks {
		free := percent(d.Free, d.Total)
		switch {
		case d.Err != nil:
			w.unseen("the disk of %s: %v", d.Path, d.Err)
		case d.ReadOnly:
			w.say(Problem, "disk-readonly", fmt.Sprintf("the file system of %s is mounted read-only", d.Path),
				"Nothing can be created or changed; what runs goes on. Linux does this after errors of the disk: look at dmesg.", "mount -o remount,rw "+d.Path)
		case d.Total > 0 && (free < 1 || d.Free < 64<<20):
			w.say(Problem, "disk-full", fmt.Sprintf("%s: %s of %s free", d.Path, size(d.Free), size(d.Total)), "Changes are refused, and logs are not written.", "linkspan system prune")
		case d.Total > 0 && free < 5 && d.Free < 10*gib:
			w.say(Warning, "disk-full", fmt.Sprintf("%s: %s of %s free", d.Path, size(d.Free), size(d.Total)), "When it is full, changes are refused, and logs are not written.", "linkspan system prune")
		case d.Inodes > 0 && percent(d.Left, d.Inodes) < 3:
			w.say(Warning, "disk-inodes", fmt.Sprintf("%s: %d of %d inodes left", d.Path, d.Left, d.Inodes), "Without inodes no file can be made, however much space there is.", "linkspan system prune")
		default:
			w.ok("disk", "%s: %s of %s free", d.Path, size(d.Free), size(d.Total))
		}
	}
}

// logs without a bound fill disks.
func (w *ward) logs(context.Context) {
	if w.Engine == nil {
		return
	}
	var sum uint64
	open := 0
	big := Log{}
	for _, l := range w.Engine.Logs {
		sum += l.Bytes
		if !l.Bounded {
			open++
			if l.Bytes >= big.Bytes {
				big = l
			}
		}
	}
	const bound = `set "log-opts": {"max-size": "50m", "max-file": "3"} in /etc/linkspan/daemon.json; it holds for containers made after it`
	switch {
	case big.Bytes > 1<<30:
		w.say(Warning, "log-large", fmt.Sprintf("the log of container %s has %s and no bound (all logs: %s)", big.Container, size(big.Bytes), size(sum)), "It grows until the disk is full.", bound)
	case open > 0:
		w.say(Note, "log-unbounded", fmt.Sprintf("the logs of %d containers have no bound (all logs: %s)", open, size(sum)), "They grow until the disk is full; that is Docker's default.", bound)
	case len(w.Engine.Logs) > 0:
		w.ok("logs", "the logs of all containers are bounded (all: %s)", size(sum))
	}
}

// clock: certificates, logs and the age of leases depend on it.
func (w *ward) clock(context.Context) {
	now := w.Machine.Now
	if now.IsZero() {
		return
	}
	if w.Engine != nil {
		db := strings.TrimPrefix(w.Engine.DataRoot, "/") + "/linkspan.db"
		if st, err := fs.Stat(w.Host, db); err == nil && st.ModTime().Sub(now) > time.Minute {
			w.say(Warning, "clock-back", fmt.Sprintf("the clock says %s, and the state file was written at %s", now.Format(time.DateTime), st.ModTime().Format(time.DateTime)),
				"Certificates of registries may not be valid yet, and ages in `linkspan ps` are wrong.", "timedatectl set-ntp true")
			return
		}
	}
	switch {
	case now.Year() < 2025:
		w.say(Problem, "clock-wrong", "the clock says "+now.Format(time.DateTime), "Certificates of registries are not valid yet: pulls fail.", "timedatectl set-ntp true")
	case w.Machine.Unsynchronised:
		w.say(Note, "clock-free", "nothing keeps the clock right (the kernel calls it unsynchronised)", "It drifts by seconds a day. In a virtual machine or container, the host may keep it.", "timedatectl set-ntp true")
	default:
		w.ok("clock", "the clock is synchronised")
	}
}

// cgroups: which hierarchy, and whether limits can be set.
func (w *ward) cgroups(context.Context) {
	if ctrl := w.line("sys/fs/cgroup/cgroup.controllers"); ctrl != "" {
		w.lacking("cgroup v2", strings.Fields(ctrl))
		return
	}
	dirs, err := fs.ReadDir(w.Host, "sys/fs/cgroup")
	if err != nil || len(dirs) == 0 {
		w.say(Problem, "cgroup-none", "no cgroups are mounted at /sys/fs/cgroup", "Containers cannot be started.", "mount -t cgroup2 none /sys/fs/cgroup")
		return
	}
	var have []string
	for _, d := range dirs {
		have = append(have, strings.Split(d.Name(), ",")...)
	}
	kind := "cgroup v1"
	if w.exists("sys/fs/cgroup/unified") {
		kind = "cgroup v1 with a v2 tree beside it (hybrid)"
	}
	w.lacking(kind, have)
}

func (w *ward) lacking(kind string, have []string) {
	var missing []string
	for _, c := range []string{"cpu", "memory", "pids"} {
		if !strings.Contains(" "+strings.Join(have, " ")+" ", " "+c+" ") {
			missing = append(missing, c)
		}
	}
	if len(missing) > 0 {
		w.say(Warning, "cgroup-controllers", fmt.Sprintf("%s without %s", kind, names(missing)), "Limits of that kind are not kept (docker run --memory, --cpus, --pids-limit).", "boot with cgroup_enable="+missing[0])
		return
	}
	w.ok("cgroups", "%s, with cpu, memory and pids", kind)
}
