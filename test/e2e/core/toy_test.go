package core

import (
	"path/filepath"
	"strings"
	"testing"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// TestToyDriver: a driver that lives in this folder is compiled into a daemon, with
// no line changed elsewhere, and carries traffic.
func TestToyDriver(t *testing.T) {
	w := daemontest.NewWorld(t)
	binary := daemontest.Build(t, filepath.Join(t.TempDir(), "toydaemon"), "./test/e2e/core/toydaemon")
	d := daemontest.Start(t, daemontest.Options{World: w, Binary: binary})
	d.LeakCheck()
	t.Cleanup(d.RemoveAll)
	if out := d.Docker("network", "ls", "--format", "{{.Name}} {{.Driver}}"); !strings.Contains(out, "toys hub") {
		t.Errorf("networks:\n%s", out)
	}
	if out := d.Docker("info", "--format", "{{.Plugins.Network}}"); !strings.Contains(out, "hub") {
		t.Errorf("drivers: %s", out)
	}
	d.Docker("run", "-d", "--name", "server", "--net=toys", "busybox", "netprobe", "serve", "tcp/:9000", "udp/:9000")
	d.Docker("run", "-d", "--name", "client", "--net=toys", "busybox", "sleep", "1000")
	addr := d.Docker("inspect", "-f", "{{.NetworkSettings.Networks.toys.IPAddress}}", "server")
	mine := d.Docker("inspect", "-f", "{{.NetworkSettings.Networks.toys.IPAddress}}", "client")
	answers := func(proto string) {
		t.Helper()
		d.Until(lab.Patience, "the server answers by "+proto, func() bool {
			return strings.Contains(d.TryDocker("exec", "client", "netprobe", "dial", proto+"/"+addr+":9000").Stdout, "src="+mine+":")
		})
	}
	answers("tcp")
	answers("udp")
	if out := d.Docker("exec", "client", "ip", "-o", "link"); !strings.Contains(out, "hub0") {
		t.Errorf("links: %s", out)
	}
	if r := d.TryDocker("exec", "client", "ping", "-c1", "-W1", daemontest.MachineAddr); r.Code == 0 {
		t.Error("the hub leads outside")
	}
	// Flags that the driver does not grant.
	d.Docker("run", "-d", "--name", "quiet", "--net=toys", "-p", "8080:9000", "busybox", "sleep", "1000")
	if out := d.Docker("port", "quiet"); out != "" {
		t.Errorf("published by a driver that does not: %s", out)
	}
	// What all drivers get: repair, and a restart.
	hub := ""
	for l := range strings.Lines(d.Host.Run("ip", "-o", "link")) {
		if f := strings.Fields(l); strings.HasPrefix(f[1], "hub-") {
			hub = strings.TrimSuffix(f[1], ":")
		}
	}
	d.Host.Run("ip", "link", "del", hub)
	core(t, d).reconciled()
	d.Kill9()
	d.Run()
	answers("tcp") // after repair and restart
}
