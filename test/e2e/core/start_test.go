package core

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// TestForeignBridge: a docker0 of another engine is left alone, and so is what it
// routes.
func TestForeignBridge(t *testing.T) {
	world := daemontest.NewWorld(t)
	for _, line := range []string{"ip link add docker0 type bridge", "ip addr add 172.17.0.1/16 dev docker0", "ip link set docker0 up",
		"nft add table inet theirs", "nft add chain inet theirs forward { type filter hook forward priority 0 ; policy accept ; }"} {
		world.Host.Run(strings.Fields(line)...)
	}
	w := core(t, daemontest.Start(t, daemontest.Options{World: world}))
	theirs := func() string {
		// Only IPv4: the kernel's own IPv6 address is tentative for a moment.
		return world.Host.Run("ip", "-o", "-4", "addr", "show", "docker0") + world.Host.Run("nft", "list", "table", "inet", "theirs") +
			world.Host.Run("sysctl", "net.ipv4.conf.docker0.route_localnet")
	}
	before := theirs()
	w.Docker("run", "-d", "--name", "web", "-p", "8080:9000", "netprobe")
	w.Reached(8080)
	if out := w.Docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"); out != "172.18.0.2" {
		t.Errorf("address %s", out)
	}
	if out := w.Docker("network", "inspect", "-f", `{{index .Options "com.docker.network.bridge.name"}}`, "bridge"); out != "linkspan0" {
		t.Errorf("bridge %s", out)
	}
	if !strings.Contains(w.Log(), "docker0 exists and is not ours") {
		t.Error("the log does not say so")
	}
	w.reconciled()
	w.Restart()
	w.Reached(8080)
	w.Docker("rm", "-f", "web")
	if after := theirs(); after != before {
		t.Errorf("the other engine's things changed:\n%s", lab.Differ(before, after))
	}
}

// TestNotify: systemd is told of readiness, reloads and the end (sd_notify(3)).
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	said := func(want string) {
		t.Helper()
		b := make([]byte, 4096)
		_ = conn.SetReadDeadline(time.Now().Add(lab.Patience))
		n, err := conn.Read(b)
		if err != nil || !strings.Contains(string(b[:n]), want) {
			t.Errorf("systemd was told %q, %v; want %q", b[:n], err, want)
		}
	}
	w := core(t, daemontest.Start(t, daemontest.Options{World: daemontest.NewBareWorld(t), Env: []string{"NOTIFY_SOCKET=" + path}}))
	said("READY=1")
	w.Docker("version") // readiness means that it answers
	w.Signal(unix.SIGHUP)
	said("RELOADING=1")
	said("READY=1")
	w.Stop()
	said("STOPPING=1")
}
