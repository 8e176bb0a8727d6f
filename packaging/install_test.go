// Package packaging tests what make install and make uninstall leave behind.
package packaging

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/containerd"
	"linkspan/internal/ctdtest"
	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
	"linkspan/probe"
)

// run is script/install.sh with an environment of its own.
func run(t *testing.T, verb string, env ...string) string {
	t.Helper()
	cmd := exec.Command("script/install.sh", verb)
	cmd.Dir = daemontest.Root()
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "DOCKER_") || strings.HasPrefix(e, "SUDO_")
	}), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("install.sh %s: %v\n%s", verb, err, out)
	}
	return string(out)
}

// tree is every file and folder below a folder, with mode.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := d.Info()
		if err == nil && path != dir {
			out = append(out, fmt.Sprintf("%s %s", strings.TrimPrefix(path, dir), i.Mode()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func same(t *testing.T, what string, before, after []string) {
	t.Helper()
	for _, l := range before {
		if !slices.Contains(after, l) {
			t.Errorf("%s: %s is gone", what, l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			t.Errorf("%s: %s was not there", what, l)
		}
	}
}

// TestStaged: what a package gets; twice is once; and nothing stays.
func TestStaged(t *testing.T) {
	binary := daemontest.Binary(t)
	dir := t.TempDir()
	// What was there before, also in our own folders, is another's.
	if err := os.MkdirAll(filepath.Join(dir, "usr/share/man/man1"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "usr/share/man/man1/other.1"), "other")
	before := tree(t, dir)
	env := []string{"DESTDIR=" + dir, "PREFIX=/usr", "BINARY=" + binary, "HOME=" + t.TempDir()}
	run(t, "install", env...)
	first := tree(t, dir)
	for _, want := range []string{
		"/usr/bin/linkspan -rwxr-xr-x", "/usr/lib/systemd/system/linkspan.service -rw-r--r--", "/usr/lib/systemd/system/linkspan.socket -rw-r--r--",
		"/etc/default/linkspan -rw-r--r--", "/usr/share/man/man1/linkspan.1.gz -rw-r--r--", "/usr/share/man/man8/linkspan-daemon.8.gz -rw-r--r--",
		"/usr/share/man/man1/linkspan-network-create.1.gz -rw-r--r--", "/usr/share/bash-completion/completions/linkspan -rw-r--r--",
		"/usr/share/zsh/site-functions/_linkspan -rw-r--r--", "/usr/share/fish/vendor_completions.d/linkspan.fish -rw-r--r--",
	} {
		if !slices.Contains(first, want) {
			t.Errorf("no %s", want)
		}
	}
	run(t, "install", env...)
	same(t, "a second installation", first, tree(t, dir))
	for _, l := range first {
		path, _, _ := strings.Cut(l, " ")
		if b, err := os.ReadFile(filepath.Join(dir, path)); err == nil && !strings.HasPrefix(path, "/usr/bin/") && strings.Contains(string(b), dir) {
			t.Errorf("%s names the folder in which it was staged", path)
		}
	}
	run(t, "uninstall", env...)
	same(t, "after uninstall", before, tree(t, dir))
}

// TestSettingsStay: what a person wrote stays, unless it is to be purged.
func TestSettingsStay(t *testing.T) {
	binary := daemontest.Binary(t)
	dir := t.TempDir()
	env := []string{"DESTDIR=" + dir, "BINARY=" + binary, "HOME=" + t.TempDir()}
	settings := filepath.Join(dir, "etc/default/linkspan")
	run(t, "install", env...)
	write(t, settings, "LINKSPAN_OPTS=\"-b br0\"\n")
	run(t, "install", env...) // an upgrade
	if b, _ := os.ReadFile(settings); !strings.Contains(string(b), "br0") {
		t.Errorf("an upgrade wrote the settings anew: %s", b)
	}
	if said := run(t, "uninstall", env...); !strings.Contains(said, "/etc/default/linkspan stays, since it was changed") {
		t.Errorf("it says %s", said)
	}
	if got := tree(t, dir); len(got) != 3 {
		t.Errorf("what stays: %q", got)
	}
	run(t, "install", env...)
	run(t, "uninstall", append(env, "PURGE=1")...)
	// The folders were there when it was installed again.
	if got := tree(t, dir); len(got) != 2 {
		t.Errorf("after a purge: %q", got)
	}
}

// TestUnits: systemd reads them without a complaint, and they say what keeps
// containers alive.
func TestUnits(t *testing.T) {
	binary := daemontest.Binary(t)
	prefix := t.TempDir()
	run(t, "install", "DESTDIR="+prefix, "PREFIX=/usr", "BINARY="+binary, "HOME="+t.TempDir())
	dir := filepath.Join(prefix, "usr/lib/systemd/system")
	b, err := os.ReadFile(filepath.Join(dir, "linkspan.service"))
	if err != nil {
		t.Fatal(err)
	}
	unit := string(b)
	for _, want := range []string{"Type=notify", "KillMode=process", "Delegate=yes", "ExecReload=/bin/kill -HUP $MAINPID", "EnvironmentFile=-/etc/default/linkspan",
		"ExecStart=/usr/bin/linkspan daemon --host fd:// $LINKSPAN_OPTS", "TasksMax=infinity"} {
		if !strings.Contains(unit, want+"\n") {
			t.Errorf("no %s in\n%s", want, unit)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("no systemd-analyze here: the units are not verified")
		return
	}
	// It looks whether programs exist.
	write(t, filepath.Join(dir, "linkspan.service"), strings.ReplaceAll(unit, "/usr/bin/linkspan", filepath.Join(prefix, "usr/bin/linkspan")))
	out, err := exec.Command(analyze, "verify", "--man=no", filepath.Join(dir, "linkspan.service"), filepath.Join(dir, "linkspan.socket")).CombinedOutput()
	if err != nil || strings.Contains(string(out), "linkspan") {
		t.Errorf("systemd-analyze says %v\n%s", err, out)
	}
}

// TestPages: man shows them, and completion completes.
func TestPages(t *testing.T) {
	binary := daemontest.Binary(t)
	prefix := t.TempDir()
	run(t, "install", "DESTDIR="+prefix, "PREFIX=/usr", "BINARY="+binary, "HOME="+t.TempDir())
	for page, want := range map[string]string{
		"man1/linkspan.1": "linkspan-daemon(8)", "man1/linkspan-run.1": "--network network", "man1/linkspan-network-connect.1": "--gw-priority int",
		"man8/linkspan-daemon.8": "--default-address-pool", "man8/linkspan-uninstall.8": "--purge", "man8/linkspan-reconcile.8": "--dry-run",
	} {
		gz := filepath.Join(prefix, "usr/share/man", page+".gz")
		out, err := exec.Command("sh", "-c", "gunzip -c "+gz).Output()
		if err != nil {
			t.Errorf("%s: %v", page, err)
			continue
		}
		text := strings.NewReplacer(`\-`, "-", `\fB`, "", `\fP`, "", `\fI`, "").Replace(string(out))
		if p := strings.ReplaceAll(text, " (8)", "(8)"); !strings.Contains(p, want) {
			t.Errorf("%s has no %q", page, want)
		}
		if strings.Contains(text, "/root/") || strings.Contains(text, os.Getenv("HOME")+"/") {
			t.Errorf("%s names a home folder of the machine that built it", page)
		}
		if groff, err := exec.LookPath("groff"); err == nil {
			said, err := exec.Command("sh", "-c", "gunzip -c "+gz+" | "+groff+" -man -ww -z -Tutf8 2>&1").Output()
			if err != nil || len(said) > 0 {
				t.Errorf("%s: groff says %v %s", page, err, said)
			}
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		file := map[string]string{"bash": "bash-completion/completions/linkspan", "zsh": "zsh/site-functions/_linkspan", "fish": "fish/vendor_completions.d/linkspan.fish"}[shell]
		if out, err := exec.Command(path, "-n", filepath.Join(prefix, "usr/share", file)).CombinedOutput(); err != nil {
			t.Errorf("%s -n: %v\n%s", shell, err, out)
		}
	}
	out, err := exec.Command(binary, "__complete", "network", "cr").Output()
	if err != nil || !strings.Contains(string(out), "create") {
		t.Errorf("network cr<TAB>: %v %s", err, out)
	}
}

// TestLife: installed, started by the unit's own command line with systemd's
// socket, a container run, the daemon killed, uninstalled with PURGE: the host has
// no trace of it.
func TestLife(t *testing.T) {
	probe.Require(t, probe.Root, probe.NetNS, probe.Containerd, probe.Runc)
	if c, err := net.Dial("unix", containerd.System); err == nil {
		c.Close() // the daemon would take it, and with it another's images
	} else {
		t.Run("own containerd", func(t *testing.T) { life(t, "") })
	}
	t.Run("another's containerd", func(t *testing.T) {
		socket := ctdtest.Start(t)
		life(t, "--containerd "+socket)
		out, err := exec.Command("ctr", "-a", socket, "namespaces", "ls", "-q").CombinedOutput()
		if err != nil || strings.Contains(string(out), "linkspan") {
			t.Errorf("containerd's namespaces: %v %s", err, out)
		}
	})
}

func life(t *testing.T, flags string) {
	binary := daemontest.Binary(t)
	w := daemontest.NewWorld(t)
	dir, err := os.MkdirTemp("", "lsi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	write(t, filepath.Join(dir, "keep"), "")
	before := tree(t, dir)
	var watches []lab.Watch
	for _, x := range append(w.Host.Watches(), lab.Processes(dir), lab.Mounts(dir)) {
		// The registry runs on the host, as a process of the test's.
		if !strings.HasSuffix(x.Name, " processes") {
			watches = append(watches, x)
		}
	}
	lab.LeakCheck(t, watches...)
	switches := func() string {
		return w.Host.Run("sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.default.forwarding", "net.ipv6.conf.wan0.accept_ra",
			"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")
	}
	asBefore := switches()

	home, prefix, etc, socket := filepath.Join(dir, "home"), filepath.Join(dir, "usr"), filepath.Join(dir, "etc"), filepath.Join(dir, "s")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{"PREFIX=" + prefix, "SYSCONFDIR=" + etc, "BINARY=" + binary, "HOME=" + home}
	if said := run(t, "install", env...); !strings.Contains(said, "docker context use linkspan") {
		t.Errorf("it says %s", said)
	}
	docker := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("docker", args...)
		cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "DOCKER_") }), "HOME="+home)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	if out := docker("context", "inspect", "linkspan"); !strings.Contains(out, "unix:///run/linkspan/linkspan.sock") {
		t.Errorf("the context: %s", out)
	}
	write(t, filepath.Join(etc, "default/linkspan"), fmt.Sprintf("LINKSPAN_OPTS=\"--data-root %[1]s/d --exec-root %[1]s/x --registry-mirror %[2]s --shutdown-timeout 2 %[3]s\"\n", dir, w.Registry, flags))

	// The unit, read as systemd reads it.
	unit, err := os.ReadFile(filepath.Join(prefix, "lib/systemd/system/linkspan.service"))
	if err != nil {
		t.Fatal(err)
	}
	_, start, _ := strings.Cut(string(unit), "ExecStart=")
	start, _, _ = strings.Cut(start, "\n")
	// Without systemd's helper the daemon makes the socket itself.
	if activate, err := exec.LookPath("systemd-socket-activate"); err == nil {
		start = activate + " -l " + socket + " " + start
	} else {
		start = strings.Replace(start, "fd://", "unix://"+socket, 1)
	}
	p := w.Host.Start([]string{"sh", "-c", ". " + etc + "/default/linkspan; exec " + start})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil || time.Now().After(deadline) {
			break
		}
	}
	docker("-H", "unix://"+socket, "run", "-d", "--name", "probe", "--restart", "always", "-v", "kept:/kept", "-p", "9000:9000", "netprobe")
	docker("-H", "unix://"+socket, "network", "create", "--ipv6", "six")
	docker("-H", "unix://"+socket, "run", "-d", "--name", "named", "--network", "six", "--init", "centos", "sleep", "1000")
	docker("-H", "unix://"+socket, "exec", "named", "getent", "hosts", "named")
	if switches() == asBefore {
		t.Error("no switch of the host was changed: this test shows nothing")
	}
	// Beside a daemon it refuses.
	cmd := w.Host.Command("script/install.sh", "uninstall")
	cmd.Dir, cmd.Env = daemontest.Root(), append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "runs in this network namespace already") {
		t.Errorf("beside a daemon: %v\n%s", err, out)
	}
	p.Kill()

	out, err := purge(w, env)
	if err != nil {
		t.Fatalf("uninstall: %v\n%s", err, out)
	}
	for _, want := range []string{"2 containers were ended", "the keeper was ended", "kernel objects were removed", "was removed", "uninstalled from"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/linkspan-" + instance.FindStringSubmatch(out)[1]); len(left) > 0 {
		t.Errorf("cgroups stay: %q", left)
	}
	if now := switches(); now != asBefore {
		t.Errorf("before:\n%safter:\n%s", asBefore, now)
	}
	os.Remove(socket) // systemd's
	os.Remove(home)
	same(t, "after uninstall", before, tree(t, dir))
}

var instance = regexp.MustCompile(`\(instance ([0-9a-f]+)\)`)

func purge(w *daemontest.World, env []string) (string, error) {
	cmd := w.Host.Command("script/install.sh", "uninstall")
	cmd.Dir, cmd.Env = daemontest.Root(), append(os.Environ(), append(env, "PURGE=1")...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
