// Package ops proves what an operator looks at, on one real daemon: the doctor's
// findings and their cures, what Prometheus scrapes, and the page in a real browser.
package ops

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/diagnose/doctor"
	"linkspan/internal/daemontest"
)

// What somebody breaks is to stay broken until the doctor has seen it.
func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{Args: []string{"--repair=false"}}) }

// world is the daemon as one test sees it.
type world struct {
	*daemontest.Daemon
	t *testing.T
}

func shared(t *testing.T) *world { return &world{daemontest.Shared(t), t} }

// shop makes the little world that the tests look at.
func (w *world) shop() {
	w.t.Helper()
	w.Docker("network", "create", "shop")
	w.t.Cleanup(func() { w.Docker("network", "rm", "shop") })
	w.Docker("run", "-d", "--name", "web", "--network", "shop", "-p", "8080:9000", "netprobe")
	w.Docker("run", "-d", "--name", "db", "--network", "shop", "busybox", "sleep", "1000")
	w.t.Cleanup(func() { w.Docker("rm", "-f", "web", "db") })
	w.Reached(8080)
}

// get asks an HTTP server on a unix socket, as Host localhost.
func get(socket, path string) (int, string, error) {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	r, err := c.Get("http://localhost" + path)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

// examined is what `linkspan doctor --json` found, without what is well. Its exit code
// must say the same.
func (w *world) examined() (*doctor.Report, map[string]doctor.Finding) {
	w.t.Helper()
	r := w.Linkspan("doctor", "--json")
	var report doctor.Report
	if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil {
		w.t.Fatalf("exit code %d: %v\n%s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	want := 2
	if report.Well() {
		want = 0
	}
	if report.Daemon == "" {
		want = 1
	}
	if r.Code != want {
		w.t.Errorf("doctor: exit code %d, want %d\n%s%s", r.Code, want, r.Stdout, r.Stderr)
	}
	found := map[string]doctor.Finding{}
	for _, f := range report.Findings {
		if f.Severity != doctor.OK {
			found[f.Code] = f
		}
	}
	return &report, found
}

func (w *world) metricsSocket() string { return filepath.Join(w.Dir, "m.sock") }

// metric reads one value; -1 when it is not told.
func metric(text, name string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "-1"
}
