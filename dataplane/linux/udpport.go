package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// portTaken says who holds the UDP port of a VXLAN device that cannot come up: it opens
// its socket then (vxlan_open), and shares it with devices of the same kind only.
func (k *Kernel) portTaken(l *link, err error) error {
	if l.vxlan == nil || !errors.Is(err, unix.EADDRINUSE) {
		return err
	}
	p := l.vxlan.port
	return cnm.Conflict("UDP port %d, by which %s reaches the other hosts, is held by %s: stop that, or give the mesh's VXLAN another port on all hosts: %w",
		p, l.name, k.portHolder(p, l.index), err)
}

// portHolder finds who it is, as well as it can be told.
func (k *Kernel) portHolder(port uint16, not int) string {
	inode, bound := "", false
	_ = k.inHost(func() error {
		for _, f := range []string{"udp", "udp6"} {
			if n, ok := boundSocket(f, port); ok {
				inode, bound = n, true
			}
		}
		return nil
	})
	if bound {
		if who := socketOwner(inode); who != "" {
			return who
		}
	}
	all, err := k.rt.links()
	for _, l := range all {
		if err == nil && l.index != not && l.vxlan != nil && l.vxlan.port == port && l.up() {
			return fmt.Sprintf("the VXLAN device %s (%s), whose kind of VXLAN is another", l.name, l.what())
		}
	}
	return "a tunnel of another kind in the kernel (ip -d link), or a process that cannot be seen from here"
}

// boundSocket looks a port up in /proc/thread-self/net (proc_pid_net(5)); sockets of the
// kernel's own have an inode there too, which no process has open.
func boundSocket(file string, port uint16) (inode string, ok bool) {
	b, err := os.ReadFile("/proc/thread-self/net/" + file)
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		_, hex, _ := strings.Cut(f[1], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil && uint16(n) == port {
			return f[9], true
		}
	}
	return "", false
}

// socketOwner looks for the process that has it open.
func socketOwner(inode string) string {
	want := "socket:[" + inode + "]"
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != want {
			continue
		}
		proc := filepath.Dir(filepath.Dir(fd))
		name, _ := os.ReadFile(filepath.Join(proc, "comm"))
		return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), filepath.Base(proc))
	}
	return ""
}
