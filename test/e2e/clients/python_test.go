package clients

import (
	"os/exec"
	"strings"
	"testing"

	"linkspan/internal/daemontest"
	"linkspan/test/e2e/clients/program"
)

// TestDockerPy: docker-py of Debian, and the one of another Python on this machine, if
// there is one.
func TestDockerPy(t *testing.T) {
	program.Installed(t, "/usr/lib/python3/dist-packages/docker/__init__.py", "python3-docker")
	interpreters := map[string]string{"Debian": "/usr/bin/python3"}
	if p, err := exec.LookPath("python3"); err == nil && exec.Command(p, "-c", "import docker").Run() == nil {
		interpreters["installed"] = p
	}
	for name, python := range interpreters {
		t.Run(name, func(t *testing.T) {
			d := daemontest.Shared(t)
			cmd := exec.Command(python, "testdata/sdk.py")
			cmd.Env = append(d.Env(), "PYTHONWARNINGS=ignore", "PYTHONUNBUFFERED=1")
			if name == "Debian" {
				// Not what pip may have put before it.
				cmd.Env = append(cmd.Env, "PYTHONPATH=/usr/lib/python3/dist-packages")
			}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
				t.Errorf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}
