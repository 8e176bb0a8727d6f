package mesh

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
)

// crowd starts one container of each host on an overlay network: c1 on host1, …
func (c *cluster) crowd(network string, create ...string) {
	c.t.Helper()
	c.Daemons[0].Docker(append(append([]string{"network", "create"}, create...), network)...)
	for i, d := range c.Daemons {
		d.Until(patience, network+" on "+c.name(i), func() bool {
			return strings.Contains(d.Docker("network", "ls", "--format", "{{.Name}}"), network)
		})
		d.Docker("run", "-d", "--name", fmt.Sprintf("c%d", i+1), "--network", network, "netprobe")
	}
	for i := range c.Daemons {
		for j := range c.Daemons {
			c.reaches(i, fmt.Sprintf("c%d", i+1), fmt.Sprintf("c%d", j+1))
		}
	}
}

// address is where a container is on its one network.
func (c *cluster) address(i int, container string) string {
	c.t.Helper()
	return c.Daemons[i].Docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)
}

// apart: no two containers have one address.
func (c *cluster) apart() {
	c.t.Helper()
	seen := map[string]string{}
	for i, d := range c.Daemons {
		if d.PID() == 0 {
			continue
		}
		for _, id := range strings.Fields(d.Docker("ps", "-q")) {
			a, me := c.address(i, id), c.name(i)+"/"+id
			if other := seen[a]; other != "" {
				c.t.Errorf("%s and %s both have %s", other, me, a)
			}
			seen[a] = me
		}
	}
}

// TestHostDies: what runs on the others goes on; what the dead one had is kept for it; and
// it comes back, or is forgotten and replaced.
func TestHostDies(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, 3)
	c.crowd("shop", "-d", "overlay", "--subnet", "192.168.0.0/16")
	dead := c.address(2, "c3")
	c.Switch.Silence(c.Daemons[2].Host)
	c.Daemons[2].KillAll()

	c.reaches(0, "c1", "c2")
	c.Daemons[0].Docker("run", "-d", "--name", "c4", "--network", "shop", "netprobe")
	c.reaches(1, "c2", "c4")
	// Stale beats a black hole: its name leaves after a while, and until then leads nowhere.
	c.Daemons[0].Until(patience, "c3 does not answer", func() bool {
		out := c.answer(0, "c1", "c3")
		return strings.Contains(out, "timeout") || strings.Contains(out, "no such host")
	})
	// The store may have no leader at first, which is told then.
	c.Daemons[1].Until(patience, dead+" is refused, and told to be host3's", func() bool {
		r := c.Daemons[1].TryDocker("run", "-d", "--name", "thief", "--network", "shop", "--ip", dead, "netprobe")
		c.Daemons[1].TryDocker("rm", "-f", "thief")
		if r.Code == 0 {
			t.Fatalf("%s was given to another host's container", dead)
		}
		return strings.Contains(r.Stderr, dead) && strings.Contains(r.Stderr, "host3")
	})
	c.Daemons[0].Until(2*patience, "host3 is told dead", func() bool {
		out := c.status(0)
		return strings.Contains(out, "host3 (10.0.0.3) gives no sign of life")
	})

	c.Switch.Heal(c.Daemons[2].Host)
	c.Daemons[2].Run()
	c.Daemons[2].Docker("start", "c3")
	c.Daemons[2].Until(patience, "c3 has an address after its host came back", func() bool { return c.address(2, "c3") != "" })
	for i := range 3 {
		c.reaches(i, fmt.Sprintf("c%d", i+1), "c3")
	}
	c.apart()
}

// TestCutOff: a host that nobody hears goes on with what it has, and is healed by no hand.
func TestCutOff(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, 3)
	c.crowd("shop", "-d", "overlay", "--subnet", "192.168.0.0/16")
	lost := c.Daemons[2]
	lost.Docker("run", "-d", "--name", "near", "--network", "shop", "netprobe")
	c.reaches(2, "c3", "near")
	c.Switch.Silence(lost.Host)

	c.reaches(2, "c3", "near")
	lost.Docker("run", "-d", "--name", "late", "--network", "shop", "netprobe")
	c.reaches(2, "c3", "late")
	lost.Refused([]string{"store"}, "network", "create", "-d", "overlay", "other")
	lost.Docker("network", "create", "here") // nothing that one host does needs the mesh
	lost.Docker("network", "rm", "here")
	lost.Until(2*patience, "host3 says that it is cut off", func() bool { return strings.Contains(c.status(2), "etcd: not reachable") })
	c.Daemons[0].Docker("run", "-d", "--name", "c4", "--network", "shop", "netprobe")
	c.reaches(1, "c2", "c4")

	c.Switch.Heal(lost.Host)
	c.reaches(0, "c1", "late")
	c.reaches(2, "late", "c4")
	c.apart()
}

// TestMajorityGone: two of three members die; what runs goes on, and heals.
func TestMajorityGone(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, 3)
	c.crowd("shop", "-d", "overlay")
	c.Daemons[1].Kill9()
	c.Daemons[2].Kill9()
	c.reaches(0, "c1", "c2")
	c.reaches(0, "c1", "c3")
	c.Daemons[0].Docker("run", "-d", "--name", "c4", "--network", "shop", "netprobe")
	c.reaches(0, "c4", "c1")
	c.Daemons[0].Until(patience, "no network is made, for the want of a majority", func() bool {
		r := c.Daemons[0].TryDocker("network", "create", "-d", "overlay", "other")
		if r.Code == 0 {
			t.Fatalf("network create without a majority: %+v", r)
		}
		return strings.Contains(r.Stderr, "majority")
	})
	// The daemon restarts with the store dead, too.
	c.Daemons[0].Kill9()
	c.Daemons[0].Run()
	c.reaches(0, "c4", "c1")
	c.reaches(0, "c1", "c2")
	c.Daemons[1].Run()
	c.Daemons[2].Run()
	c.reaches(1, "c2", "c4")
	c.Daemons[2].Until(2*patience, "a network can be made again", func() bool {
		return c.Daemons[2].TryDocker("network", "create", "-d", "overlay", "other").Code == 0
	})
	c.apart()
}

// TestDaemonDies: a conversation between hosts does not notice that daemons die.
func TestDaemonDies(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, 1)
	for _, make := range [][]string{{"-d", "overlay"}, {"-d", "routed"}, {"-d", "overlay", "-o", "encrypted"}} {
		t.Run(strings.Join(make, " "), func(t *testing.T) {
			one, two := c.Daemons[0], c.Daemons[1]
			one.Docker(append(append([]string{"network", "create"}, make...), "net")...)
			one.Docker("run", "-d", "--name", "server", "--network", "net", "netprobe")
			two.Until(patience, "the network on host2", func() bool { return strings.Contains(two.Docker("network", "ls", "--format", "{{.Name}}"), "net") })
			two.Docker("run", "-d", "--name", "client", "--network", "net", "netprobe")
			two.Until(patience, "an answer", func() bool {
				return two.TryDocker("exec", "client", "/netprobe", "dial", "-timeout", "1s", "tcp/server:9000").Code == 0
			})
			talk := two.DockerCommand("exec", "client", "/netprobe", "dial", "-n", "80", "-interval", "50ms", "-timeout", "60s", "tcp/server:9000")
			// The exec's own stream lives in host2's keeper and its client: only host1's
			// daemon, and then host2's between two attaches, may die under it.
			var out strings.Builder
			talk.Stdout, talk.Stderr = &out, &out
			if err := talk.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(500 * time.Millisecond)
			one.Kill9()
			time.Sleep(300 * time.Millisecond)
			one.Run()
			if err := talk.Wait(); err != nil {
				t.Errorf("the conversation broke: %v: %s", err, out.String())
			}
			two.Docker("rm", "-f", "client")
			one.Docker("rm", "-f", "server")
			one.Until(patience, "the network can be removed: etcd is back with its daemon", func() bool {
				return one.TryDocker("network", "rm", "net").Code == 0
			})
		})
	}
}

// TestReplaced: a name is one host's; a dead one's is free once it is forgotten, and the
// one that comes back fences itself.
func TestReplaced(t *testing.T) {
	t.Parallel()
	c := &cluster{daemontest.NewCluster(t, 3), t}
	c.init()
	c.join(1)
	r := c.Daemons[2].Linkspan("mesh", "join", c.Addr(0)+":2380", "--token", c.token(), "--name", "host2")
	if r.Code == 0 || !strings.Contains(r.Stderr, "host2") || !strings.Contains(r.Stderr, c.Addr(1)) {
		t.Errorf("a taken name: %+v", r)
	}
	c.Daemons[0].Docker("network", "create", "-d", "overlay", "--subnet", "192.168.0.0/16", "shop")
	c.Daemons[1].Until(patience, "shop on host2", func() bool { return strings.Contains(c.Daemons[1].Docker("network", "ls"), "shop") })
	c.Daemons[1].Docker("run", "-d", "--name", "c2", "--network", "shop", "--ip", "192.168.2.1", "netprobe")
	c.Daemons[0].Docker("run", "-d", "--name", "c1", "--network", "shop", "netprobe")
	c.reaches(0, "c1", "c2")
	r = c.Daemons[0].Linkspan("mesh", "forget", "host2")
	if r.Code == 0 || !strings.Contains(r.Stderr, "is there") {
		t.Errorf("forgot a living host: %+v", r)
	}
	c.Switch.Silence(c.Daemons[1].Host)
	c.Daemons[0].Until(3*patience, "host2 is told dead", func() bool { return strings.Contains(c.status(0), "gives no sign of life") })
	c.on(0, "mesh", "forget", "host2")
	c.unknown(0, "c1", "c2")

	c.on(2, "mesh", "join", c.Addr(0)+":2380", "--token", c.token(), "--name", "host2")
	t.Cleanup(func() { c.leave(2) })
	third := c.Daemons[2]
	third.Until(patience, "shop on host3", func() bool { return strings.Contains(third.Docker("network", "ls"), "shop") })
	third.Docker("run", "-d", "--name", "c2", "--network", "shop", "--ip", "192.168.2.1", "netprobe")
	c.reaches(0, "c1", "c2")

	// The old one comes back: it says so, and its container is nobody's twin on the wire.
	c.Switch.Heal(c.Daemons[1].Host)
	c.Daemons[1].Until(2*patience, "the forgotten host fences itself", func() bool {
		return strings.Contains(c.status(1), "forgotten")
	})
	// Down at once; deleted by the sweeper, behind the request (no LinkDel on its path).
	c.Daemons[1].Until(patience, "tunnels of a forgotten host are down", func() bool {
		out, err := c.Daemons[1].Host.Try("ip", "-o", "link", "show", "up", "type", "vxlan")
		return err == nil && strings.TrimSpace(out) == ""
	})
	c.Daemons[1].Until(patience, "tunnels of a forgotten host are deleted", func() bool {
		out, err := c.Daemons[1].Host.Try("ip", "-o", "link", "show", "type", "vxlan")
		return err == nil && strings.TrimSpace(out) == ""
	})
	c.reaches(0, "c1", "c2")
}
