package mesh

import (
	"os"
	"strings"
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
	c.Daemons[1].Until(patience, "an answer", func() bool {
		return c.Daemons[1].TryDocker("exec", "client", "/netprobe", "dial", "-timeout", "1s", "tcp/server:9000").Code == 0
	})
	return time.Since(began)
}

// TestRotate: both hosts get new keys, on demand, under a conversation that does not break.
func TestRotate(t *testing.T) {
	t.Parallel()
	c := encrypted(t)
	talk := c.Daemons[1].DockerCommand("exec", "client", "/netprobe", "dial", "-n", "300", "-interval", "10ms", "-timeout", "60s", "tcp/server:9000")
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
	t.Parallel()
	c := encrypted(t)
	for _, d := range c.Daemons {
		d.KillKeeper()
		t.Logf("answered again after %v", c.answers())
	}
}
