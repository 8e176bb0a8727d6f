// Package reach tests with a real daemon who reaches whom: containers on networks of
// every option, a neighbour on the wire who adds routes, and a LAN on which containers
// sit flat. The same questions are put to the plans, one by one and faster, in
// driver/bridge.
package reach

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{}) }

// place is where a client stands: a network namespace.
type place struct{ name, ns string }

func host(d *daemontest.Daemon) place { return place{"the host", d.Host.NS} }

func machine(d *daemontest.Daemon) place { return place{"the machine", d.Machine.NS} }

func lone(h *lab.Host) place { return place{h.Name, h.NS} }

// inside is a container's network stack.
func inside(t testing.TB, d *daemontest.Daemon, name string) place {
	t.Helper()
	pid := strings.TrimSpace(d.Docker("inspect", "-f", "{{.State.Pid}}", name))
	if n, err := strconv.Atoi(pid); err != nil || n <= 0 {
		t.Fatalf("container %s has pid %q", name, pid)
	}
	return place{name, "/proc/" + pid + "/ns/net"}
}

func (p place) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + p.ns, "--"}, args...)...)
}

// must runs a program there to its end.
func (p place) must(t testing.TB, args ...string) string {
	t.Helper()
	out, err := p.command(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("in %s: %v: %v\n%s", p.name, args, err, out)
	}
	return string(out)
}

// serve runs a container that answers on the ports 80 and 90, tcp and udp, and waits
// until it does.
func serve(t testing.TB, d *daemontest.Daemon, name string, flags ...string) place {
	t.Helper()
	d.Docker(append(append([]string{"run", "-d", "--name", name}, flags...), "netprobe", "serve", "tcp/:80", "udp/:80", "tcp/:90", "udp/:90")...)
	d.Until(10*time.Second, name+" listens", func() bool {
		return strings.Count(d.TryDocker("logs", name).Stdout, "listening ") >= 4
	})
	return inside(t, d, name)
}

// listen has a machine answer likewise, until the test ends.
func listen(t testing.TB, h *lab.Host) {
	t.Helper()
	p := h.Start([]string{daemontest.Netprobe(t), "serve", "tcp/:80", "udp/:80", "tcp/:90", "udp/:90"})
	t.Cleanup(p.Kill) // the lab may be another test's as well
	p.WaitFor("listening udp/[::]:90", 10*time.Second)
}

var answerLine = regexp.MustCompile(`src=(\S+):\d+ dst=\S+ host=(\S+)`)

// wait is how long an answer may take; nothing here is further than two veths away.
const wait = "400ms"

// ask returns the address that the server saw, "" when nobody answered.
func ask(t testing.TB, from place, target string) string {
	cmd := from.command(daemontest.Netprobe(t), "dial", "-timeout", wait, target)
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		if !errors.As(err, new(*exec.ExitError)) {
			t.Errorf("from %s: %v", from.name, err)
		}
		return ""
	}
	m := answerLine.FindStringSubmatch(out.String())
	if m == nil {
		t.Errorf("from %s to %s: netprobe printed %q", from.name, target, out.String())
		return ""
	}
	return strings.Trim(m[1], "[]")
}

// way is one thing to try by TCP and UDP: open, closed, or open with the address that
// the server must see.
type way struct {
	from place
	to   string // address
	port int
	want string
}

const (
	open   = "open"
	closed = "closed"
)

// ways tries all at once.
func ways(t testing.TB, when string, all ...way) {
	t.Helper()
	var wg sync.WaitGroup
	slots := make(chan bool, 16)
	got := make([][2]string, len(all))
	protos := []string{"tcp", "udp"}
	for i, w := range all {
		for j, proto := range protos {
			slots <- true
			wg.Go(func() {
				defer func() { <-slots }()
				// A port that just came up may lose the first ARP request, which is repeated
				// after a second.
				for deadline := time.Now().Add(lab.Patience); ; {
					got[i][j] = ask(t, w.from, proto+"/"+net.JoinHostPort(w.to, fmt.Sprint(w.port)))
					if w.want == closed || got[i][j] != "" || time.Now().After(deadline) {
						return
					}
				}
			})
		}
	}
	wg.Wait()
	for i, w := range all {
		for j, proto := range protos {
			seen := got[i][j]
			if w.want == closed && seen == "" || w.want == open && seen != "" || w.want == seen {
				continue
			}
			if seen == "" {
				seen = "no answer"
			}
			t.Errorf("%s: %s to %s port %d by %s: %s, want %s", when, w.from.name, w.to, w.port, proto, seen, w.want)
		}
	}
}

// address is a container's on a network.
func address(d *daemontest.Daemon, container, network string) string {
	return d.Docker("inspect", "-f", `{{(index .NetworkSettings.Networks "`+network+`").IPAddress}}`, container)
}

func address6(d *daemontest.Daemon, container, network string) string {
	return d.Docker("inspect", "-f", `{{(index .NetworkSettings.Networks "`+network+`").GlobalIPv6Address}}`, container)
}

// network makes one; it goes with all that the test leaves.
func network(t testing.TB, d *daemontest.Daemon, name string, flags ...string) {
	t.Helper()
	d.Docker(append(append([]string{"network", "create"}, flags...), name)...)
}

// neighbour gives the machine a route, until the test ends.
func neighbour(t testing.TB, d *daemontest.Daemon, dst string) {
	t.Helper()
	via := daemontest.HostAddr
	if strings.Contains(dst, ":") {
		via = daemontest.HostAddr6
	}
	d.Machine.Run("ip", "route", "add", dst, "via", via)
	t.Cleanup(func() { d.Machine.Run("ip", "route", "del", dst) })
}

// extra gives host and machine the addresses of R32 on their wire.
func extra(t testing.TB, d *daemontest.Daemon) {
	t.Helper()
	for _, a := range []string{"60.191.82.105/24", "60.191.82.106/24", "60.191.82.107/24", "2001:db8::105/64", "2001:db8::106/64", "2001:db8::107/64"} {
		add(t, d.Host, a)
	}
	add(t, d.Machine, "60.191.82.1/24")
	add(t, d.Machine, "2001:db8::1/64")
}

func add(t testing.TB, h *lab.Host, a string) {
	t.Helper()
	args := []string{"ip", "addr", "add", a, "dev", "wan0"}
	if strings.Contains(a, ":") {
		args = append(args, "nodad")
	}
	h.Run(args...)
	t.Cleanup(func() { h.Run("ip", "addr", "del", a, "dev", "wan0") })
}
