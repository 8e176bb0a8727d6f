package container

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A daemon that is killed while containerd makes a task for it leaves containerd
// to give that up: it ends the shim and clears the task's folder away, in its own
// time, and would take a new task of the same name along (containerd 1.6 has no
// lock between the two). So a start that was cut short is begun again only when
// nobody is at work on it any more.
const (
	quietTime = 200 * time.Millisecond // for which nobody was seen at work
	quietPoll = 50 * time.Millisecond
	// quietPatience is when a shim that belongs to no task is ended.
	quietPatience = 10 * time.Second
)

// quiet waits until no shim and no runtime is at work on a container.
func (e *Engine) quiet(ctx context.Context, id string) {
	begin, last := time.Now(), time.Now()
	for {
		pids := atWork("/proc", id)
		now := time.Now()
		switch {
		case len(pids) == 0 && now.Sub(last) >= quietTime:
			return
		case len(pids) > 0:
			last = now
			if _, err := e.ctd.process(ctx, id, ""); err == nil {
				return // a task like any other
			}
			if now.Sub(begin) > quietPatience {
				e.log.Warn("a shim that belongs to no task is ended", "container", id, "pids", pids)
				for _, p := range pids {
					_ = syscall.Kill(p, syscall.SIGKILL)
				}
				begin = now
			}
		}
		select {
		case <-time.After(quietPoll):
		case <-ctx.Done():
			return
		}
	}
}

// atWork finds the shims and runtimes that were started for a container.
func atWork(proc, id string) (pids []int) {
	dirs, _ := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	for _, d := range dirs {
		b, err := os.ReadFile(filepath.Join(d, "cmdline"))
		if err != nil || !bytes.Contains(b, []byte(id)) {
			continue
		}
		program, _, _ := strings.Cut(string(b), "\x00")
		if !slices.ContainsFunc([]string{"containerd-shim", "runc", "crun"}, func(p string) bool { return strings.HasPrefix(filepath.Base(program), p) }) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(d)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
