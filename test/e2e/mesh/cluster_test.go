// Package mesh walks networks that span hosts: several hosts on a simulated LAN, each
// with a real daemon and a containerd of its own, driven by the real docker CLI. Every
// test has a LAN of its own and mostly waits: all are parallel.
package mesh

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// patience is how long what takes a few milliseconds may take under load.
const patience = lab.Patience

// cluster is hosts that are in one mesh: the first made it, the others joined.
type cluster struct {
	*daemontest.Cluster
	t testing.TB
}

// newCluster makes one; members of them run etcd (1 or 3).
func newCluster(t *testing.T, hosts, members int, args ...string) *cluster {
	t.Helper()
	c := &cluster{daemontest.NewCluster(t, hosts, args...), t}
	c.form()
	for i := 1; i < members; i++ {
		c.on(0, "mesh", "promote", c.name(i))
	}
	// Of two members none may die: it is waited for the third.
	if whole := fmt.Sprintf("healthy, %d of %d members answer", members, members); members > 1 {
		c.Daemons[0].Until(4*patience, whole, func() bool { return strings.Contains(c.status(0), whole) })
	}
	return c
}

// form has the first host make the mesh, and the others join.
func (c *cluster) form() {
	c.t.Helper()
	c.init()
	for i := 1; i < len(c.Daemons); i++ {
		c.join(i)
	}
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

// status is what mesh status prints; its exit code says whether all is well.
func (c *cluster) status(i int) string {
	c.t.Helper()
	return c.Daemons[i].Linkspan("mesh", "status").Stdout
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

// answer is what netprobe in a container hears of another one's, or why it hears nothing.
func (c *cluster) answer(i int, container, name string) string {
	c.t.Helper()
	r := c.Daemons[i].TryDocker("exec", container, "/netprobe", "dial", "-timeout", "1s", "tcp/"+name+":9000")
	return r.Stdout + r.Stderr
}

// until waits until that holds a text.
func (c *cluster) until(i int, container, name, text string) {
	c.t.Helper()
	var last string
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if last = c.answer(i, container, name); strings.Contains(last, text) {
			return
		}
	}
	c.t.Fatalf("%s on %s asks %s: %q, want %q", container, c.name(i), name, last, text)
}

// reaches waits until netprobe in a container on host i is answered by that of a name.
func (c *cluster) reaches(i int, container, name string) {
	c.t.Helper()
	c.until(i, container, name, "src=")
}

// unknown waits until a name is nobody's.
func (c *cluster) unknown(i int, container, name string) {
	c.t.Helper()
	c.until(i, container, name, "no such host")
}

// pings waits until a container on host i hears an answer from a name, all of its packets'.
func (c *cluster) pings(i int, container, name string) {
	c.t.Helper()
	c.Daemons[i].Until(patience, container+" pings "+name, func() bool {
		return strings.Contains(c.Daemons[i].TryDocker("exec", container, "ping", "-c", "1", "-W", "2", name).Stdout, " 0% packet loss")
	})
}

// removed waits until a network can be removed: a host may not have heard yet that nobody
// is on it any more.
func (c *cluster) removed(i int, network string) {
	c.t.Helper()
	c.Daemons[i].Until(patience, network+" is removed", func() bool { return c.Daemons[i].TryDocker("network", "rm", network).Code == 0 })
}

// leads waits until an overlay network's VXLAN device on host i leads to as many MACs as the
// network has containers on other hosts.
func (c *cluster) leads(i int, network string, want int) {
	c.t.Helper()
	d := c.Daemons[i]
	id := d.Docker("network", "inspect", "-f", "{{.Id}}", network)[:12]
	d.Until(patience, fmt.Sprintf("%s: the FDB of %s has %d entries", c.name(i), network, want), func() bool {
		out, _ := d.Host.Try("bridge", "fdb", "show", "dev", "vx-"+id)
		got := 0
		for _, l := range strings.Split(out, "\n") {
			if strings.Contains(l, " dst ") && !strings.HasPrefix(l, "00:00:00:00:00:00") {
				got++
			}
		}
		return got == want
	})
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
