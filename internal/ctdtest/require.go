package ctdtest

import (
	"os"
	"os/exec"
	"testing"
)

// require skips where a private containerd cannot run, and says why.
func require(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("skipped: not root; containerd mounts and makes namespaces: run the tests with sudo")
	}
	if _, err := exec.LookPath("containerd"); err != nil {
		tb.Skip("skipped: no containerd in PATH: apt-get install containerd runc")
	}
}
