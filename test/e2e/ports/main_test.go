// Package ports tests published ports from every place from which a client can
// come: one test per cell of the matrix, what must stay closed, every form of -p,
// the reservation, and what happens to flows when a container is replaced. The table in
// docs/published-ports.md is made here.
package ports

import (
	"errors"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{}) }

// place is where a client stands: a network namespace.
type place struct{ name, ns string }

func (p place) run(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + p.ns, "--"}, args...)...)
}

// must runs a program there to its end.
func (p place) must(t testing.TB, args ...string) string {
	t.Helper()
	out, err := p.run(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("in %s: %v: %v\n%s", p.name, args, err, out)
	}
	return string(out)
}

func machine(d *daemontest.Daemon) place { return place{"the machine on the wire", d.Machine.NS} }

func host(d *daemontest.Daemon) place { return place{"the host", d.Host.NS} }

// inside is a container's network stack.
func inside(t testing.TB, d *daemontest.Daemon, name string) place {
	t.Helper()
	pid := strings.TrimSpace(d.Docker("inspect", "-f", "{{.State.Pid}}", name))
	if n, err := strconv.Atoi(pid); err != nil || n <= 0 {
		t.Fatalf("container %s has pid %q", name, pid)
	}
	return place{"container " + name, "/proc/" + pid + "/ns/net"}
}

// answer is what a client got.
type answer struct {
	// Verdict is "answered", or netprobe's word: refused, timeout, unreachable, …
	Verdict string
	// Source is the client's address as the server saw it; Server is the server's
	// host name, a container's short id.
	Source, Server string
	raw            string
}

var answerLine = regexp.MustCompile(`^src=(\S+):\d+ dst=\S+ host=(\S+)$`)

// dial asks a server from a place. Without flags it has patience for an answer or a
// refusal, and asks again: the kernel refuses by ICMP, which is limited (icmp(7),
// icmp_ratelimit). Where none may come, the flags say how long it is waited for.
func dial(t testing.TB, from place, target string, flags ...string) answer {
	t.Helper()
	if len(flags) > 0 {
		return dialOnce(t, from, target, flags...)
	}
	for deadline := time.Now().Add(lab.Patience); ; {
		if a := dialOnce(t, from, target, "-timeout", "3s"); a.Verdict != "timeout" || time.Now().After(deadline) {
			return a
		}
	}
}

func dialOnce(t testing.TB, from place, target string, flags ...string) answer {
	t.Helper()
	args := append([]string{daemontest.Netprobe(t), "dial", "-timeout", "10s"}, flags...)
	cmd := from.run(append(args, target)...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	a := answer{Verdict: "answered", raw: out.String() + errs.String()}
	if err != nil {
		if !errors.As(err, new(*exec.ExitError)) {
			t.Fatalf("from %s: %v", from.name, err)
		}
		word, ok := strings.CutPrefix(errs.String(), "netprobe: ")
		if !ok {
			t.Fatalf("from %s: netprobe said %q: %v", from.name, errs.String(), err)
		}
		a.Verdict, _, _ = strings.Cut(word, ":")
		return a
	}
	m := answerLine.FindStringSubmatch(strings.TrimSpace(strings.SplitN(out.String(), "\n", 2)[0]))
	if m == nil {
		t.Fatalf("from %s: netprobe printed %q", from.name, out.String())
	}
	a.Source, a.Server = strings.Trim(m[1], "[]"), m[2]
	return a
}

// serve runs a container that answers on tcp and udp 9000 and waits until it
// does.
func serve(t testing.TB, d *daemontest.Daemon, name string, flags ...string) {
	t.Helper()
	args := append([]string{"run", "-d", "--name", name}, flags...)
	d.Docker(append(args, "netprobe", "serve", "tcp/:9000", "udp/:9000")...)
	listening(t, d, name)
}

func listening(t testing.TB, d *daemontest.Daemon, name string) {
	t.Helper()
	d.Until(10*time.Second, name+" listens", func() bool {
		return strings.Count(d.TryDocker("logs", name).Stdout, "listening ") >= 2
	})
}

func address(d *daemontest.Daemon, name string) string {
	return d.Docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name)
}

const gateway = "172.17.0.1"
