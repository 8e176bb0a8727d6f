package mesh

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestTmpWG(t *testing.T) {
	c := newCluster(t, 2, 1)
	one, two := c.Daemons[0], c.Daemons[1]
	one.Docker("network", "create", "-d", "routed", "-o", "encrypted", "secret")
	one.Docker("run", "-d", "--name", "server", "--network", "secret", "centos", "iperf3", "-s")
	two.Until(patience, "the network on host2", func() bool {
		return strings.Contains(two.Docker("network", "ls", "--format", "{{.Name}}"), "secret")
	})
	two.Docker("run", "-d", "--name", "client", "--network", "secret", "centos", "sleep", "1000")
	two.Until(patience, "ping", func() bool { return two.TryDocker("exec", "client", "ping", "-c", "1", "-W", "1", "server").Code == 0 })
	t.Log(two.Host.Run("ip", "-d", "link"))
	dev := ""
	for _, f := range strings.Fields(two.Host.Run("ip", "-o", "link")) {
		if strings.HasPrefix(f, "ls-w") {
			dev = strings.TrimSuffix(f, ":")
		}
	}
	out, _ := two.Host.Try("sh", "-c", "ethtool -k "+dev+" | grep -E 'tx-|seg|sum|gro'")
	t.Log(out)
	out, _ = two.Host.Try("sh", "-c", "ethtool -k wan0 | grep -E 'tx-|seg|sum|gro'")
	t.Log(out)
	for range 2 {
		t.Log("containers", two.TryDocker("exec", "client", "iperf3", "-c", "server", "-t", "3", "-C", "cubic", "-f", "m").Stdout)
	}
	// hosts, in the tunnel
	addr := ""
	f := strings.Fields(one.Host.Run("ip", "-o", "-6", "addr", "show", "dev", strings.TrimSpace(devOf(one.Host.Run("ip", "-o", "link")))))
	for i, w := range f {
		if w == "inet6" && strings.HasPrefix(f[i+1], "fd") {
			addr, _, _ = strings.Cut(f[i+1], "/")
		}
	}
	s := one.Host.Start([]string{"iperf3", "-s", "-B", addr})
	defer s.Kill()
	time.Sleep(time.Second)
	for range 2 {
		o, err := two.Host.Try("iperf3", "-c", addr, "-t", "3", "-C", "cubic", "-f", "m")
		t.Log("hosts", o, err)
	}
	for _, d := range c.Daemons {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.KeeperPID()))
		for l := range strings.Lines(string(b)) {
			if strings.HasPrefix(l, "VmHWM") || strings.HasPrefix(l, "VmRSS") || strings.HasPrefix(l, "Threads") {
				t.Log(l)
			}
		}
	}
}

func devOf(s string) string {
	for _, f := range strings.Fields(s) {
		if strings.HasPrefix(f, "ls-w") {
			return strings.TrimSuffix(f, ":")
		}
	}
	return ""
}
