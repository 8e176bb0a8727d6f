// Package repair proves `linkspan plan` and `linkspan reconcile` on a real host:
// what someone takes away is told and put back, what is not ours is left alone, and two
// daemons do not see each other's objects.
package repair

import (
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
)

func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{}) }

// reached asks the container's server from the other machine, once.
func reached(d *daemontest.Daemon) bool {
	_, err := d.Machine.Try("curl", "-sf", "--max-time", "1", "http://"+daemontest.HostAddr+":8080/whoami")
	return err == nil
}

func TestReconcile(t *testing.T) {
	d := daemontest.Shared(t)
	d.Docker("run", "-d", "--name", "web", "-p", "8080:80", "nginx")
	d.Until(10*time.Second, "the server answers", func() bool { return reached(d) })
	veth := hostEnd(d)
	if veth == "" {
		t.Fatal("no veth in docker0")
	}
	if r := d.Linkspan("reconcile", "--dry-run"); r.Code != 0 || !strings.Contains(r.Stdout, "the kernel has what is declared") {
		t.Fatalf("before any harm: %d %s%s", r.Code, r.Stdout, r.Stderr)
	}
	for _, c := range []struct {
		name string
		harm []string
		told string
	}{
		{"the ruleset flushed", []string{"nft", "flush", "ruleset"}, "nft"},
		{"the veth deleted", []string{"ip", "link", "delete", veth}, "ip link add " + veth},
		{"the veth taken out of the bridge", []string{"ip", "link", "set", veth, "nomaster"}, "master docker0"},
		{"the veth down", []string{"ip", "link", "set", veth, "down"}, "ip link set " + veth + " up"},
		{"the gateway's address", []string{"ip", "addr", "flush", "dev", "docker0"}, "ip addr add 172.17.0.1/16 dev docker0"},
		{"the bridge deleted", []string{"ip", "link", "delete", "docker0"}, "ip link add docker0"},
		{"the bridge down", []string{"ip", "link", "set", "docker0", "down"}, "ip link set docker0 up"},
		{"forwarding", []string{"sysctl", "-qw", "net.ipv4.ip_forward=0"}, "ip_forward"},
		{"route_localnet", []string{"sysctl", "-qw", "net.ipv4.conf.docker0.route_localnet=0"}, "route_localnet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := d.For(t)
			d.Host.Run(c.harm...)
			// Told, and not done.
			if r := d.Linkspan("reconcile", "--dry-run"); r.Code != 2 || !strings.Contains(r.Stdout, c.told) {
				t.Errorf("dry run: exit code %d, want 2 and %q in\n%s%s", r.Code, c.told, r.Stdout, r.Stderr)
			}
			if r := d.Linkspan("reconcile"); r.Code != 0 {
				t.Errorf("reconcile: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
			if r := d.Linkspan("reconcile", "--dry-run"); r.Code != 0 {
				t.Errorf("still different:\n%s%s", r.Stdout, r.Stderr)
			}
			d.Until(5*time.Second, "the server answers again", func() bool { return reached(d) })
			if out := d.Docker("exec", "web", "ping", "-c", "1", "-W", "2", daemontest.MachineAddr); !strings.Contains(out, "1 received") {
				t.Errorf("the way out: %s", out)
			}
		})
	}
}

// hostEnd is the container's plug in docker0.
func hostEnd(d *daemontest.Daemon) string {
	for l := range strings.Lines(d.Host.Run("ip", "-o", "link", "show", "master", "docker0")) {
		f := strings.Fields(l)
		name, _, _ := strings.Cut(strings.TrimSuffix(f[1], ":"), "@")
		return name
	}
	return ""
}

// TestPlan: what a run would make is told and not made; what is told is what
// then is there.
func TestPlan(t *testing.T) {
	d := daemontest.Shared(t)
	d.Docker("pull", "-q", "nginx")
	before := d.Host.Run("sh", "-c", "ip -br link; nft -s list ruleset")
	r := d.Linkspan("plan", "run", "--name", "web", "-p", "8080:80", "nginx")
	if r.Code != 0 {
		t.Fatalf("plan: %s", r.Stderr)
	}
	for _, want := range []string{"ip link add veth", "master docker0", "ip addr add 172.17.0.", "publish4_any { tcp . 8080 : 172.17.0.", "# host port 8080/tcp leads to port 80 of web"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("the plan lacks %q:\n%s", want, r.Stdout)
		}
	}
	if now := d.Host.Run("sh", "-c", "ip -br link; nft -s list ruleset"); now != before {
		t.Errorf("the plan made something:\n%s\nbefore:\n%s", now, before)
	}
	if out := d.Docker("ps", "-aq"); out != "" {
		t.Errorf("the plan made a container: %s", out)
	}
	for mode, want := range map[string]string{"none": "unshare --net=", "host": ""} {
		r := d.Linkspan("plan", "run", "--net", mode, "nginx")
		if r.Code != 0 || !strings.Contains(r.Stdout, want) || strings.Contains(r.Stdout, "veth") {
			t.Errorf("plan of --net=%s: %d\n%s%s", mode, r.Code, r.Stdout, r.Stderr)
		}
	}
}

// TestNeighbours: two daemons in two namespaces, with the same names and
// addresses, and neither touches what is the other's or a stranger's.
func TestNeighbours(t *testing.T) {
	w := daemontest.NewWorld(t)
	a := daemontest.Start(t, daemontest.Options{World: w})
	other := daemontest.NewWorld(t)
	b := daemontest.Start(t, daemontest.Options{World: other})
	for _, d := range []*daemontest.Daemon{a, b} {
		d.Docker("run", "-d", "--name", "web", "-p", "8080:80", "nginx")
		d.Until(10*time.Second, "the server answers", func() bool { return reached(d) })
	}
	// A stranger's things on a's host.
	a.Host.Run("ip", "link", "add", "br-them", "type", "bridge")
	a.Host.Run("nft", "add table inet theirs; add set inet theirs s { type mark; }; add element inet theirs s { 7 }")
	look := func(d *daemontest.Daemon) string {
		return d.Host.Run("sh", "-c", "ip -o link | grep -v veth | cut -d: -f2; ip -4 route | sed 's/ linkdown//'; ip rule; nft -s list table inet theirs 2>/dev/null")
	}
	beforeA, beforeB := look(a), b.Host.Run("sh", "-c", "ip -br link; ip -4 route; nft -s list ruleset")
	a.Docker("rm", "-f", "web")
	if r := a.Linkspan("reconcile"); r.Code != 0 {
		t.Errorf("reconcile: %s%s", r.Stdout, r.Stderr)
	}
	a.Restart()
	if now := look(a); now != beforeA {
		t.Errorf("a's host, strangers included:\n%s\nbefore:\n%s", now, beforeA)
	}
	if now := b.Host.Run("sh", "-c", "ip -br link; ip -4 route; nft -s list ruleset"); now != beforeB {
		t.Errorf("b's host:\n%s\nbefore:\n%s", now, beforeB)
	}
	if !reached(b) {
		t.Error("b's server does not answer any more")
	}
	// A second one in a's namespace is refused, and says who is there.
	c := *a
	if r := c.SecondDaemon(); !strings.Contains(r, "runs in this network namespace already (pid ") {
		t.Errorf("a second daemon in one namespace: %s", r)
	}
}
