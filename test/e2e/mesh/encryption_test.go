package mesh

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// encrypted makes two hosts with a server on host1 and a client on host2, on an encrypted
// network, that talk.
func encrypted(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t, 2, 1)
	one, two := c.Daemons[0], c.Daemons[1]
	one.Docker("network", "create", "-d", "overlay", "-o", "encrypted", "secret")
	one.Docker("run", "-d", "--name", "server", "--network", "secret", "netprobe")
	two.Until(patience, "the network on host2", func() bool {
		return strings.Contains(two.Docker("network", "ls", "--format", "{{.Name}}"), "secret")
	})
	two.Docker("run", "-d", "--name", "client", "--network", "secret", "netprobe")
	c.answers()
	return c
}

// answers waits until the client is answered.
func (c *cluster) answers() time.Duration {
	c.t.Helper()
	began := time.Now()
	c.Daemons[1].Until(2*patience, "an answer", func() bool {
		return c.Daemons[1].TryDocker("exec", "client", "/netprobe", "dial", "-timeout", "1s", "tcp/server:9000").Code == 0
	})
	return time.Since(began)
}

// TestRotate: both hosts get new keys, on demand, under a conversation that does not break.
func TestRotate(t *testing.T) {
	c := encrypted(t)
	talk := c.Daemons[1].DockerCommand("exec", "client", "/netprobe", "dial", "-n", "300", "-interval", "10ms", "-timeout", "2s", "tcp/server:9000")
	var out strings.Builder
	talk.Stdout, talk.Stderr = &out, &out
	if err := talk.Start(); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		time.Sleep(300 * time.Millisecond)
		c.on(i%2, "mesh", "rotate")
	}
	if err := talk.Wait(); err != nil {
		t.Errorf("the conversation broke: %v: %s", err, out.String()[max(0, out.Len()-300):])
	}
	for i, d := range c.Daemons {
		st, err := os.Stat(d.Data + "/mesh/wireguard.key")
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("the key of %s: %v, %v", c.name(i), st, err)
		}
	}
}

// TestKeeperOfTunnels: the keeper that encrypts is killed; the next one does.
func TestKeeperOfTunnels(t *testing.T) {
	c := encrypted(t)
	for _, d := range c.Daemons {
		if err := syscall.Kill(d.KeeperPID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		t.Logf("answered again after %v", c.answers())
	}
}

// why asks a host's linkspan.
func (c *cluster) why(i int, from, to string) (a struct {
	Code, Sentence, Cure, Advice, Verdict string
	Steps                                 []struct{ Part, Where, Look, Found, State string }
}) {
	c.t.Helper()
	r := c.Daemons[i].Linkspan("why", "--json", from, to)
	if err := json.Unmarshal([]byte(r.Stdout), &a); err != nil {
		c.t.Fatalf("why %s %s on %s: %v: %s%s", from, to, c.name(i), err, r.Stdout, r.Stderr)
	}
	return a
}

// TestWhyAcross: each host tells its half of the way, whichever path it is; what is
// wrong is found, and mended by the cure as it is printed.
func TestWhyAcross(t *testing.T) {
	c := newCluster(t, 2, 1)
	one, two := c.Daemons[0], c.Daemons[1]
	for _, n := range []struct {
		name   string
		create []string
		path   string
		port   int // UDP, of what goes over the wire; 0: the packets themselves
	}{
		{"plain", []string{"-d", "overlay"}, "through VXLAN", 4789}, {"secret", []string{"-d", "overlay", "-o", "encrypted"}, "encrypted by WireGuard", 51871},
		{"flat", []string{"-d", "routed"}, "a direct route", 0}, {"flatsecret", []string{"-d", "routed", "-o", "encrypted"}, "encrypted by WireGuard", 51871},
	} {
		t.Run(n.name, func(t *testing.T) {
			c := &cluster{c.Cluster, t}
			one.Docker(append(append([]string{"network", "create"}, n.create...), n.name)...)
			one.Docker("run", "-d", "--name", "server", "--network", n.name, "netprobe")
			two.Until(patience, "the network on host2", func() bool {
				return strings.Contains(two.Docker("network", "ls", "--format", "{{.Name}}"), n.name)
			})
			two.Docker("run", "-d", "--name", "client", "--network", n.name, "netprobe")
			defer func() {
				two.Docker("rm", "-f", "client")
				one.Docker("rm", "-f", "server")
				one.Docker("network", "rm", n.name)
			}()
			c.answers()
			healthy := func(when string) {
				t.Helper()
				for i, q := range [][2]string{{"server", "client"}, {"client", "server:9000"}} {
					if a := c.why(i, q[0], q[1]); a.Code != "ok" || !strings.Contains(a.Sentence, n.path) {
						t.Errorf("%s: why %v on %s: %s: %s\n%+v", when, q, c.name(i), a.Code, a.Sentence, a.Steps)
					}
				}
			}
			healthy("at first")
			if r := two.Linkspan("why", "server", "client"); r.Code == 0 || !strings.Contains(r.Stderr, "on host host1") {
				t.Errorf("from the other end: %d %s", r.Code, r.Stderr)
			}
			for _, hook := range []string{"input", "output"} {
				match := fmt.Sprintf("udp dport %d", n.port)
				if n.port == 0 {
					match, hook = "tcp dport 9000", "forward"
				}
				two.Host.Run("nft", "add", "table", "ip", "wall")
				two.Host.Run("nft", "add", "chain", "ip", "wall", "c", fmt.Sprintf("{ type filter hook %s priority 10; }", hook))
				two.Host.Run("nft", "add", "rule", "ip", "wall", "c", match, "drop")
				a := c.why(1, "client", "server:9000")
				if a.Code != "host-firewall" || a.Cure == "" || !strings.Contains(a.Sentence, match) {
					t.Errorf("a firewall that drops %s in %s: %s: %s\n%+v", match, hook, a.Code, a.Sentence, a.Steps)
				} else {
					two.Host.Run("sh", "-c", a.Cure)
					healthy("after the cure of " + hook)
					if took := c.answers(); took > patience {
						t.Errorf("answered only after %v", took)
					}
				}
				two.Host.Run("nft", "delete", "table", "ip", "wall")
			}
		})
	}
	t.Run("a host that is gone", func(t *testing.T) {
		c := &cluster{c.Cluster, t}
		one.Docker("network", "create", "-d", "overlay", "last")
		one.Docker("run", "-d", "--name", "near", "--network", "last", "netprobe")
		two.Until(patience, "the network on host2", func() bool {
			return strings.Contains(two.Docker("network", "ls", "--format", "{{.Name}}"), "last")
		})
		two.Docker("run", "-d", "--name", "far", "--network", "last", "netprobe")
		one.Until(patience, "far is known on host1", func() bool { return c.why(0, "near", "far:9000").Code == "ok" })
		c.Switch.Cut(two.Host)
		one.Until(3*patience, "host2 is silent", func() bool {
			code := c.why(0, "near", "far:9000").Code
			return code == "peer-silent" || code == "gateway-unreachable"
		})
		c.Switch.Mend(two.Host)
		one.Until(3*patience, "host2 is back", func() bool { return c.why(0, "near", "far:9000").Code == "ok" })
		two.Docker("rm", "-f", "far")
		one.Docker("rm", "-f", "near")
		one.Until(patience, "the network goes", func() bool { return one.TryDocker("network", "rm", "last").Code == 0 })
	})
}
