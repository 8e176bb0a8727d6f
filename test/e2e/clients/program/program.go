// Package program finds or builds the clients of other people's that the tests
// run: docker commands of several versions, and Compose.
package program

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"linkspan/internal/daemontest"
	"linkspan/probe"
)

// Docker28 is a docker command of version 28 or newer: the one that is installed, or
// one built from source.
func Docker28(t testing.TB) string {
	t.Helper()
	if p, err := exec.LookPath("docker"); err == nil {
		if major, _, _ := strings.Cut(Version(t, p), "."); number(major) >= 28 {
			return p
		}
	}
	return BuiltDocker(t)
}

func number(s string) int { n, _ := strconv.Atoi(s); return n }

// Version is a docker command's own version.
func Version(t testing.TB, docker string) string {
	t.Helper()
	// It says "Docker version 28.2.2, build e6534b4".
	out, err := exec.Command(docker, "--version").Output()
	if err != nil {
		t.Fatalf("%s --version: %v", docker, err)
	}
	f := strings.Fields(string(out))
	if len(f) < 3 {
		t.Fatalf("%s --version: %s", docker, out)
	}
	return strings.TrimSuffix(f[2], ",")
}

// BuiltDocker is the docker command of test/e2e/clients/tool, built from source.
func BuiltDocker(t testing.TB) string {
	t.Helper()
	return build(t, "test/e2e/clients/tool", "github.com/docker/cli/cmd/docker", "docker-built",
		"-X", "github.com/docker/cli/cli/version.Version="+moduleVersion(t, "test/e2e/clients/tool", "github.com/docker/cli"))
}

// BuiltCompose is the Compose of test/e2e/compose/tool, built from source.
func BuiltCompose(t testing.TB) string {
	t.Helper()
	const module = "github.com/docker/compose/v5"
	return build(t, "test/e2e/compose/tool", module+"/cmd", "docker-compose-built",
		"-X", module+"/internal.Version=v"+moduleVersion(t, "test/e2e/compose/tool", module))
}

// DebianDocker is the docker command of Debian's docker.io package, 20.10 on Debian 12.
func DebianDocker(t testing.TB) string {
	t.Helper()
	probe.Require(t, probe.Root)
	if p, err := exec.LookPath("docker"); err == nil && strings.HasPrefix(Version(t, p), "20.") {
		return p
	}
	dir := filepath.Join(os.TempDir(), "linkspan-debian-docker")
	unlock := locked(t, dir+".lock")
	defer unlock()
	out, err := exec.Command(filepath.Join(daemontest.Root(), "script", "fetch-dockerd.sh"), dir).CombinedOutput()
	if err != nil {
		t.Fatalf("fetch-dockerd.sh: %v\n%s", err, out)
	}
	return filepath.Join(dir, "bin", "docker")
}

// build builds a program of a module that is not ours into bin/. What is up to date
// takes a second.
func build(t testing.TB, module, pkg, name string, ldflags ...string) string {
	t.Helper()
	path := filepath.Join(daemontest.Root(), "bin", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	unlock := locked(t, path+".lock")
	defer unlock()
	cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w "+strings.Join(ldflags, " "), "-o", path, pkg)
	cmd.Dir, cmd.Env = filepath.Join(daemontest.Root(), module), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s in %s: %v\n%s", pkg, module, err, out)
	}
	return path
}

func moduleVersion(t testing.TB, in, module string) string {
	t.Helper()
	cmd := exec.Command("go", "list", "-m", "-json", module)
	cmd.Dir = filepath.Join(daemontest.Root(), in)
	out, err := cmd.Output()
	var m struct{ Version string }
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err != nil {
		t.Fatalf("go list -m %s in %s: %v", module, in, err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(m.Version, "v"), "+incompatible")
}

// locked keeps packages that are tested at the same time from doing the same work.
func locked(t testing.TB, path string) (unlock func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return func() { f.Close() }
}

// Installed is a program of a Debian package that script/install-deps.sh installs.
func Installed(t testing.TB, path, pkg string) string {
	t.Helper()
	probe.Require(t, probe.Root)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is not there: script/install-deps.sh test installs it (package %s)", path, pkg)
	}
	return path
}
