package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/netns"
)

// Addresses on the wire. Each engine has a wire of its own.
const (
	hostAddr  = "192.168.99.31"
	otherAddr = "192.168.99.50"
)

// world holds both engines.
type world struct {
	dir          string
	keep         bool
	ours, theirs *engine // theirs may be nil
	// What another engine of ours is started with.
	binary, archive, ctd string
	undo                 []func()
}

func newWorld(ctx context.Context, o options) (w *world, err error) {
	w = &world{keep: o.keep}
	defer func() {
		if err != nil {
			w.keep = true
			err = fmt.Errorf("%w (logs in %s)", err, w.dir)
			w.close()
		}
	}()
	if w.dir, err = os.MkdirTemp("", "linkspan-bench-"); err != nil {
		return w, err
	}
	archive, err := images(ctx, w.dir, "pause", "netprobe", "centos")
	if err != nil {
		return w, err
	}
	ctd, err := w.containerd(ctx)
	if err != nil {
		return w, err
	}
	binary := o.binary
	if binary == "" {
		binary = filepath.Join(w.dir, "linkspan.bin")
		if err := tool(ctx, "go", "build", "-buildvcs=false", "-o", binary, "./cmd/linkspan"); err != nil {
			return w, err
		}
	}
	w.binary, w.archive, w.ctd = binary, archive, ctd
	if w.ours, err = w.start(ctx, "linkspan", archive, nil, binary, "daemon", "--containerd", ctd); err != nil || o.dockerd == "none" {
		return w, err
	}
	if err := tool(ctx, "script/fetch-dockerd.sh", o.dockerd); err != nil {
		return w, err
	}
	bin := filepath.Join(o.dockerd, "bin")
	env := []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	w.theirs, err = w.start(ctx, "dockerd", archive, env, filepath.Join(bin, "dockerd"), "--containerd", ctd)
	return w, err
}

func (w *world) close() {
	for i := len(w.undo) - 1; i >= 0; i-- {
		w.undo[i]()
	}
	w.undo = nil
	for pid, cmd := range processesOf(w.dir) {
		fmt.Fprintf(os.Stderr, "bench: left behind, and killed: %d %s\n", pid, cmd)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	// Engines leave the folders mounted in which they pin namespaces and layers.
	for _, m := range mountsBelow(w.dir) {
		_ = unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	if w.keep {
		fmt.Fprintln(os.Stderr, "bench: logs are in", w.dir)
		return
	}
	if err := os.RemoveAll(w.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// processesOf finds what runs with a folder of ours in its command line: keepers,
// shims and proxies outlive their engines by design.
func processesOf(dir string) map[int]string {
	found := map[int]string{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		b, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if cmd := strings.ReplaceAll(string(b), "\x00", " "); dir != "" && strings.Contains(cmd, dir+"/") {
			found[pid] = cmd
		}
	}
	return found
}

// mountsBelow lists mount points, the last mounted first (proc(5), mountinfo).
func mountsBelow(dir string) (points []string) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || dir == "" {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			points = append(points, f[4])
		}
	}
	slices.Reverse(points)
	return points
}

// later registers what close undoes, last first.
func (w *world) later(f func()) { w.undo = append(w.undo, f) }

// tool runs a program of this tree to its end.
func tool(ctx context.Context, cmd ...string) error {
	c := exec.CommandContext(ctx, cmd[0], cmd[1:]...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd, " "), err, out)
	}
	return nil
}

// images writes an archive of test images, as `docker load` reads it. The tool is
// called, not imported: what is made for tests stays out of programs.
func images(ctx context.Context, dir string, names ...string) (string, error) {
	path := filepath.Join(dir, "images.tar")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	c := exec.CommandContext(ctx, "go", append([]string{"run", "./test/images/cmd/images", "tarball"}, names...)...)
	c.Stdout, c.Stderr = f, os.Stderr
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("test images: %w", err)
	}
	return path, nil
}

const containerdConfig = `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = %q
`

// containerd starts the one that both engines use.
func (w *world) containerd(ctx context.Context) (socket string, err error) {
	dir := filepath.Join(w.dir, "containerd")
	if err := os.Mkdir(dir, 0o711); err != nil {
		return "", err
	}
	socket = filepath.Join(dir, "containerd.sock")
	conf := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, containerdConfig, dir+"/root", dir+"/state", socket), 0o600); err != nil {
		return "", err
	}
	return socket, w.daemon(ctx, "containerd", socket, nil, "containerd", "--config", conf)
}

// daemon starts a program that listens on a socket and waits until it does.
func (w *world) daemon(ctx context.Context, name, socket string, env []string, cmd ...string) error {
	log, err := os.Create(filepath.Join(w.dir, name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	c := exec.Command(cmd[0], cmd[1:]...)
	c.Stdout, c.Stderr, c.Env = log, log, append(os.Environ(), env...)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _ = c.Wait(); close(ended) }()
	w.later(func() { stop(c.Process, ended) })
	for deadline := time.After(30 * time.Second); ; {
		if conn, err := net.Dial("unix", socket); err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			return fmt.Errorf("%s ended at its start: see %s", name, log.Name())
		case <-deadline:
			return fmt.Errorf("%s does not answer: see %s", name, log.Name())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func stop(p *os.Process, ended <-chan struct{}) {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		_ = p.Kill()
		<-ended
	}
}

// host makes a machine for an engine and another one at the other end of a wire.
func (w *world) host(name string) (host, other string, err error) {
	id := make([]byte, 3)
	rand.Read(id)
	host = "/run/netns/bench" + hex.EncodeToString(id) + "-" + name
	other = host + "-other"
	for _, ns := range []string{host, other} {
		if err := netns.Create(ns); err != nil {
			return "", "", err
		}
		w.later(func() { _ = netns.Remove(ns) })
	}
	a, b := filepath.Base(host), filepath.Base(other)
	return host, other, errors.Join(
		ip("-n", a, "link", "add", "wan0", "type", "veth", "peer", "name", "wan0", "netns", b),
		ip("-n", a, "addr", "add", hostAddr+"/24", "dev", "wan0"),
		ip("-n", b, "addr", "add", otherAddr+"/24", "dev", "wan0"),
		ip("-n", a, "link", "set", "wan0", "up"),
		ip("-n", b, "link", "set", "wan0", "up"))
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
