package doctor

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// limits are tables of the kernel that fill up, and what happens then is told by
// nobody but the kernel's log.
func (w *ward) limits(ctx context.Context) {
	if used, ok := w.sysctl("net/netfilter/nf_conntrack_count"); ok {
		most, _ := w.sysctl("net/netfilter/nf_conntrack_max")
		w.fill("conntrack-full", "connections that are tracked (nf_conntrack)", used, most,
			"When the table is full the kernel drops the first packet of each new connection, of containers and of the host.", "net.netfilter.nf_conntrack_max")
	}
	if w.kernel() {
		if all, err := w.World.Kernel.Neighbours(ctx, ""); err != nil {
			w.unseen("the neighbour table: %v", err)
		} else if most, ok := w.sysctl("net/ipv4/neigh/default/gc_thresh3"); ok {
			w.fill("neighbours-full", "neighbours (ARP)", len(all), most,
				"When the table is full, addresses are not resolved any more and connections hang (\"neighbour: arp_cache: neighbor table overflow!\").", "net.ipv4.neigh.default.gc_thresh3")
		}
	}
	if used, most, ok := w.files(); ok {
		w.fill("files-full", "open files of the machine", used, most, "Every published port, resolver and log is one.", "fs.file-max")
	}
	if used, ok := w.tasks(); ok {
		most, _ := w.sysctl("kernel/pid_max")
		w.fill("pids-full", "processes and threads", used, most, "When they are used up, nothing can be started, not even a shell.", "kernel.pid_max")
	}
	w.watches()
}

// fill judges how full a table is.
func (w *ward) fill(code, what string, used, most int, why, sysctl string) {
	if most <= 0 {
		return
	}
	p := percent(uint64(max(used, 0)), uint64(most))
	s := Warning
	switch {
	case p < 80:
		w.ok(strings.TrimSuffix(code, "-full"), "%s: %d of %d", what, used, most)
		return
	case p >= 95:
		s = Problem
	}
	w.say(s, code, fmt.Sprintf("%s: %d of %d, %d %% full", what, used, most, p), why, fmt.Sprintf("sysctl -w %s=%d", sysctl, most*2))
}

// files reads file-nr (proc_sys_fs(5)): allocated, free, most.
func (w *ward) files() (used, most int, ok bool) {
	f := strings.Fields(w.line("proc/sys/fs/file-nr"))
	if len(f) != 3 {
		return 0, 0, false
	}
	used, err := strconv.Atoi(f[0])
	most, err2 := strconv.Atoi(f[2])
	return used, most, err == nil && err2 == nil
}

// tasks reads loadavg (proc_loadavg(5)): its fourth field is "running/all".
func (w *ward) tasks() (n int, ok bool) {
	f := strings.Fields(w.line("proc/loadavg"))
	if len(f) < 4 {
		return 0, false
	}
	_, all, _ := strings.Cut(f[3], "/")
	n, err := strconv.Atoi(all)
	return n, err == nil
}

// watches: inotify's instances are few by default, and per user: all containers that
// run as root share root's.
func (w *ward) watches() {
	most, ok := w.sysctl("fs/inotify/max_user_instances")
	if !ok || !w.known() {
		return
	}
	running := 0
	for _, c := range w.World.Declared.Containers() {
		if c.PID != 0 {
			running++
		}
	}
	if running*2 > most {
		w.say(Warning, "inotify-few", fmt.Sprintf("fs.inotify.max_user_instances=%d, for %d running containers", most, running),
			"It counts per user, and all containers that run as root share it: programs that watch files fail with \"too many open files\".", "sysctl -w fs.inotify.max_user_instances=8192")
		return
	}
	w.ok("inotify", "inotify instances: %d for %d running containers", most, running)
}
