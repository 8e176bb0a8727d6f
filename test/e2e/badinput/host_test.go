package badinput

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/internal/ctdtest"
	"linkspan/internal/daemontest"
)

// TestPortsWithoutBridge: with the host's network published ports are dropped
// and it is said, with none they are accepted and lead nowhere.
func TestPortsWithoutBridge(t *testing.T) {
	d := daemontest.Shared(t)
	d.Docker("pull", "-q", "netprobe")
	e := open(t, d)
	r, failed := e.cli("run", "-d", "--name", "onhost", "--network", "host", "-p", "8080:9000", "netprobe", "serve", "tcp/127.0.0.1:9000")
	if r.Code != 0 || len(failed) > 0 || !strings.Contains(r.Stderr, "WARNING: Published ports are discarded when using host network mode") {
		t.Errorf("%+v, %+v", r, failed)
	}
	r, failed = e.cli("run", "-d", "--name", "alone", "--network", "none", "-p", "8080:9000", "netprobe")
	if r.Code != 0 || len(failed) > 0 || r.Stderr != "" {
		t.Errorf("%+v, %+v", r, failed)
	}
	for _, name := range []string{"onhost", "alone"} {
		if out := d.Docker("port", name); out != "" {
			t.Errorf("docker port %s: %s", name, out)
		}
		if out := d.Docker("inspect", "-f", "{{json .NetworkSettings.Ports}} {{.State.Running}}", name); out != "{} true" {
			t.Errorf("%s: %s", name, out)
		}
	}
	// The port is free for others.
	d.Docker("run", "-d", "--name", "bridged", "-p", "8080:9000", "netprobe")
}

// TestPoolExhausted: a bridge with room for one container.
func TestPoolExhausted(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{Args: []string{"--bip", "10.99.0.1/30"}})
	d.Docker("pull", "-q", "netprobe")
	d.LeakCheck()
	d.Docker("run", "-d", "--name", "only", "netprobe")
	defer d.Docker("rm", "-f", "only")
	t.Run("start", func(t *testing.T) {
		e := open(t, d)
		e.clean()
		r, failed := e.cli("run", "-d", "-p", "8080:9000", "netprobe")
		leftovers(t, e, r)
		if len(failed) == 0 || r.Code != 125 {
			t.Fatalf("%+v", r)
		}
		failed[len(failed)-1].says(t, 500, "no available IPv4 addresses on this network's address pools: bridge (", "10.99.0.0/30")
	})
	// What was full has room again when its holder goes.
	d.Docker("rm", "-f", "only")
	d.Docker("run", "-d", "--name", "only", "netprobe")
	if ip := d.Docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "only"); ip != "10.99.0.2" {
		t.Errorf("address %s", ip)
	}
}

// TestContainerdGone: with a containerd that another supervises, requests answer
// 503 while it is away and work when it is back; running containers do not notice.
func TestContainerdGone(t *testing.T) {
	server := ctdtest.New(t)
	d := daemontest.Start(t, daemontest.Options{Args: []string{"--containerd", server.Address}})
	d.Docker("run", "-d", "--name", "runs", "-p", "8080:9000", "netprobe")
	d.Docker("create", "--name", "waits", "netprobe")
	server.Kill()
	e := open(t, d)
	before := time.Now()
	for _, c := range [][]string{{"run", "-d", "-p", "8081:9000", "netprobe"}, {"start", "waits"}, {"pull", "netprobe"}, {"images"}, {"exec", "runs", "/netprobe"}, {"rmi", "netprobe"}} {
		r, failed := e.cli(c...)
		if c[0] == "pull" || c[0] == "exec" {
			// Their answers have begun, 200 and 101, when containerd is asked; the error
			// comes in the stream.
			if r.Code == 0 || !strings.Contains(r.Stderr, "containerd") || !strings.Contains(r.Stderr, "does not answer") {
				t.Errorf("docker %s: %+v", strings.Join(c, " "), r)
			}
			continue
		}
		if len(failed) == 0 || r.Code == 0 {
			t.Errorf("docker %s: %+v", strings.Join(c, " "), r)
			continue
		}
		failed[len(failed)-1].says(t, 503, "containerd")
	}
	t.Logf("six refusals took %v", time.Since(before).Round(time.Millisecond))
	if out := d.Docker("ps", "--format", "{{.Names}} {{.State}}"); out != "runs running" {
		t.Errorf("ps: %s", out)
	}
	server.Run()
	d.Until(10*time.Second, "a start works again", func() bool { return d.TryDocker("start", "waits").Code == 0 })
	d.Docker("run", "-d", "--name", "fresh", "-p", "8081:9000", "netprobe")
	if out := d.Docker("ps", "-a", "--format", "{{.Names}}"); out != "fresh\nwaits\nruns" {
		t.Errorf("ps -a: %q", out)
	}
	d.Docker("rm", "-f", "fresh", "waits", "runs")
}

// TestPrivateContainerdKilled: the daemon's own is started again, and containers
// that ran go on.
func TestPrivateContainerdKilled(t *testing.T) {
	d := daemontest.Shared(t)
	d.Docker("run", "-d", "--name", "runs", "-p", "8080:9000", "netprobe")
	pid := d.Docker("inspect", "-f", "{{.State.Pid}} {{.RestartCount}}", "runs")
	b, err := os.ReadFile(filepath.Join(d.Exec, "containerd", "containerd.pid"))
	var ctd int
	if _, serr := fmt.Sscan(string(b), &ctd); err != nil || serr != nil {
		t.Fatal(err, serr)
	}
	if err := syscall.Kill(ctd, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e := open(t, d)
	e.Until(10*time.Second, "containers can be made again", func() bool {
		r, failed := e.cli("run", "-d", "--name", "fresh", "netprobe")
		for _, f := range failed {
			f.says(t, 503, "containerd")
		}
		if r.Code != 0 {
			e.TryDocker("rm", "-f", "fresh")
		}
		return r.Code == 0
	})
	if now := d.Docker("inspect", "-f", "{{.State.Pid}} {{.RestartCount}}", "runs"); now != pid {
		t.Errorf("the running container was %s and is %s", pid, now)
	}
	if out := d.Docker("exec", "runs", "/netprobe", "dial", "tcp/127.0.0.1:9000"); !strings.HasPrefix(out, "src=127.0.0.1") {
		t.Errorf("exec: %s", out)
	}
	d.Docker("stop", "-t", "1", "runs")
	if out := d.Docker("inspect", "-f", "{{.State.Status}}", "runs"); out != "exited" {
		t.Errorf("stopped: %s", out)
	}
}

// small mounts a tmpfs for a daemon's folders.
func small(t *testing.T, size string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lsd")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = os.Remove(dir)
	})
	return dir
}

// TestDiskFull: what does not fit is refused with the reason, leaves nothing, and
// works when there is room again; what runs goes on, and can be stopped and removed.
func TestDiskFull(t *testing.T) {
	dir := small(t, "96m")
	world := daemontest.NewWorld(t)
	d := daemontest.Start(t, daemontest.Options{World: world, Args: []string{"--data-root", dir + "/data"}})
	d.Docker("pull", "-q", "netprobe")
	d.LeakCheck()
	d.Docker("run", "-d", "--name", "runs", "-p", "8080:9000", "netprobe")
	d.Docker("create", "--name", "waits", "netprobe")
	fill(t, dir)
	t.Run("full", func(t *testing.T) {
		e := open(t, d)
		e.clean()
		for _, c := range [][]string{{"create", "netprobe"}, {"run", "-d", "-p", "8081:9000", "netprobe"}, {"pull", "redis"}} {
			r, failed := e.cli(c...)
			leftovers(t, e, r)
			if r.Code == 0 || !strings.Contains(r.Stderr, "no space left on device") {
				t.Errorf("docker %s: %+v", strings.Join(c, " "), r)
			}
			for _, f := range failed {
				if f.Status != 500 && f.Status != 404 {
					t.Errorf("%+v", f)
				}
			}
		}
		if out := e.Docker("ps", "--format", "{{.Names}}"); out != "runs" {
			t.Errorf("ps: %s", out)
		}
	})
	t.Run("start", func(t *testing.T) {
		// What is made already may start or not, but not half: what the engine has to
		// write is small, and may find a place.
		e := open(t, d)
		e.clean("keeper's open files") // of stdio that was open before the start
		r, _ := e.cli("start", "waits")
		state := e.Docker("inspect", "-f", "{{.State.Status}} {{.NetworkSettings.IPAddress}}", "waits")
		switch {
		case r.Code == 0 && !strings.HasPrefix(state, "running 172."):
			t.Errorf("started: %s", state)
		case r.Code != 0 && (strings.HasPrefix(state, "running") || !strings.Contains(r.Stderr, "no space left on device")):
			t.Errorf("not started: %s, %s", state, r.Stderr)
		}
		if r.Code == 0 {
			e.Docker("stop", "-t", "0", "waits")
		}
	})
	if r := d.TryDocker("rm", "-f", "runs"); r.Code != 0 {
		t.Errorf("a container cannot be removed from a full disk: %s", r.Stderr)
	}
	if err := os.Remove(dir + "/filler"); err != nil {
		t.Fatal(err)
	}
	d.Docker("start", "waits")
	d.Docker("run", "-d", "--name", "fresh", "-p", "8081:9000", "netprobe")
	d.RemoveAll()
}

// fill writes until nothing more fits.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// TestReadOnly: a daemon that cannot write its folders says so and does not start.
func TestReadOnly(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{World: daemontest.NewBareWorld(t)})
	d.Stop()
	dir := small(t, "1m")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"--data-root", "--exec-root"} {
		before := len(d.Log())
		if err := d.TryRun(flag + "=" + dir + "/linkspan"); err == nil {
			d.Stop()
			t.Errorf("%s on a read-only disk: the daemon runs", flag)
		}
		said := d.Log()[before:]
		if !strings.Contains(said, "read-only file system") || !strings.Contains(said, dir+"/linkspan") || !strings.Contains(said, strings.TrimPrefix(flag, "--")) {
			t.Errorf("%s on a read-only disk: the daemon said %q", flag, said)
		}
	}
	d.Run()
}
