// Package core proves, with the real docker command on a real daemon, that the
// model holds: network modes, plan, reconcile, foreign drivers, daemons side by
// side.
package core

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"linkspan/api/admin"
	"linkspan/internal/daemontest"
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
