package core

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/internal/ctdtest"
	"linkspan/internal/daemontest"
)

// TestTwoDaemons: each in its own namespace; whatever one does, the other's objects
// stay as they are.
func TestTwoDaemons(t *testing.T) {
	a := core(t, daemontest.Start(t, daemontest.Options{World: daemontest.NewWorld(t)}))
	b := core(t, daemontest.Start(t, daemontest.Options{World: daemontest.NewWorld(t)}))
	for _, w := range []*world{a, b} {
		w.Docker("run", "-d", "--name", "web", "-p", "8080:9000", "netprobe")
		w.Reached(8080)
	}
	long := map[*world]*daemontest.Talk{a: a.Talk(8080), b: b.Talk(8080)}
	for what, do := range map[string]func(w *world){
		"run and rm":   func(w *world) { w.Docker("run", "--rm", "-p", "9090:9000", "busybox", "true") },
		"reconcile":    func(w *world) { w.reconciled() },
		"restart":      func(w *world) { w.Restart() },
		"kill":         func(w *world) { w.Kill9(); w.Run() },
		"nft flush":    func(w *world) { w.Host.Run("nft", "flush", "ruleset"); w.reconciled() },
		"stop and run": func(w *world) { w.Stop(); time.Sleep(100 * time.Millisecond); w.Run() },
	} {
		for w, other := range map[*world]*world{a: b, b: a} {
			before := other.Still()
			do(w)
			other.Settled(what+" of the other daemon touched this one", before)
			long[other].On(t)
			w.Reached(8080)
		}
	}
	a.Docker("rm", "-f", "web")
	long[b].On(t)
}

// TestOneNamespace: a second daemon in the same namespace is refused, whatever its
// folders, and so is one on the same data root elsewhere. Both say who is there.
func TestOneNamespace(t *testing.T) {
	w := shared(t)
	w.Docker("run", "-d", "--name", "web", "-p", "8080:9000", "netprobe")
	w.Reached(8080)
	before := w.Still()
	second := func(host string, args ...string) (string, error) {
		t.Helper()
		h := w.Host
		if host == "machine" {
			h = w.Machine
		}
		cmd := h.Command(append([]string{"timeout", "60", daemontest.Binary(t), "daemon"}, args...)...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		return out.String(), err
	}
	dir, err := os.MkdirTemp("", "lsd2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	in := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	out, err := second("host", "--data-root", in("d"), "--exec-root", in("x"), "-H", "unix://"+in("s"))
	if err == nil || !strings.Contains(out, "a Linkspan daemon runs in this network namespace already") || !strings.Contains(out, w.Data) {
		t.Errorf("the same namespace: %v\n%s", err, out)
	}
	out, err = second("machine", "--data-root", w.Data, "--exec-root", in("x"), "-H", "unix://"+in("s"))
	if err == nil || !strings.Contains(out, w.Data) || !strings.Contains(out, "another") {
		t.Errorf("the same data root: %v\n%s", err, out)
	}
	w.Settled("the refused daemons touched something", before)
	if out := strings.TrimSpace(w.Machine.Run("nft", "list", "ruleset")); out != "" {
		t.Errorf("left on the other machine: %s", out)
	}
	w.Reached(8080)
	w.Docker("run", "--rm", "busybox", "true")
}

// TestReload: SIGHUP takes what may change while the daemon runs, and says what
// may not; nothing of the network is touched.
func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "daemon.json")
	write := func(v map[string]any) {
		t.Helper()
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(map[string]any{"labels": []string{"a=1"}})
	w := core(t, daemontest.Start(t, daemontest.Options{Args: []string{"--config-file", file}}))
	w.Docker("run", "-d", "--name", "web", "-p", "8080:9000", "netprobe")
	long := w.Talk(8080)
	before, pid := w.Still(), w.PID()
	write(map[string]any{"labels": []string{"b=2"}, "debug": true, "insecure-registries": []string{"127.0.0.1:5001"}})
	w.Signal(unix.SIGHUP)
	w.Until(5*time.Second, "the new labels are there", func() bool { return strings.Contains(w.Docker("info", "-f", "{{.Labels}}"), "b=2") })
	if out := w.Docker("info", "-f", "{{.Debug}} {{.RegistryConfig.InsecureRegistryCIDRs}} {{json .RegistryConfig.IndexConfigs}}"); !strings.HasPrefix(out, "true ") || !strings.Contains(out, "127.0.0.1:5001") {
		t.Errorf("info: %s", out)
	}
	if err := os.WriteFile(file, []byte(`{"labels": [`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Signal(unix.SIGHUP)
	w.Until(5*time.Second, "the damaged file is told", func() bool { return strings.Contains(w.Log(), "the configuration was not reloaded") })
	if !strings.Contains(w.Docker("info", "-f", "{{.Labels}}"), "b=2") || w.PID() != pid {
		t.Error("a damaged file changed something")
	}
	w.Settled("a reload touched the network", before)
	long.On(t)
}

// TestOneContainerd: two daemons on one containerd, as on a host that has its own:
// each has a containerd namespace, and sweeps no one else's containers.
func TestOneContainerd(t *testing.T) {
	server := ctdtest.New(t)
	flags := []string{"--containerd", server.Address}
	a := core(t, daemontest.Start(t, daemontest.Options{World: daemontest.NewWorld(t), Args: flags}))
	b := core(t, daemontest.Start(t, daemontest.Options{World: daemontest.NewWorld(t), Args: flags}))
	for _, w := range []*world{a, b} {
		w.Docker("run", "-d", "--name", "web", "-p", "8080:9000", "netprobe")
		w.Reached(8080)
	}
	long := map[*world]*daemontest.Talk{a: a.Talk(8080), b: b.Talk(8080)}
	for w, other := range map[*world]*world{a: b, b: a} {
		for range 2 {
			w.Kill9()
			w.Run()
			long[w].On(t)
			long[other].On(t)
			w.Docker("run", "--rm", "busybox", "true")
			if out := other.Docker("ps", "--format", "{{.Names}}"); out != "web" {
				t.Errorf("the other daemon has %q", out)
			}
		}
	}
	if out, err := exec.Command("ctr", "-a", server.Address, "namespaces", "ls", "-q").Output(); err != nil || len(strings.Fields(string(out))) != 2 {
		t.Errorf("containerd's namespaces: %q, %v", out, err)
	}
}
