// Package daemontest runs a real Linkspan daemon for tests: on a host that is a
// network namespace, beside another machine on a wire, with the test images' registry
// on the host's loopback and a data root of its own. What a test leaves behind, in the
// kernel or in containerd, fails the test.
//
// A package whose tests can share one daemon calls Main in TestMain and Shared in
// each test (not parallel to each other); a test that kills or configures its
// daemon calls Start.
package daemontest

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/containerd"
	"linkspan/internal/ctdtest"
	"linkspan/internal/lab"
	"linkspan/probe"
	"linkspan/test/images"
)

// Addresses of the wire between the host and the other machine.
const (
	HostAddr     = "192.168.99.31"
	MachineAddr  = "192.168.99.50"
	HostAddr6    = "fd99::31"
	MachineAddr6 = "fd99::50"
	// RegistryAddr is where the registry listens, inside the host.
	RegistryAddr = "127.0.0.1:5000"
)

// World is a host for daemons and another machine.
type World struct {
	Lab *lab.Lab
	// Host is where the daemon runs: 192.168.99.31 and fd99::31 on wan0.
	Host *lab.Host
	// Machine is another machine: 192.168.99.50 and fd99::50 on wan0. It has no
	// route to the containers.
	Machine *lab.Host
	// Registry is the URL for --registry-mirror; empty without images.
	Registry string
	wire     *lab.Wire
}

// NewWorld makes one. The test is skipped, with the reason, where that cannot be.
func NewWorld(t testing.TB) *World {
	t.Helper()
	w := NewBareWorld(t)
	w.Registry = images.RegistryFor(t, w.Host.NS, RegistryAddr)
	return w
}

// NewBareWorld is NewWorld without the registry, for daemons that run no
// container.
func NewBareWorld(t testing.TB) *World {
	t.Helper()
	require(t)
	l := lab.New(t)
	w := &World{Lab: l, Host: l.Host("host"), Machine: l.Host("machine")}
	w.wire = l.Wire(w.Host, w.Machine)
	w.Host.Addr(w.wire.DevA, netip.MustParsePrefix(HostAddr+"/24"), netip.MustParsePrefix(HostAddr6+"/64"))
	w.Machine.Addr(w.wire.DevB, netip.MustParsePrefix(MachineAddr+"/24"), netip.MustParsePrefix(MachineAddr6+"/64"))
	return w
}

// require skips the test, with the reason, where no daemon can run.
func require(t testing.TB) {
	t.Helper()
	probe.Require(t, probe.Root, probe.NetNS, probe.Veth, probe.Bridge, probe.NFT, probe.NFTProgram, probe.Conntrack,
		probe.Overlayfs, probe.Containerd, probe.Runc)
}

// Wire is the cable between the host and the machine.
func (w *World) Wire() *lab.Wire { return w.wire }

// Options say how a daemon differs from the usual one.
type Options struct {
	// World is where it runs; nil: one of its own.
	World *World
	// Args follow the harness's own daemon flags.
	Args []string
	// Env follows the environment, NAME=value.
	Env []string
	// Binary is the linkspan to run; empty: Binary(t).
	Binary string
	// Dir holds its data and exec root; empty: one of its own, removed afterwards.
	Dir string
}

// Start runs a daemon until the test ends, in a world of its own unless the
// options name one, and checks at the end that its host is as it was before.
func Start(t testing.TB, o Options) *Daemon {
	t.Helper()
	if o.World == nil {
		o.World = NewWorld(t)
	}
	if o.Binary == "" {
		o.Binary = Binary(t)
	}
	if o.Dir == "" {
		// Not t.TempDir: a long test name would make the paths of sockets longer than
		// the 108 bytes of sun_path (unix(7)).
		dir, err := os.MkdirTemp("", "lsd")
		if err != nil {
			t.Fatal(err)
		}
		o.Dir = dir
	}
	d := &Daemon{
		World: o.World, t: t, binary: o.Binary, env: o.Env,
		Dir: o.Dir, Data: filepath.Join(o.Dir, "d"), Exec: filepath.Join(o.Dir, "x"),
		Socket: filepath.Join(o.Dir, "x", "linkspan.sock"),
	}
	d.proc = &process{}
	d.flags = []string{"--data-root", d.Data, "--exec-root", d.Exec, "-H", d.URL(), "--shutdown-timeout", "1"}
	if o.World.Registry != "" {
		d.flags = append(d.flags, "--registry-mirror", o.World.Registry)
	}
	// A containerd of the host's own would be shared by all daemons under test, and
	// with what else it serves.
	if c, err := net.Dial("unix", containerd.System); err == nil {
		c.Close()
		d.ctd = ctdtest.Start(t)
		d.flags = append(d.flags, "--containerd", d.ctd)
	}
	d.flags = append(d.flags, o.Args...)
	for _, sub := range []string{d.Data, d.Exec, d.config()} {
		if err := os.MkdirAll(sub, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(d.end)
	d.Run()
	return d
}

// URL is what DOCKER_HOST must be.
func (d *Daemon) URL() string { return "unix://" + d.Socket }

// Env is the environment in which docker talks to this daemon and to nobody
// else's contexts, plugins or credentials.
func (d *Daemon) Env() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "DOCKER_") {
			env = append(env, e)
		}
	}
	return append(env, "DOCKER_HOST="+d.URL(), "DOCKER_CONFIG="+d.config())
}

func (d *Daemon) config() string { return filepath.Join(d.Dir, "c") }
