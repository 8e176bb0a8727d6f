package daemontest

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m, Options{}) }

// TestContainer: a published server is reached from the other machine, and
// nothing of it stays.
func TestContainer(t *testing.T) {
	d := Shared(t)
	d.Docker("run", "-d", "--name", "probe", "-p", "9000:9000", "netprobe")
	d.Until(10*time.Second, "the machine reaches the port", func() bool {

		_, err := d.Machine.Try("bash", "-c", "echo hello > /dev/tcp/"+HostAddr+"/9000")
		return err == nil
	})
	if out := d.Docker("port", "probe"); !strings.Contains(out, "9000/tcp -> 0.0.0.0:9000") {
		t.Errorf("port: %q", out)
	}
	d.Docker("rm", "-f", "probe")
}

// TestRestarts: a daemon that was killed, and one that was stopped, come back to
// running containers.
func TestRestarts(t *testing.T) {
	d := Shared(t)
	d.Docker("run", "-d", "--name", "probe", "-p", "9000:9000", "netprobe")
	before := d.PID()
	d.Kill9()
	if d.PID() != 0 {
		t.Error("killed and still there")
	}
	d.Run()
	if d.PID() == before {
		t.Error("the same process")
	}
	if out := d.Docker("ps", "-q", "-f", "status=running"); out == "" {
		t.Error("the container did not outlive the daemon")
	}
	if d.KeeperPID() == 0 {
		t.Error("no keeper")
	}
	d.Refused([]string{"No such container: nobody"}, "inspect", "--type", "container", "nobody")
}

// TestWatches: what a running container is made of is seen, each kind of it.
func TestWatches(t *testing.T) {
	d := Shared(t)
	look := func() map[string]string {
		seen := map[string]string{}
		for _, w := range d.Watches() {
			lines, err := w.List()
			if err != nil {
				t.Errorf("%s: %v", w.Name, err)
			}
			slices.Sort(lines)
			seen[w.Name] = strings.Join(lines, "\n")
		}
		return seen
	}
	before := look()
	d.Docker("run", "-d", "-p", "9000:9000", "-v", "kept:/kept", "netprobe")
	for name, now := range look() {
		changed := now != before[name]
		switch name {
		case "host links", "host nft", "host processes", "processes with " + d.Dir, "mounts below " + d.Dir, "pinned namespaces",
			"keeper's open files", "containers", "volumes", "containerd containers", "containerd tasks", "containerd snapshots":
			if !changed {
				t.Errorf("%s: nothing of the container is seen in %q", name, now)
			}
		}
	}
}
