package daemontest

import (
	"fmt"
	"testing"

	"linkspan/internal/lab"
	"linkspan/test/images"
)

// ClusterMachine is the address of a cluster's other machine.
const ClusterMachine = "10.0.0.200"

// Cluster is several hosts on one switch, each with a daemon of its own, its own data
// root and images: host1 is 10.0.0.1, host2 10.0.0.2, …
type Cluster struct {
	Lab    *lab.Lab
	Switch *lab.Switch
	// Machine is beside the hosts on the switch and runs no daemon.
	Machine *lab.Host
	Daemons []*Daemon
	addrs   []string
}

// NewCluster makes the hosts and starts their daemons with args.
func NewCluster(t testing.TB, hosts int, args ...string) *Cluster {
	t.Helper()
	c := bareCluster(t)
	for range hosts {
		c.host(t, c.Switch, fmt.Sprintf("10.0.0.%d", len(c.addrs)+1))
	}
	c.start(t, args)
	return c
}

// NewTwoLANs makes three hosts: host1 and host2 on the switch, and host3 behind a router
// on another one, at 10.1.0.3. The wire to host3's LAN carries mtu bytes.
func NewTwoLANs(t testing.TB, mtu int, args ...string) *Cluster {
	t.Helper()
	c := bareCluster(t)
	router, far := c.Lab.Host("router").Router(), c.Lab.Switch("far")
	c.Switch.Plug(router, "10.0.0.254/24")
	dev := far.Plug(router, "10.1.0.254/24")
	router.Run("ip", "link", "set", dev, "mtu", fmt.Sprint(mtu))
	c.host(t, c.Switch, "10.0.0.1")
	c.host(t, c.Switch, "10.0.0.2")
	c.host(t, far, "10.1.0.3")
	for i, d := range c.Daemons {
		gateway := "10.0.0.254"
		if i == 2 {
			gateway = "10.1.0.254"
		}
		d.Host.Run("ip", "route", "add", "default", "via", gateway)
	}
	c.start(t, args)
	return c
}

func bareCluster(t testing.TB) *Cluster {
	t.Helper()
	require(t)
	l := lab.New(t)
	c := &Cluster{Lab: l, Switch: l.Switch("switch"), Machine: l.Host("machine")}
	c.Switch.Plug(c.Machine, ClusterMachine+"/24")
	return c
}

// host adds one, with the images at hand.
func (c *Cluster) host(t testing.TB, s *lab.Switch, addr string) {
	t.Helper()
	c.addrs = append(c.addrs, addr)
	h := c.Lab.Host(fmt.Sprintf("host%d", len(c.addrs)))
	s.Plug(h, addr+"/24")
	w := &World{Lab: c.Lab, Host: h, Machine: c.Machine}
	w.Registry = images.RegistryFor(t, h.NS, RegistryAddr)
	c.Daemons = append(c.Daemons, &Daemon{World: w})
}

func (c *Cluster) start(t testing.TB, args []string) {
	t.Helper()
	for i, d := range c.Daemons {
		c.Daemons[i] = Start(t, Options{World: d.World, Args: args})
	}
}

// Addr is a host's address, by its place in Daemons.
func (c *Cluster) Addr(i int) string { return c.addrs[i] }
