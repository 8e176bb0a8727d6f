package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/golden"
)

// spanScenarios lie on two hosts of a mesh; a line begins with the host on which it is typed
// ("host1$ docker …"), and a page shows what host1 then has.
var spanScenarios = []scenario{
	{file: "mesh", title: "A host in a mesh",
		about: "What it needs whatever its networks are: who may send it tunnelled packets, the VXLAN device that all\nrouted networks share, the WireGuard device of encrypted ones, and a second page, of the bridge family,\nwhich keeps ARP and neighbour discovery out of tunnels.",
		lines: []string{"host1$ linkspan mesh init --listen 10.0.0.1 --name host1", "host2$ linkspan mesh join 10.0.0.1:2380 --token TOKEN --name host2"}},
	{file: "overlay", title: "An overlay network on two hosts",
		about: "A bridge with a VXLAN device as one of its ports, and for each container elsewhere: its MAC address\nleads to its host, and to the tunnel; its address is a neighbour that the bridge answers for.",
		lines: []string{"host1$ docker network create -d overlay --subnet 192.168.0.0/16 shop", "host1$ docker run -d --name c1 --network shop --ip 192.168.1.1 netprobe",
			"host2$ docker run -d --name c3 --network shop --ip 192.168.2.1 netprobe"}},
	{file: "overlay-encrypted", title: "An encrypted overlay network",
		about: "The same inside of WireGuard: the tunnel's ends are the hosts' addresses in there, and the page drops\nwhat would come or go in plain text.",
		lines: []string{"host1$ docker network create -d overlay -o encrypted --subnet 192.168.0.0/16 secret", "host1$ docker run -d --name c1 --network secret --ip 192.168.1.1 netprobe",
			"host2$ docker run -d --name c3 --network secret --ip 192.168.2.1 netprobe"}},
	{file: "routed", title: "A routed network on two hosts",
		about: "The hosts share a link: a plain route leads to the other's block of addresses. A container has its\naddress alone, and its host has a route to it; what nobody has leads nowhere.",
		lines: []string{"host1$ docker network create -d routed --subnet 192.168.0.0/16 flat", "host1$ docker run -d --name c1 --network flat --ip 192.168.1.1 netprobe",
			"host2$ docker run -d --name c3 --network flat --ip 192.168.2.1 netprobe"}},
}

// TestSpanPages makes them.
func TestSpanPages(t *testing.T) {
	c := daemontest.NewCluster(t, 2)
	one := c.Daemons[0]
	t.Cleanup(func() {
		empty(c, t)
		for _, d := range slices.Backward(c.Daemons) {
			d.Linkspan("mesh", "leave", "--force")
		}
	})
	token := ""
	for _, s := range spanScenarios {
		t.Run(s.file, func(t *testing.T) {
			one := one.For(t)
			before := look(t, one)
			for _, l := range s.lines {
				host, line, _ := strings.Cut(l, "$ ")
				d := c.Daemons[int(host[len(host)-1]-'1')].For(t)
				words := strings.Fields(strings.ReplaceAll(line, "TOKEN", token))
				if words[0] == "docker" {
					d.Until(within, "it is known here", func() bool { return d.TryDocker(words[1:]...).Code == 0 || gone(d, words) })
					continue
				}
				if r := d.Linkspan(words[1:]...); r.Code != 0 {
					t.Fatalf("%s: %s%s", l, r.Stdout, r.Stderr)
				} else if i := strings.Index(r.Stdout, "lsm1-"); i >= 0 && token == "" {
					token, _, _ = strings.Cut(r.Stdout[i:], "\n")
					token = strings.Fields(token)[0]
				}
			}
			if golden.Update() {
				time.Sleep(5 * time.Second) // what other hosts tell, and the keeper makes, comes a little later
			}
			compare(t, s.file+".md", func() (string, string) {
				now := look(t, one)
				return s.page(before, now, ""), now.damage
			})
			empty(c, t)
		})
	}
}

// empty removes containers, then networks.
func empty(c *daemontest.Cluster, t *testing.T) {
	t.Helper()
	for _, d := range c.Daemons {
		d := d.For(t)
		if ids := strings.Fields(d.Docker("ps", "-aq")); len(ids) > 0 {
			d.Docker(append([]string{"rm", "-f"}, ids...)...)
		}
	}
	one := c.Daemons[0].For(t)
	for _, n := range strings.Fields(one.Docker("network", "ls", "-q", "--filter", "type=custom")) {
		one.Until(within, "the network has no container left", func() bool { return one.TryDocker("network", "rm", n).Code == 0 })
	}
}

// gone takes away what a `docker run` that failed has left, so that it can be said again:
// the other host has not heard of the network yet.
func gone(d *daemontest.Daemon, words []string) bool {
	if i := slices.Index(words, "--name"); i >= 0 {
		d.TryDocker("rm", "-f", words[i+1])
	}
	return false
}

// spanIndex are their lines of the README.
func spanIndex() (lines string, files []string) {
	for _, s := range spanScenarios {
		lines += fmt.Sprintf("- [%s](%s.md)\n", s.title, s.file)
		files = append(files, s.file+".md")
	}
	return lines, files
}
