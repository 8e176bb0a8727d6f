// Package toy proves that the driver contract is enough: a driver that lives in
// this folder alone is compiled into a daemon and carries traffic.
package toy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/probe"
)

func TestToyDriver(t *testing.T) {
	probe.Require(t, probe.Root, probe.NetNS, probe.Veth, probe.Bridge, probe.NFT, probe.NFTProgram, probe.Overlayfs, probe.Containerd, probe.Runc)
	dir, err := os.MkdirTemp("", "toyd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := daemontest.Start(t, daemontest.Options{Binary: daemontest.Build(t, filepath.Join(dir, "linkspan"), "./test/e2e/toy/toyd")})
	d.LeakCheck()
	t.Cleanup(d.RemoveAll)

	if out := d.Docker("network", "ls", "--format", "{{.Name}} {{.Driver}}"); !strings.Contains(out, "cables cable") {
		t.Errorf("networks:\n%s", out)
	}
	d.Docker("run", "-d", "--name", "web", "--network", "cables", "-p", "8080:80", "nginx")
	address := d.Docker("inspect", "-f", `{{(index .NetworkSettings.Networks "cables").IPAddress}}`, "web")
	if !strings.HasPrefix(address, "10.77.0.") {
		t.Fatalf("address %q", address)
	}
	if out := d.Docker("exec", "web", "ip", "-4", "addr", "show", "cab0"); !strings.Contains(out, address+"/24") {
		t.Errorf("in the container: %s", out)
	}
	whoami := func(from func(...string) (string, error), url, want string) {
		t.Helper()
		d.Until(10*time.Second, url+" answers "+want, func() bool {
			out, err := from("curl", "-sf", "--max-time", "2", url+"/whoami")
			return err == nil && strings.Contains(out, want)
		})
	}
	whoami(d.Host.Try, "http://"+address, "src=10.77.0.1:")                                         // by the host's route
	whoami(d.Machine.Try, "http://"+daemontest.HostAddr+":8080", "src="+daemontest.MachineAddr+":") // published
	d.Docker("exec", "web", "ping", "-c", "1", "-W", "2", daemontest.MachineAddr)                   // out, by SNAT

	// The same declaration: kept by a restart, repaired by reconcile, shown by plan.
	d.Kill9()
	whoami(d.Machine.Try, "http://"+daemontest.HostAddr+":8080", "src=")
	d.Run()
	link := strings.Fields(d.Host.Run("ip", "-br", "-4", "addr", "show", "to", "10.77.0.1"))[0]
	link, _, _ = strings.Cut(link, "@")
	d.Host.Run("ip", "addr", "flush", "dev", link)
	cmd := exec.Command(daemontest.Binary(t), "reconcile")
	cmd.Env = d.Env()
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "# every plug of the host is the gateway") {
		t.Errorf("reconcile: %v\n%s", err, out)
	}
	whoami(d.Machine.Try, "http://"+daemontest.HostAddr+":8080", "src=")
}
