package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"linkspan/probe"
)

// inside says that this process is the tests' own copy, in a network namespace whose
// loopback has the hosts' addresses.
const insideEnv = "LINKSPAN_TEST_MESH_HOSTS"

// TestMain runs the tests in a network namespace of their own, where several hosts are in
// one process, each with an address of the loopback's: 10.213.0.1 and on.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(runChild())
	}
	if os.Getenv(insideEnv) != "" || probe.Root.Check() != nil {
		os.Exit(m.Run())
	}
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	script := "ip link set lo up"
	for i := 1; i <= 6; i++ {
		script += fmt.Sprintf(" && ip addr add 10.213.0.%d/32 dev lo", i)
	}
	c := exec.Command("sh", append([]string{"-ec", script + ` && exec "$0" "$@"`, exe}, os.Args[1:]...)...)
	c.Env = append(os.Environ(), insideEnv+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err = c.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// isolated skips what needs the namespace.
func isolated(t *testing.T) {
	t.Helper()
	probe.Require(t, probe.Root)
	if os.Getenv(insideEnv) == "" {
		t.Fatal("not in the namespace of the tests")
	}
}
