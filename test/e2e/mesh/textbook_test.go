package mesh

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// TestTextbook: two hosts, 10.0.0.1 and 10.0.0.2, c1 at 192.168.1.1 and c3 at 192.168.2.1
// on one overlay network; they find each other by name without a port mapping, and the
// wire carries VXLAN with the network's number and nothing else of theirs.
func TestTextbook(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, 1)
	one, two := c.Daemons[0], c.Daemons[1]
	wire := c.Switch.Capture(two.Host)
	id := one.Docker("network", "create", "-d", "overlay", "--subnet", "192.168.0.0/16", "shop")
	two.Until(patience, "the network on host2", func() bool {
		return strings.Contains(two.Docker("network", "ls", "--no-trunc", "--format", "{{.ID}} {{.Name}} {{.Driver}} {{.Scope}}"), id+" shop overlay global")
	})
	one.Docker("run", "-d", "--name", "c1", "--network", "shop", "--ip", "192.168.1.1", "--network-alias", "cache", "redis")
	two.Until(patience, "c3 pings c1", func() bool {
		out := two.TryDocker("run", "--rm", "--name", "c3", "--network", "shop", "--ip", "192.168.2.1", "centos", "ping", "-c", "2", "c1").Stdout
		return strings.Contains(out, "192.168.1.1") && strings.Contains(out, " 0% packet loss")
	})

	n := c.inspect(1, "shop")
	vni, err := strconv.ParseUint(n.Options["com.docker.network.driver.overlay.vxlanid_list"], 10, 24)
	if err != nil || n.Scope != "global" || n.ID != id {
		t.Fatalf("inspected on host2: %+v", n)
	}
	if err := wire.Until(func(p lab.Packet) bool {
		got, inner, ok := p.VXLAN(4789)
		in, inside := lab.Read(inner)
		return ok && uint64(got) == vni && p.Src.String() == "10.0.0.2" && p.Dst.String() == "10.0.0.1" && inside && in.Proto == unix.IPPROTO_ICMP && in.Dst.String() == "192.168.1.1"
	}); err != nil {
		t.Error(err)
	}
	for _, f := range wire.End() {
		p, ok := lab.Read(f)
		_, inner, vx := p.VXLAN(4789)
		in, _ := lab.Read(inner)
		switch {
		case vx && in.ARP:
			t.Error("ARP of containers on the wire")
		case ok && !vx && strings.HasPrefix(p.Src.String(), "192.168."):
			t.Errorf("a container's packet outside of a tunnel: %+v", p)
		}
	}

	// Every name that works on one host works between two, and goes with its container.
	two.Docker("run", "-d", "--name", "c4", "--network", "shop", "centos", "sleep", "1000")
	host := func(name, want string) {
		t.Helper()
		two.Until(patience, name+" is "+want, func() bool {
			out, _, _ := strings.Cut(two.TryDocker("exec", "c4", "getent", "hosts", name).Stdout, " ")
			return out == want
		})
	}
	for _, name := range []string{"c1", "cache", "c1.shop"} {
		host(name, "192.168.1.1")
		c.pings(1, "c4", name)
	}
	format := "{{range .Services}}{{range .Tasks}}{{.Name}} {{.EndpointIP}} {{index .Info \"Host IP\"}};{{end}}{{end}}"
	two.Until(patience, "who is on shop is told, with their hosts", func() bool {
		return strings.Contains(two.Docker("network", "inspect", "-v", "-f", format, "shop"), "c1 192.168.1.1 10.0.0.1;c4 192.168.")
	})
	two.Until(patience, "its address has a name", func() bool {
		return strings.Contains(two.TryDocker("exec", "c4", "getent", "hosts", "192.168.1.1").Stdout, "c1")
	})
	two.Until(patience, "redis answers", func() bool {
		return strings.Contains(two.TryDocker("exec", "c4", "sh", "-c", "printf 'PING\\r\\n' | nc -q 1 c1 6379").Stdout, "PONG")
	})
	one.Docker("network", "disconnect", "shop", "c1")
	host("c1", "")
	one.Docker("network", "connect", "--ip", "192.168.1.7", "shop", "c1")
	host("c1", "192.168.1.7")
	c.pings(1, "c4", "c1")

	// An address is nobody else's, on whatever host.
	two.Refused([]string{"192.168.1.7", "c1", "host1"}, "run", "-d", "--name", "thief", "--network", "shop", "--ip", "192.168.1.7", "centos", "sleep", "1000")
	two.TryDocker("rm", "-f", "thief")
	two.Docker("rm", "-f", "c4")
	two.Refused([]string{"shop", "c1", "host1"}, "network", "rm", "shop")
	one.Docker("rm", "-f", "c1")
	c.removed(1, "shop")
	one.Until(patience, "the network gone on host1", func() bool { return !strings.Contains(one.Docker("network", "ls"), "shop") })
}

// TestPublished: -p works on overlay endpoints, and what leaves carries the host's address.
func TestPublished(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, 1)
	one, two := c.Daemons[0], c.Daemons[1]
	for _, driver := range []string{"overlay", "routed"} {
		t.Run(driver, func(t *testing.T) {
			net := "net-" + driver
			one.Docker("network", "create", "-d", driver, net)
			one.Docker("run", "-d", "--name", "web", "--network", net, "-p", "8080:9000", "netprobe")
			one.Until(patience, "the published port answers who asks", func() bool {
				return strings.Contains(daemontest.Reach(c.Machine, "10.0.0.1:8080"), "src="+daemontest.ClusterMachine)
			})
			two.Until(patience, "the network on host2", func() bool { return strings.Contains(two.Docker("network", "ls"), net) })
			two.Docker("run", "-d", "--name", "client", "--network", net, "busybox", "sleep", "1000")
			c.pings(1, "client", "web")
			c.pings(1, "client", daemontest.ClusterMachine) // the outside
			two.Docker("rm", "-f", "client")
			one.Docker("rm", "-f", "web")
			c.removed(0, net)
		})
	}
}

// TestSourceKept: between hosts no address is translated, on any path.
func TestSourceKept(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, 1)
	one, two := c.Daemons[0], c.Daemons[1]
	for i, make := range [][]string{{"-d", "overlay"}, {"-d", "routed"}, {"-d", "overlay", "-o", "encrypted"}, {"-d", "routed", "-o", "encrypted"}} {
		t.Run(strings.Join(make, " "), func(t *testing.T) {
			net, marker := fmt.Sprintf("net%d", i), fmt.Sprintf("plain-text-marker-%d", i)
			one.Docker(append(append([]string{"network", "create"}, make...), net)...)
			one.Docker("run", "-d", "--name", "server", "--hostname", marker, "--network", net, "netprobe")
			two.Until(patience, "the network on host2", func() bool { return strings.Contains(two.Docker("network", "ls"), net) })
			two.Docker("run", "-d", "--name", "client", "--network", net, "netprobe")
			mine := two.Docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "client")
			wire := c.Switch.Capture(two.Host)
			var out string
			two.Until(patience, "an answer", func() bool {
				out = two.TryDocker("exec", "client", "/netprobe", "dial", "-timeout", "1s", "tcp/server:9000").Stdout
				return strings.Contains(out, "src=")
			})
			if !strings.Contains(out, "src="+mine+":") || !strings.Contains(out, "host="+marker) {
				t.Errorf("the server saw %s, the client is %s", out, mine)
			}
			wire.End() // with all that was sent
			if secret := len(make) > 2; wire.Holds(marker) == secret {
				t.Errorf("plain text on the wire: %v, encrypted: %v", !secret, secret)
			}
			two.Docker("rm", "-f", "client")
			one.Docker("rm", "-f", "server")
			c.removed(0, net)
		})
	}
}
