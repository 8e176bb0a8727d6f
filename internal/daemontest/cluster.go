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
}

// NewCluster makes the hosts and starts their daemons with args.
func NewCluster(t testing.TB, hosts int, args ...string) *Cluster {
	t.Helper()
	c := NewBareCluster(t, hosts)
	for i, d := range c.Daemons {
		c.Daemons[i] = Start(t, Options{World: d.World, Args: args})
	}
	return c
}

// NewBareCluster makes the hosts, with the images at hand, and starts nothing: each
// Daemon has a World alone.
func NewBareCluster(t testing.TB, hosts int) *Cluster {
	t.Helper()
	require(t)
	l := lab.New(t)
	c := &Cluster{Lab: l, Switch: l.Switch("switch"), Machine: l.Host("machine")}
	c.Switch.Plug(c.Machine, ClusterMachine+"/24")
	for i := range hosts {
		h := l.Host(fmt.Sprintf("host%d", i+1))
		c.Switch.Plug(h, c.Addr(i)+"/24")
		w := &World{Lab: l, Host: h, Machine: c.Machine}
		w.Registry = images.RegistryFor(t, h.NS, RegistryAddr)
		c.Daemons = append(c.Daemons, &Daemon{World: w})
	}
	return c
}

// Addr is a host's address on the switch, by its place in Daemons.
func (c *Cluster) Addr(i int) string { return fmt.Sprintf("10.0.0.%d", i+1) }
