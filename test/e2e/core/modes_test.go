package core

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
)

// TestHost: servers in the host's own stack are seen by its ss, and reached.
func TestHost(t *testing.T) {
	w := shared(t)
	w.Docker("run", "--net=host", "--name", "nginx", "-itd", "nginx")
	w.Docker("run", "--net=host", "--name", "redis", "-itd", "redis")
	w.Until(20*time.Second, "both listen", func() bool {
		out := w.Host.Run("ss", "-lntpH")
		return strings.Contains(out, ":80 ") && strings.Contains(out, "nginx") && strings.Contains(out, ":6379 ") && strings.Contains(out, "redis")
	})
	if out := w.Machine.Run("curl", "-sI", "http://"+daemontest.HostAddr+"/"); !strings.Contains(out, "200 OK") {
		t.Errorf("curl says %s", out)
	}
	host, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", w.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if got := w.netns("nginx"); got != host {
		t.Errorf("nginx is in %s, the host is %s", got, host)
	}
	if out := w.Docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}|{{.NetworkSettings.Networks.host.IPAddress}}|{{.HostConfig.NetworkMode}}", "nginx"); out != "||host" {
		t.Errorf("inspect: %s", out)
	}
	if r := w.TryDocker("run", "-d", "--net=host", "-p", "81:81", "--name", "warned", "busybox", "sleep", "100"); r.Code != 0 || !strings.Contains(r.Stderr, "discarded when using host network mode") {
		t.Errorf("-p with host: %+v", r)
	}
}

// TestNone: loopback only, for a person to wire by hand; the wiring stays.
func TestNone(t *testing.T) {
	w := shared(t)
	id := w.Docker("run", "-d", "--net=none", "--name", "lonely", "busybox", "netprobe", "serve", "tcp/:9000")
	if out := w.Docker("exec", "lonely", "ip", "-o", "link"); len(strings.Split(out, "\n")) != 1 || !strings.Contains(out, "lo:") || !strings.Contains(out, "UP") {
		t.Errorf("links: %s", out)
	}
	if r := w.TryDocker("exec", "lonely", "ping", "-c1", "-W1", "172.17.0.1"); r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, "Network is unreachable") {
		t.Errorf("ping: %+v", r)
	}
	key := w.Docker("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "lonely")
	pinned, err := os.Stat(key)
	own, oerr := os.Stat("/proc/" + w.pid("lonely") + "/ns/net")
	if err != nil || oerr != nil || !os.SameFile(pinned, own) {
		t.Errorf("SandboxKey %q is not the container's namespace: %v, %v", key, err, oerr)
	}
	// As the seed does it.
	link := "/run/netns/" + id
	w.Host.Run("mkdir", "-p", "/run/netns")
	w.Host.Run("ln", "-sf", "/proc/"+w.pid("lonely")+"/ns/net", link)
	t.Cleanup(func() { os.Remove(link) })
	for _, line := range []string{
		"ip link add veth01 type veth peer name veth02",
		"ip link set veth01 netns " + id,
		"ip addr add 10.10.0.1/24 dev veth02",
		"ip link set veth02 up",
		"ip netns exec " + id + " ip addr add 10.10.0.2/24 dev veth01",
		"ip netns exec " + id + " ip link set veth01 up",
		"ip netns exec " + id + " ip route add default via 10.10.0.1",
	} {
		w.Host.Run(strings.Fields(line)...)
	}
	works := func(when string) {
		t.Helper()
		if out, err := w.Host.Try("ping", "-c1", "-W20", "10.10.0.2"); err != nil {
			t.Errorf("%s: ping from the host: %v\n%s", when, err, out)
		}
		if r := w.TryDocker("exec", "lonely", "ping", "-c1", "-W20", "10.10.0.1"); r.Code != 0 {
			t.Errorf("%s: ping from the container: %+v", when, r)
		}
	}
	works("wired")
	if out := w.reconciled(); !strings.Contains(out, "the kernel has what is declared") {
		t.Errorf("the reconciliation did something:\n%s", out)
	}
	works("after a reconciliation")
	w.Kill9()
	w.Run()
	works("after another daemon's start")
	if regexp.MustCompile(`\bveth02\b`).MatchString(w.Log()) { // ours may begin so
		t.Error("the daemon speaks of a person's wire")
	}
}

// TestShare: containers in another's sandbox: the same eth0 and lo; it lives while
// anyone is in it, and its owner comes back into the same one.
func TestShare(t *testing.T) {
	w := shared(t)
	w.Docker("run", "-d", "--name", "owner", "-p", "8080:9000", "-p", "8091:9100", "busybox", "netprobe", "serve", "tcp/:9000", "tcp/127.0.0.1:9001")
	w.Docker("run", "-d", "--name", "dependent", "--net=container:owner", "busybox", "netprobe", "serve", "tcp/:9100", "tcp/127.0.0.1:9200")
	ns := w.netns("owner")
	same := func(when string) {
		t.Helper()
		for _, c := range []string{"owner", "dependent"} {
			if got := w.netns(c); got != ns {
				t.Errorf("%s: %s is in %s, want %s", when, c, got, ns)
			}
		}
		if a, b := w.Docker("exec", "owner", "ip", "-o", "addr"), w.Docker("exec", "dependent", "ip", "-o", "addr"); a != b || !strings.Contains(a, "eth0") {
			t.Errorf("%s: the owner has\n%s\nthe dependent\n%s", when, a, b)
		}
		// One lo: each reaches what the other has bound on it.
		for c, port := range map[string]string{"owner": "9200", "dependent": "9001"} {
			w.Until(5*time.Second, when+": "+c+" reaches the other on 127.0.0.1", func() bool {
				return strings.Contains(w.TryDocker("exec", c, "netprobe", "dial", "tcp/127.0.0.1:"+port).Stdout, "src=127.0.0.1")
			})
		}
		w.Reached(8080)
		w.Reached(8091)
	}
	same("at first")
	long := w.Talk(8091) // to the dependent, through what the owner published
	addr := w.Docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "owner")
	if out := w.Docker("inspect", "-f", "{{len .NetworkSettings.Networks}} {{.HostConfig.NetworkMode.IsContainer}}", "dependent"); out != "0 true" {
		t.Errorf("dependent: %s", out)
	}
	for what, do := range map[string]func(){
		"docker restart": func() { w.Docker("restart", "-t", "0", "owner") },
		"stop and start": func() { w.Docker("stop", "-t", "0", "owner"); long.On(t); w.Docker("start", "owner") },
		"kill and start": func() {
			w.Docker("kill", "owner")
			w.Docker("wait", "owner")
			long.On(t)
			w.Docker("start", "owner")
		},
		"a new daemon": func() { w.Kill9(); long.On(t); w.Run() },
		"stop, a new daemon, start": func() {
			w.Docker("stop", "-t", "0", "owner")
			w.Kill9()
			w.Run()
			long.On(t)
			w.Docker("start", "owner")
		},
	} {
		do()
		same(what)
		long.On(t)
		if now := w.Docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "owner"); now != addr {
			t.Errorf("%s: the address was %s and is %s", what, addr, now)
		}
	}
	w.Docker("restart", "-t", "0", "dependent")
	same("the dependent restarted")
	long = w.Talk(8091)
	w.Docker("rm", "-f", "owner")
	long.On(t)
	if got := w.netns("dependent"); got != ns {
		t.Errorf("without its owner the dependent is in %s", got)
	}
	w.Reached(8091)
	if out := w.reconciled(); !strings.Contains(out, "the kernel has what is declared") {
		t.Errorf("the reconciliation did something:\n%s", out)
	}
	w.Kill9()
	w.Run()
	long.On(t)
	// Another may not take what is still published.
	w.Refused([]string{"8091"}, "run", "-d", "--name", "late", "-p", "8091:9000", "busybox", "sleep", "100")
	w.Docker("rm", "-f", "late")
	w.Docker("rm", "-f", "dependent")
	w.Docker("run", "-d", "--name", "late", "-p", "8091:9000", "netprobe")
	w.Reached(8091)
}

// TestShareRefused: what can be no one's sandbox.
func TestShareRefused(t *testing.T) {
	w := shared(t)
	w.Docker("create", "--name", "resting", "busybox", "sleep", "100")
	w.Refused([]string{"No such container: nobody"}, "run", "-d", "--net=container:nobody", "busybox", "sleep", "100")
	w.Refused([]string{"cannot join network of a non running container"}, "run", "-d", "--name", "dep", "--net=container:resting", "busybox", "sleep", "100")
	w.Refused([]string{"conflicting options"}, "run", "-d", "--net=container:resting", "-p", "80:80", "busybox", "sleep", "100")
}
