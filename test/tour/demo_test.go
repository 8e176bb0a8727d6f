package tour

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
	"linkspan/probe"
)

// TestDemo is `make demo` twice, on a host where 3306 is taken the second time,
// and `make demo-stop`: nothing is left of it.
func TestDemo(t *testing.T) {
	probe.Require(t, probe.Root, probe.NetNS, probe.Veth, probe.Bridge, probe.NFT, probe.NFTProgram, probe.Overlayfs, probe.Containerd, probe.Runc)
	l := lab.New(t)
	host := l.Host("demo")
	dir, err := os.MkdirTemp("", "lsdemo") // short, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l.LeakCheck(lab.Mounts(dir), lab.Files(dir), lab.Processes(dir))
	machine := filepath.Base(host.NS) + "-m"
	demo := func(args ...string) string {
		t.Helper()
		cmd := host.Command(append([]string{filepath.Join(daemontest.Root(), "script/demo.sh")}, args...)...)
		cmd.Env = append(os.Environ(), "LINKSPAN_DEMO_DIR="+dir, "LINKSPAN_DEMO_MACHINE="+machine)
		out, err := cmd.CombinedOutput()
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "run/demo/daemon.log"))
			t.Fatalf("demo %v: %v\n%s\nthe daemon's log:\n%s", args, err, out, log)
		}
		return string(out)
	}
	t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(dir, "run")); err == nil {
			demo("stop")
		}
	})
	holds := func(out string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("the demo does not say %q:\n%s", w, out)
			}
		}
	}
	holds(demo(),
		"ip link set veth", "nft add element inet linkspan_", // the plan
		"0.0.0.0:3306->3306/tcp",
		"|      1 | root@198.18.77.2 |", // the query
		"chain prerouting", "the kernel has what is declared",
		"export DOCKER_HOST=unix://"+dir+"/run/linkspan.sock")
	// Again: the same container, one row more.
	holds(demo(), "Image is up to date", "|      2 | root@198.18.77.2 |")
	holds(demo("stop"), "Nothing of it is left")

	host.Listen("tcp", "127.0.0.1:3306")
	holds(demo(), "port 3306 is taken by", "3307 is used instead", "0.0.0.0:3307->3306/tcp", "|      1 | root@198.18.77.2 |")
	holds(demo("stop"), "Nothing of it is left")
	if out, err := exec.Command("ip", "netns", "list").Output(); err != nil || strings.Contains(string(out), machine) {
		t.Errorf("the demo's machine is still there: %v\n%s", err, out)
	}
}
