package mesh

import (
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/internal/testlog"
)

// ours are the marks of what Linkspan makes in ip-monitor(8) and bridge(8): its routes, its
// neighbours and FDB entries. What the kernel learns by itself comes and goes.
var ours = []string{"proto 76", "PERMANENT", "NOARP", "static", "permanent"}

// byHand is a route of nobody's (RFC 5737).
const byHand = "203.0.113.0/24"

// TestRestartUnseen: of a daemon that dies and comes back neither its own host's kernel nor
// another's sees anything: no way is taken away and put back, by which packets were lost.
func TestRestartUnseen(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, 1)
	networks := [][]string{{"over", "-d", "overlay"}, {"flat", "-d", "routed"}, {"secure", "-d", "overlay", "-o", "encrypted"}}
	for _, n := range networks {
		c.Daemons[0].Docker(slices.Concat([]string{"network", "create"}, n[1:], n[:1])...)
	}
	for _, n := range networks {
		for i, d := range c.Daemons {
			d.Until(patience, n[0]+" on "+c.name(i), func() bool { return strings.Contains(d.Docker("network", "ls"), n[0]) })
			d.Docker("run", "-d", "--name", n[0]+c.name(i), "--network", n[0], "netprobe")
		}
		c.reaches(0, n[0]+"host1", n[0]+"host2")
		c.reaches(1, n[0]+"host2", n[0]+"host1")
	}
	c.Daemons[1].Until(patience, "all hosts are well", func() bool { return c.Daemons[1].Linkspan("mesh", "status").Code == 0 })
	// What is known of others is written to the disk behind, many news at once.
	time.Sleep(5 * time.Second)
	for i, d := range c.Daemons {
		var seen []*testlog.Log
		var ends []func()
		for _, at := range c.Daemons {
			for _, cmd := range [][]string{{"bridge", "monitor", "fdb"}, {"ip", "monitor", "route", "neigh"}} {
				var out testlog.Log
				m := at.Host.Command(cmd...)
				m.Stdout = &out
				if err := m.Start(); err != nil {
					t.Fatal(err)
				}
				seen, ends = append(seen, &out), append(ends, func() { _ = m.Process.Kill(); _ = m.Wait() })
			}
			// It listens: what is changed by hand is seen.
			at.Until(patience, "changes are seen", func() bool {
				at.Host.Run("ip", "route", "add", "unreachable", byHand)
				at.Host.Run("ip", "route", "del", "unreachable", byHand)
				return strings.Contains(seen[len(seen)-1].String(), byHand)
			})
		}
		d.Kill9()
		d.Run()
		for from := range c.Daemons {
			for _, n := range networks {
				c.reaches(from, n[0]+c.name(from), n[0]+c.name(1-from))
			}
		}
		time.Sleep(2 * time.Second) // what comes late
		for _, end := range ends {
			end()
		}
		for k, out := range seen {
			for line := range strings.Lines(out.String()) {
				if slices.ContainsFunc(ours, func(mark string) bool { return strings.Contains(line, mark) }) {
					t.Errorf("%s restarts, and %s sees: %s", c.name(i), c.name(k/2), line)
				}
			}
		}
	}
}
