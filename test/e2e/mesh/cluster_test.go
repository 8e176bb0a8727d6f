// Package mesh walks networks that span hosts: several hosts on a simulated LAN, each
// with a real daemon and a containerd of its own, driven by the real docker CLI.
package mesh

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
)

// patience is how long what takes a few milliseconds may take under load.
const patience = 15 * time.Second

// cluster is hosts that are in one mesh: the first made it, the others joined.
type cluster struct {
	*daemontest.Cluster
	t testing.TB
}

// newCluster makes one; members of them run etcd (1 or 3).
func newCluster(t *testing.T, hosts, members int, args ...string) *cluster {
	t.Helper()
	c := &cluster{daemontest.NewCluster(t, hosts, args...), t}
	c.init()
	for i := 1; i < hosts; i++ {
		c.join(i)
	}
	for i := 1; i < members; i++ {
		c.on(0, "mesh", "promote", c.name(i))
	}
	return c
}

func (c *cluster) name(i int) string { return c.Daemons[i].Host.Name }

// on runs a linkspan verb on a host.
func (c *cluster) on(i int, args ...string) string {
	c.t.Helper()
	r := c.Daemons[i].Linkspan(args...)
	if r.Code != 0 {
		c.t.Fatalf("%s: linkspan %s: exit code %d: %s%s", c.name(i), strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

func (c *cluster) init() {
	c.t.Helper()
	c.on(0, "mesh", "init", "--listen", c.Addr(0), "--name", c.name(0))
	c.t.Cleanup(func() { c.leave(0) })
}

func (c *cluster) token() string {
	c.t.Helper()
	out := c.on(0, "mesh", "token", "create")
	for _, w := range strings.Fields(out) {
		if strings.HasPrefix(w, "lsm1-") {
			return w
		}
	}
	c.t.Fatalf("no token in %q", out)
	return ""
}

func (c *cluster) join(i int) {
	c.t.Helper()
	c.on(i, "mesh", "join", c.Addr(0)+":2380", "--token", c.token(), "--name", c.name(i))
	c.t.Cleanup(func() { c.leave(i) })
}

// leave takes a host out at the end, so that the leak check finds it as it was; a test
// may have done so itself.
func (c *cluster) leave(i int) {
	d := c.Daemons[i]
	if d.PID() == 0 {
		return
	}
	if ids := strings.Fields(d.TryDocker("ps", "-aq").Stdout); len(ids) > 0 {
		d.TryDocker(append([]string{"rm", "-f", "-v"}, ids...)...)
	}
	for _, n := range strings.Fields(d.TryDocker("network", "ls", "-q", "--filter", "type=custom").Stdout) {
		d.TryDocker("network", "rm", n) // the last host's attempt succeeds
	}
	d.Linkspan("mesh", "leave", "--force")
}

// reaches waits until a container on host i reaches a name (or address) with ping.
func (c *cluster) reaches(i int, container, name string) {
	c.t.Helper()
	var last daemontest.Result
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if last = c.Daemons[i].TryDocker("exec", container, "ping", "-c", "1", "-W", "1", name); last.Code == 0 {
			return
		}
	}
	c.t.Fatalf("%s on %s does not reach %s: %s%s", container, c.name(i), name, last.Stdout, last.Stderr)
}

// resolves waits until a name has, in a container on host i, the address, or, for "",
// none.
func (c *cluster) resolves(i int, container, name, addr string) time.Duration {
	c.t.Helper()
	start := time.Now()
	var out string
	for time.Since(start) < patience {
		r := c.Daemons[i].TryDocker("exec", container, "getent", "hosts", name)
		out = r.Stdout
		if got, _, _ := strings.Cut(out, " "); got == addr {
			return time.Since(start)
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.t.Fatalf("%s on %s: %s is %q, want %q", container, c.name(i), name, out, addr)
	return 0
}

// inspect reads one network as a host knows it.
func (c *cluster) inspect(i int, network string) (n struct {
	ID, Scope, Driver string
	Options           map[string]string
	Peers             []struct{ Name, IP string }
	Containers        map[string]struct{ Name string }
}) {
	c.t.Helper()
	var all []json.RawMessage
	if err := json.Unmarshal([]byte(c.Daemons[i].Docker("network", "inspect", network)), &all); err != nil || len(all) != 1 {
		c.t.Fatalf("network inspect %s on %s: %v", network, c.name(i), err)
	}
	if err := json.Unmarshal(all[0], &n); err != nil {
		c.t.Fatal(err)
	}
	return n
}
