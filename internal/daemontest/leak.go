package daemontest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/internal/lab"
)

// LeakCheck remembers how the host and the daemon are now, and fails the test if
// they are not the same after its cleanups. More watches may be added, such as
// d.Host.Flows(8080).
func (d *Daemon) LeakCheck(more ...lab.Watch) {
	d.t.Helper()
	lab.LeakCheck(d.t, append(d.Watches(), more...)...)
}

// Watches are what one test must leave as it found it.
func (d *Daemon) Watches() []lab.Watch {
	var ws []lab.Watch
	for _, h := range []*lab.Host{d.Host, d.Machine} {
		for _, w := range h.Watches() {
			if strings.HasSuffix(w.Name, " processes") {
				w = d.withoutNumbers(w)
			} else if strings.HasSuffix(w.Name, " nft") {
				w = withoutGuard(w)
			}
			ws = append(ws, w)
		}
	}
	ws = append(ws,
		d.withoutNumbers(lab.Processes(d.Dir)),
		lab.Mounts(d.Dir),
		lab.Watch{Name: "pinned namespaces", List: d.pins},
		lab.Watch{Name: "keeper's open files", List: d.keeperFiles},
		lab.Watch{Name: "containers", List: d.listed("/containers/json?all=1")},
		lab.Watch{Name: "volumes", List: d.listed("/volumes")},
		lab.Watch{Name: "networks", List: d.listed("/networks")},
	)
	return append(ws, d.containerd()...)
}

// Lasting are the watches that hold over restarts of the daemon with other flags:
// the host's and the machine's networks, mounts and pins.
func (d *Daemon) Lasting() []lab.Watch {
	ws := append(d.Host.Watches(), d.Machine.Watches()...)
	ws = append(ws, lab.Mounts(d.Dir), lab.Watch{Name: "pinned namespaces", List: d.pins})
	return slices.DeleteFunc(ws, func(w lab.Watch) bool { return strings.HasSuffix(w.Name, " processes") })
}

var guarded6 = regexp.MustCompile(`,?\s*ipv6 : goto drop_not_forwarded`)

// withoutGuard leaves out whom forwarding was turned on for: the first network with
// IPv6 turns it on for good.
func withoutGuard(w lab.Watch) lab.Watch {
	return lab.Watch{Name: w.Name, List: func() ([]string, error) {
		lines, err := w.List()
		for i, l := range lines {
			lines[i] = guarded6.ReplaceAllString(l, "")
		}
		return lines, err
	}}
}

var pidSuffix = regexp.MustCompile(` \(pid [0-9]+\)$`)

// withoutNumbers: a daemon that was restarted is the same one.
func (d *Daemon) withoutNumbers(w lab.Watch) lab.Watch {
	return lab.Watch{Name: w.Name, List: func() ([]string, error) {
		lines, err := w.List()
		var keep []string
		for _, l := range lines {
			// What looks at the daemon, or serves it, is not what it left behind.
			if l = pidSuffix.ReplaceAllString(l, ""); strings.HasPrefix(l, "docker ") || strings.Contains(l, "docker-registry") {
				continue
			}
			keep = append(keep, l)
		}
		return keep, err
	}}
}

// pins are namespaces that the daemon keeps below its own folders.
func (d *Daemon) pins() (lines []string, err error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); strings.Contains(l, " nsfs ") && strings.HasPrefix(f[4], d.Dir+"/") {
			lines = append(lines, f[4])
		}
	}
	return lines, nil
}

// keeperFiles counts the keeper's sockets and pipes by kind: a reserved port is
// a bound socket that ss does not show.
func (d *Daemon) keeperFiles() ([]string, error) {
	pid := d.KeeperPID()
	if pid == 0 {
		return nil, nil
	}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for _, l := range links {
		to, err := os.Readlink(l)
		if err != nil {
			continue
		}
		if to == "anon_inode:[eventpoll]" {
			continue // made once, when a port first sleeps, and kept
		} else if strings.HasPrefix(to, "anon_inode:") {
			count[to]++ // says of what kind
		} else if kind, _, ok := strings.Cut(to, ":["); ok {
			// Forwarded connections leave pipes in the Go runtime's pool for splice(2),
			// which its garbage collection empties in its own time. Stdio is FIFOs, with names.
			if kind != "pipe" {
				count[kind]++
			}
		} else if strings.HasPrefix(to, d.Dir) {
			count[to]++
		}
	}
	var lines []string
	for k, n := range count {
		lines = append(lines, fmt.Sprintf("%s: %d", k, n))
	}
	return lines, nil
}

// RemoveAll removes all containers, volumes and networks; a test whose subject is their
// removal does it itself.
func (d *Daemon) RemoveAll() {
	d.t.Helper()
	if d.PID() == 0 {
		d.Run()
	}
	if ids := strings.Fields(d.TryDocker("ps", "-aq").Stdout); len(ids) > 0 {
		d.Docker(append([]string{"rm", "-f", "-v"}, ids...)...)
	}
	if names := strings.Fields(d.TryDocker("volume", "ls", "-q").Stdout); len(names) > 0 {
		d.Docker(append([]string{"volume", "rm"}, names...)...)
	}
	// One by one: a template goes after the networks that were made from it.
	names := strings.Fields(d.TryDocker("network", "ls", "-q", "--filter", "type=custom").Stdout)
	for range 2 {
		names = slices.DeleteFunc(names, func(n string) bool { return d.TryDocker("network", "rm", n).Code == 0 })
	}
	if len(names) > 0 {
		d.Docker(append([]string{"network", "rm"}, names...)...)
	}
}

// KillAll ends everything of this daemon with SIGKILL, as a host does that loses its
// power: the daemon, the keeper, containerd, shims and containers.
func (d *Daemon) KillAll() {
	d.t.Helper()
	d.killed()
	_ = d.Wait(stopTime)
}

// killed kills what names the daemon's folder until there is none of it.
func (d *Daemon) killed() {
	for deadline := time.Now().Add(lab.Patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		all := d.processes()
		for _, p := range all {
			_ = unix.Kill(p.pid, unix.SIGKILL)
		}
		if len(all) == 0 {
			return
		}
	}
}

type proc struct {
	pid int
	cmd string
}

// processes that name the daemon's folder: itself, the keeper, containerd, shims.
func (d *Daemon) processes() (out []proc) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range dirs {
		b, err := os.ReadFile(filepath.Join(p, "cmdline"))
		pid, _ := strconv.Atoi(filepath.Base(p))
		if cmd := strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " ")); err == nil && pid != os.Getpid() && strings.Contains(cmd, d.Dir+"/") {
			out = append(out, proc{pid, cmd})
		}
	}
	return out
}

// end stops the daemon and takes away what lives on without it by design: the
// keeper, a private containerd, containers that were not removed, and their mounts.
func (d *Daemon) end() {
	d.t.Helper()
	if d.t.Failed() {
		defer func() { d.t.Logf("the daemon's log:\n%s", tail(d.Log(), 300)) }()
	}
	// A test that fails while it is cleaned up leaves nothing running all the same.
	defer d.takenAway()
	if d.PID() != 0 {
		if d.ping() == nil {
			d.RemoveAll()
		}
		d.Stop()
	}
}

// takenAway kills what is left, and removes mounts and folder.
func (d *Daemon) takenAway() {
	d.t.Helper()
	d.killed() // the docker commands of this test too
	b, _ := os.ReadFile("/proc/self/mountinfo")
	lines := strings.Split(string(b), "\n")
	for i := len(lines) - 1; i >= 0; i-- { // what lies on top comes later in the table
		if f := strings.Fields(lines[i]); len(f) > 4 && strings.HasPrefix(f[4], d.Dir+"/") {
			_ = unix.Unmount(f[4], unix.MNT_DETACH)
		}
	}
	if err := os.RemoveAll(d.Dir); err != nil {
		d.t.Errorf("the daemon's folder stays: %v", err)
	}
}

func tail(s string, n int) string {
	lines := strings.Split(s, "\n")
	if len(lines) > n {
		lines = append([]string{"…"}, lines[len(lines)-n:]...)
	}
	return strings.Join(lines, "\n")
}
