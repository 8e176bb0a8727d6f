package host

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"linkspan/internal/testmain"
	"linkspan/probe"
)

// insideEnv says that this process is the tests' own copy, in a network namespace whose
// loopback has the hosts' addresses.
const insideEnv = "LINKSPAN_TEST_MESH_HOSTS"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(runChild())
	}
	testmain.AtOnce(6) // they wait for elections and leases
	os.Exit(m.Run())
}

// isolated runs the test in a process of its own, beside others, and in a network
// namespace of its own: the hosts of a test are in one process, each with an address of
// the loopback's, 10.213.0.1 and on, and with the ports that the mesh has everywhere. It
// is true in there; where it is false all is done.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		return true
	}
	probe.Require(t, probe.Root)
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := "ip link set lo up"
	for i := 1; i <= 6; i++ {
		script += fmt.Sprintf(" && ip addr add 10.213.0.%d/32 dev lo", i)
	}
	args := []string{"-ec", script + ` && exec "$0" "$@"`, exe, "-test.run=^" + t.Name() + "$", "-test.v"}
	if end, ok := t.Deadline(); ok {
		args = append(args, fmt.Sprint("-test.timeout=", max(time.Until(end)-2*time.Second, time.Second)))
	}
	// Killed with its parent: what prctl(2) looks at is the thread that it was begun by.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := exec.CommandContext(t.Context(), "sh", args...)
	c.Env = append(os.Environ(), insideEnv+"=1")
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := c.Run(); err != nil {
		t.Errorf("%v\n%s", err, &said)
	} else if !bytes.Contains(said.Bytes(), []byte("--- PASS: "+t.Name()+" ")) {
		t.Errorf("it did not run\n%s", &said)
	} else {
		t.Log(said.String())
	}
	return false
}
