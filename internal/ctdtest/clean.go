package ctdtest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"golang.org/x/sys/unix"
)

// onLastingThread runs f on a thread that never returns to Go's pool before the
// process ends.
func onLastingThread(f func() error) error {
	err := make(chan error)
	go func() {
		runtime.LockOSThread()
		err <- f()
		select {}
	}()
	return <-err
}

// runcRoot is where containerd's shim has runc keep its state, for all
// containerds of the host.
const runcRoot = "/run/containerd/runc"

// cleanup removes what the test left: first politely through containerd, then
// by what the host shows.
func (s *Server) cleanup() {
	s.mu.Lock()
	running := s.cmd != nil
	s.mu.Unlock()
	shims, below := processes(s.Address)
	cgroups := cgroupsOf(below)
	var spaces []string
	if running {
		spaces = s.deleteTasks()
	}
	s.Stop()
	bundles, _ := filepath.Glob(filepath.Join(s.Dir, "state", "io.containerd.runtime.v2.task", "*"))
	for _, b := range bundles {
		spaces = append(spaces, filepath.Base(b))
	}
	sockets, runcDirs := s.leftovers()
	end(append(shims, below...))
	for _, p := range sockets {
		_ = os.Remove(p)
	}
	for _, p := range runcDirs {
		_ = os.RemoveAll(p)
	}
	for _, ns := range spaces {
		cgroups["/"+ns] = true // where runc puts containers of that namespace
		if ns != Namespace {
			_ = os.Remove(filepath.Join(runcRoot, ns))
		}
	}
	// Other tests may be about to use what is in the shared namespace.
	delete(cgroups, "/"+Namespace)
	removeCgroups(cgroups)
	unmountUnder(s.Dir)
	if err := os.RemoveAll(s.Dir); err != nil {
		s.tb.Errorf("the private containerd's folder stays: %v", err)
	}
}

// deleteTasks returns the namespaces there were.
func (s *Server) deleteTasks() (namespaceNames []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client.New(s.Address, client.WithTimeout(2*time.Second))
	if err != nil {
		return nil
	}
	defer c.Close()
	spaces, err := c.NamespaceService().List(ctx)
	if err != nil {
		return nil
	}
	for _, ns := range spaces {
		ctx := namespaces.WithNamespace(ctx, ns)
		containers, _ := c.Containers(ctx)
		for _, ctr := range containers {
			if task, err := ctr.Task(ctx, nil); err == nil {
				_, _ = task.Delete(ctx, client.WithProcessKill)
			}
			_ = ctr.Delete(ctx)
		}
	}
	return spaces
}

// leftovers reads the sockets and runc folders of tasks that are still there:
// each bundle names its shim's socket, which lies in a folder that all
// containerds of the host share.
func (s *Server) leftovers() (sockets, runcDirs []string) {
	bundles, _ := filepath.Glob(filepath.Join(s.Dir, "state", "io.containerd.runtime.v2.task", "*", "*"))
	for _, b := range bundles {
		if addr, err := os.ReadFile(filepath.Join(b, "address")); err == nil {
			if p, ok := strings.CutPrefix(strings.TrimSpace(string(addr)), "unix://"); ok {
				sockets = append(sockets, p)
			}
		}
		ns := filepath.Base(filepath.Dir(b))
		runcDirs = append(runcDirs, filepath.Join(runcRoot, ns, filepath.Base(b)))
	}
	return sockets, runcDirs
}

// processes are the shims that serve the containerd at address, known by their
// command line, which names it, and what runs below them.
func processes(address string) (shims, below []int) {
	children := map[int][]int{}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		pid, _ := strconv.Atoi(filepath.Base(p))
		if stat, err := os.ReadFile(filepath.Join(p, "stat")); err == nil {
			if f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); len(f) > 1 {
				ppid, _ := strconv.Atoi(f[1])
				children[ppid] = append(children[ppid], pid)
			}
		}
		cmd, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		args := strings.Split(string(cmd), "\x00")
		if !strings.HasPrefix(filepath.Base(args[0]), "containerd-shim") {
			continue
		}
		for i, a := range args[:len(args)-1] {
			if a == "-address" && args[i+1] == address {
				shims = append(shims, pid)
			}
		}
	}
	for next := slices.Clone(shims); len(next) > 0; {
		below = append(below, children[next[0]]...)
		next = append(next[1:], children[next[0]]...)
	}
	return shims, below
}

// end kills processes and waits until they are gone.
func end(pids []int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, pid := range pids {
		for range 200 {
			if syscall.Kill(pid, 0) != nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// unmountUnder detaches all mounts below dir, the deepest first.
func unmountUnder(dir string) {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	lines := strings.Split(string(b), "\n")
	// The table lists a mount after what it lies on.
	for i := len(lines) - 1; i >= 0; i-- {
		if f := strings.Fields(lines[i]); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			_ = unix.Unmount(f[4], unix.MNT_DETACH)
		}
	}
}
