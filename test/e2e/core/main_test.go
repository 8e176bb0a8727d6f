// Package core proves, with the real docker command on a real daemon, that the
// model holds: network modes, plan, reconcile, foreign drivers, daemons side by
// side.
package core

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/api/admin"
	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{}) }

// world is a daemon as one test sees it.
type world struct {
	*daemontest.Daemon
	t *testing.T
}

func core(t *testing.T, d *daemontest.Daemon) *world { return &world{Daemon: d, t: t} }

func shared(t *testing.T) *world { return core(t, daemontest.Shared(t)) }

// admin is the API behind plan and reconcile.
func (w *world) admin() admin.Client {
	return admin.Client{HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", w.Socket)
		}}}}
}

// linkspan runs the binary under test with the daemon as its host.
func (w *world) linkspan(args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	cmd := exec.Command(daemontest.Binary(w.t), args...)
	var out, errs strings.Builder
	cmd.Env, cmd.Stdout, cmd.Stderr = w.Env(), &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// reconciled has the daemon repair what is to be repaired, and then find nothing.
func (w *world) reconciled() string {
	w.t.Helper()
	did, errs, code := w.linkspan("reconcile")
	if code != 0 {
		w.t.Fatalf("reconcile: exit code %d\n%s%s", code, did, errs)
	}
	if again, errs, code := w.linkspan("reconcile", "--dry-run"); code != 0 || !strings.Contains(again, "the kernel has what is declared") {
		w.t.Errorf("after the reconciliation there is still something to do:\n%s%s", again, errs)
	}
	return did
}

// netns is the network namespace of a running container, as the kernel names it.
func (w *world) netns(container string) string {
	w.t.Helper()
	to, err := os.Readlink("/proc/" + w.pid(container) + "/ns/net")
	if err != nil {
		w.t.Fatal(err)
	}
	return to
}

func (w *world) pid(container string) string {
	w.t.Helper()
	return w.Docker("inspect", "-f", "{{.State.Pid}}", container)
}

// reach is netprobe's answer on an address of the host, asked from a machine; "" if
// there is none.
func reach(from *lab.Host, addr string) string {
	c, err := from.Dial("tcp", addr, 2*time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	line, _ := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line)
}

// reached waits until a published port answers.
func (w *world) reached(port int) {
	w.t.Helper()
	w.Until(10*time.Second, fmt.Sprintf("port %d answers", port), func() bool {
		return strings.HasPrefix(reach(w.Machine, fmt.Sprintf("%s:%d", daemontest.HostAddr, port)), "src="+daemontest.MachineAddr)
	})
}

// talk is a connection that is to live on.
type talk struct {
	c  net.Conn
	in *bufio.Reader
	n  int
}

func (w *world) talk(port int) *talk {
	w.t.Helper()
	w.reached(port)
	c, err := w.Machine.Dial("tcp", fmt.Sprintf("%s:%d", daemontest.HostAddr, port), 2*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	k := &talk{c: c, in: bufio.NewReader(c)}
	if _, err := k.in.ReadString('\n'); err != nil {
		w.t.Fatal(err)
	}
	return k
}

// on says something and hears it.
func (k *talk) on(t *testing.T) {
	t.Helper()
	k.n++
	_ = k.c.SetDeadline(time.Now().Add(5 * time.Second))
	want := fmt.Sprintf("message %d\n", k.n)
	if _, err := k.c.Write([]byte(want)); err != nil {
		t.Fatalf("the connection broke: %v", err)
	}
	if got, err := k.in.ReadString('\n'); err != nil || got != want {
		t.Fatalf("the connection said %q, %v; want %q", got, err, want)
	}
}

// seen is how the host is: links, addresses, routes, rules, nft, sockets, and
// what is pinned below the daemon's folder.
func (w *world) seen() string {
	w.t.Helper()
	var out []string
	for _, x := range append(w.Host.Watches(), lab.Mounts(w.Dir)) {
		if strings.HasSuffix(x.Name, "processes") {
			continue
		}
		lines, err := x.List()
		if err != nil {
			w.t.Fatalf("%s: %v", x.Name, err)
		}
		for _, l := range lines {
			out = append(out, x.Name+": "+l)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// still is how the host is when what was done to it before is over: the kernel clears
// away a namespace of a container that ended, and its links, when it finds the time.
func (w *world) still() string {
	w.t.Helper()
	last := w.seen()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		time.Sleep(200 * time.Millisecond)
		now := w.seen()
		if now == last {
			break
		}
		last = now
	}
	return last
}

// settled waits until the host is as it was. On a slow machine one look takes long:
// it is the number of looks that counts too.
func (w *world) settled(what, before string) {
	w.t.Helper()
	var now string
	deadline := time.Now().Add(2 * time.Second)
	for looks := 1; ; looks++ {
		if now = w.seen(); now == before {
			return
		}
		time.Sleep(20 * time.Millisecond)
		if looks >= 10 && time.Now().After(deadline) {
			w.t.Errorf("%s:\n%s", what, lab.Differ(before, now))
			return
		}
	}
}
