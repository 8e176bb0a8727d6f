package mesh

import (
	"encoding/json"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// TestPaths: two hosts share a link and the third is behind a router. Routed networks take
// plain routes to who is on the link and VXLAN to who is not; no path changes an address.
func TestPaths(t *testing.T) {
	t.Parallel()
	c := &cluster{daemontest.NewTwoLANs(t, 1500), t}
	c.form()
	near, far := c.Switch.Capture(c.Daemons[1].Host), c.Switch.Capture(c.Daemons[0].Host)
	c.crowd("flat", "-d", "routed", "--subnet", "192.168.0.0/16")
	one, three := c.address(0, "c1"), c.address(2, "c3")
	c.until(1, "c2", "c1", "dst="+one)
	c.until(1, "c2", "c3", "src="+c.address(1, "c2"))

	if err := near.Until(func(p lab.Packet) bool {
		return p.Proto == unix.IPPROTO_TCP && p.Dst.String() == one && p.DstPort == 9000
	}); err != nil {
		t.Errorf("to the same link by a plain route: %v", err)
	}
	if err := far.Until(func(p lab.Packet) bool {
		_, inner, ok := p.VXLAN(4789)
		in, _ := lab.Read(inner)
		return ok && p.Dst.String() == c.Addr(2) && in.Dst.String() == three
	}); err != nil {
		t.Errorf("behind the router by VXLAN: %v", err)
	}
	for _, f := range far.End() {
		if p, _ := lab.Read(f); p.Src.String() == three || p.Dst.String() == three {
			t.Errorf("the router sees a container's address: %+v", p)
		}
	}
	for _, w := range []string{"direct (wan0)", "vxlan"} {
		c.Daemons[0].Until(patience, "a path "+w+" is told", func() bool { return strings.Contains(c.status(0), w) })
	}
}

// mtu is what a container's interface has.
func (c *cluster) mtu(i int, container string) string {
	c.t.Helper()
	var stats []struct{ MTU int }
	out := c.Daemons[i].Docker("exec", container, "ip", "-j", "link", "show", "eth0")
	if err := json.Unmarshal([]byte(out), &stats); err != nil || len(stats) != 1 {
		c.t.Fatalf("%s: %v", out, err)
	}
	b, _ := json.Marshal(stats[0].MTU)
	return string(b)
}

// TestMTU: a container's interface has what the underlay leaves, follows it as it changes,
// and full-size packets pass.
func TestMTU(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, 1)
	c.Daemons[0].Docker("network", "create", "-d", "overlay", "shop")
	c.Daemons[1].Until(patience, "shop on host2", func() bool { return strings.Contains(c.Daemons[1].Docker("network", "ls"), "shop") })
	for i, d := range c.Daemons {
		d.Docker("run", "-d", "--name", "c"+string(rune('1'+i)), "--network", "shop", "centos", "sleep", "100000")
	}
	full := func(size string) {
		t.Helper()
		c.Daemons[0].Until(patience, "full-size packets of "+size+" bytes", func() bool {
			return c.Daemons[0].TryDocker("exec", "c1", "ping", "-c", "1", "-W", "1", "-M", "do", "-s", size, "c2").Code == 0
		})
	}
	c.Daemons[0].Until(patience, "an MTU of 1450", func() bool { return c.mtu(0, "c1") == "1450" })
	full("1422") // 1450 less the headers of IP and ICMP
	for _, d := range c.Daemons {
		d.Host.Run("ip", "link", "set", "wan0", "mtu", "1400")
	}
	for i := range c.Daemons {
		c.Daemons[i].Until(patience, "the MTU follows", func() bool { return c.mtu(i, "c"+string(rune('1'+i))) == "1350" })
	}
	full("1322")
}

// TestBlackHole: a router that drops big packets and tells nobody is found, named, and
// gone around.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, 1)
	c.Switch.BlackHole(c.Daemons[1].Host, 1400)
	// A check waits for transfers that stand still: one takes a minute here.
	c.Daemons[0].Until(4*patience, "mesh check names what is dropped", func() bool {
		r := c.Daemons[0].Linkspan("mesh", "check")
		return r.Code != 0 && strings.Contains(r.Stdout, "1400") && strings.Contains(r.Stdout, "host2")
	})
	c.Switch.Heal(c.Daemons[1].Host)
	c.Daemons[0].Until(4*patience, "healed", func() bool { return c.Daemons[0].Linkspan("mesh", "check").Code == 0 })
}
