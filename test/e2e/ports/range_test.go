package ports

import (
	"fmt"
	"strings"
	"testing"

	"linkspan/internal/daemontest"
)

// TestRange: 10,000 ports with the same numbers on both sides are one line of a
// plan; their ends and middle are reached from everywhere, their neighbours are not;
// a daemon that comes back finds nothing to do. One protocol and mostly IPv4 at a
// time: each port is a descriptor of the keeper, which may have 20,000 where the
// test has no CAP_SYS_RESOURCE.
func TestRange(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Docker("pull", "-q", "netprobe")
	d.Docker("run", "-d", "--name", "other", "netprobe")
	for _, proto := range []string{"tcp", "udp"} {
		t.Run(proto, func(t *testing.T) { rangeOf(t, d.For(t), proto) })
	}
}

func rangeOf(t *testing.T, d *daemontest.Daemon, proto string) {
	flags := []string{"-p", "0.0.0.0:20000-29999:20000-29999/" + proto, "-p", "[::]:20000-20999:20000-20999/" + proto}
	plan := d.Linkspan(append(append([]string{"plan", "run"}, flags...), "netprobe")...)
	line := "publish4_" + proto + "_ranges { 20000-29999 : 172.17.0."
	if n := strings.Count(plan.Stdout, "nft add element"); plan.Code != 0 || n != 2 || strings.Count(plan.Stdout, line) != 1 {
		t.Errorf("the plan has %d elements (code %d):\n%.4000s%s", n, plan.Code, plan.Stdout, plan.Stderr)
	}
	args := append([]string{"run", "-d", "--name", "wide"}, flags...)
	args = append(args, "netprobe", "serve")
	for _, port := range []int{19999, 20000, 25000, 29999, 30000} {
		args = append(args, fmt.Sprintf("%s/:%d", proto, port))
	}
	d.Docker(args...)
	listening(t, d, "wide")
	ask := func(from place, to string, port int, flags ...string) string {
		return dial(t, from, target(proto, to, port), flags...).Verdict
	}
	reached := func(when string) {
		t.Helper()
		wide, other := inside(t, d, "wide"), inside(t, d, "other")
		want := func(from place, to string, port int) {
			t.Helper()
			if got := ask(from, to, port); got != "answered" {
				t.Errorf("%s: %s asks %s: %s", when, from.name, target(proto, to, port), got)
			}
		}
		for _, port := range []int{20000, 25000, 29999} {
			for _, from := range []place{machine(d), host(d), wide, other} {
				want(from, daemontest.HostAddr, port)
			}
			want(host(d), "127.0.0.1", port)
		}
		want(machine(d), daemontest.HostAddr6, 20000)
		want(host(d), "::1", 20000)
		for _, port := range []int{19999, 30000} {
			for _, from := range []place{machine(d), host(d), other} {
				if ask(from, daemontest.HostAddr, port, "-timeout", "300ms") == "answered" {
					t.Errorf("%s: %s reached port %d", when, from.name, port)
				}
			}
		}
	}
	reached("started")
	d.Restart()
	if r := d.Linkspan("reconcile", "--dry-run"); r.Code != 0 || !strings.Contains(r.Stdout, "the kernel has what is declared") {
		t.Errorf("after a restart: code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	reached("restarted")
	d.Docker("rm", "-f", "wide")
	if ask(machine(d), daemontest.HostAddr, 25000, "-timeout", "300ms") == "answered" {
		t.Error("reached after rm")
	}
}
