package mesh

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestBadWires: a host whose wire loses packets, is slow, far or deaf stays of the mesh.
// What passes the wire at all, passes; conversations outlive it; and once it is whole,
// everyone knows who came and who went meanwhile, and nothing of them is left.
func TestBadWires(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, 3)
	c.crowd("shop", "-d", "overlay")
	bad := c.Daemons[2]
	healed := func() { c.Switch.Heal(bad.Host) }
	for i, w := range []struct {
		name  string
		begin func() (end func())
		open  bool // packets pass, now and then
	}{
		{"30 % loss", func() func() { c.Switch.Lose(bad.Host, 30); return healed }, true},
		{"50 Mbit/s", func() func() { c.Switch.Throttle(bad.Host, "50mbit"); return healed }, true},
		{"100 ms away", func() func() { return c.Switch.Delay(bad.Host, 100*time.Millisecond) }, true},
		{"one way only", func() func() { c.Switch.Deafen(bad.Host); return healed }, false},
	} {
		gone, far, near := fmt.Sprint("gone", i), fmt.Sprint("far", i), fmt.Sprint("near", i)
		bad.Docker("run", "-d", "--name", gone, "--network", "shop", "netprobe")
		c.reaches(0, "c1", gone)
		var said strings.Builder
		talk := c.Daemons[0].DockerCommand("exec", "c1", "/netprobe", "dial", "-n", "60", "-interval", "100ms", "-timeout", "100s", "tcp/c3:9000")
		talk.Stdout, talk.Stderr = &said, &said
		if err := talk.Start(); err != nil {
			t.Fatal(err)
		}
		end := w.begin()
		bad.Docker("rm", "-f", gone)
		// It has addresses of its own, also while nobody can be asked.
		bad.Docker("run", "-d", "--name", far, "--network", "shop", "netprobe")
		c.reaches(2, "c3", far)
		c.Daemons[0].Docker("run", "-d", "--name", near, "--network", "shop", "netprobe")
		c.reaches(1, "c2", near)
		if w.open {
			c.reaches(1, "c2", far)
			c.reaches(2, "c3", near)
		} else {
			c.Daemons[0].Until(2*patience, "who cannot be spoken to is told", func() bool {
				return strings.Contains(c.status(0), "host3 (10.0.0.3)")
			})
		}
		end()
		if err := talk.Wait(); err != nil {
			t.Errorf("%s: the conversation broke: %v: %s", w.name, err, said.String())
		}
		for from, name := range []string{"c1", "c2", "c3"} {
			c.reaches(from, name, far)
			c.reaches(from, name, near)
			c.unknown(from, name, gone)
		}
		c.apart()
		bad.Docker("rm", "-f", far)
		c.Daemons[0].Docker("rm", "-f", near)
		for host := range c.Daemons {
			c.leads(host, "shop", 2)
		}
		t.Log(w.name)
	}
}
