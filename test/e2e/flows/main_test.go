// Package flows tests with a real daemon what is told of packets: which rule dropped
// them and whose they were, who talks to whom, and captures of both sides of NAT.
package flows

import (
	"encoding/json"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
	"linkspan/netns"
)

func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{}) }

// serve runs a container that answers on port 80, tcp and udp, and returns the path of
// its network namespace.
func serve(t testing.TB, d *daemontest.Daemon, name string, flags ...string) string {
	t.Helper()
	d.Docker(append(append([]string{"run", "-d", "--name", name}, flags...), "netprobe", "serve", "tcp/:80", "udp/:80")...)
	d.Until(10*time.Second, name+" listens", func() bool {
		return strings.Count(d.TryDocker("logs", name).Stdout, "listening ") >= 2
	})
	return "/proc/" + d.Docker("inspect", "-f", "{{.State.Pid}}", name) + "/ns/net"
}

// in runs a program in a namespace to its end.
func in(ns string, args ...string) (string, error) {
	out, err := exec.Command("nsenter", append([]string{"--net=" + ns, "--"}, args...)...).CombinedOutput()
	return string(out), err
}

func must(t testing.TB, ns string, args ...string) string {
	t.Helper()
	out, err := in(ns, args...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// dial asks a netprobe and says whether it answered.
func dial(t testing.TB, ns, target string) bool {
	t.Helper()
	_, err := in(ns, daemontest.Netprobe(t), "dial", "-timeout", "400ms", target)
	return err == nil
}

func address(d *daemontest.Daemon, container, network string) string {
	return d.Docker("inspect", "-f", `{{(index .NetworkSettings.Networks "`+network+`").IPAddress}}`, container)
}

// jsonLines reads one value per line.
func jsonLines[T any](t testing.TB, text string) (all []T) {
	t.Helper()
	for l := range strings.Lines(text) {
		var v T
		if err := json.Unmarshal([]byte(l), &v); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		all = append(all, v)
	}
	return all
}

// dialIn opens a connection in a namespace, reads the server's greeting and keeps it.
func dialIn(t testing.TB, ns, addr string, c *net.Conn) {
	t.Helper()
	err := netns.Do(ns, func() (err error) {
		*c, err = (&net.Dialer{Timeout: lab.Patience}).Dial("tcp", addr)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", addr, err)
	}
}

// linkspan prepares our command for those who need its pipes.
func linkspan(t testing.TB, d *daemontest.Daemon, args ...string) *exec.Cmd {
	cmd := exec.Command(daemontest.Binary(t), args...)
	cmd.Env = d.Env()
	return cmd
}
