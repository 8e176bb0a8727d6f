// Package testmain runs the tests of packages that wait more than they compute: many at a
// time, and, where they need ports, in a network namespace of their own.
package testmain

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"linkspan/probe"
)

// AtOnce has n parallel tests run at a time where go test was not told how many.
func AtOnce(n int) {
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if told {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(n)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// insideEnv says that this process is the tests' own copy, in a network namespace of its
// own: no other program takes its ports.
const insideEnv = "LINKSPAN_TEST_ISOLATED"

// Isolated runs the tests, n at a time, in such a namespace, where that can be had, and is
// the exit code that they end with.
func Isolated(m *testing.M, n int) int {
	AtOnce(n)
	if os.Getenv(insideEnv) != "" || probe.Root.Check() != nil || probe.NetNS.Check() != nil {
		return m.Run()
	}
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Killed with this process: what prctl(2) looks at is the thread that it was begun by.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := exec.Command("sh", append([]string{"-ec", `ip link set lo up && exec "$0" "$@"`, exe}, os.Args[1:]...)...)
	c.Env = append(os.Environ(), insideEnv+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err = c.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

var ports atomic.Uint32

// FreePort is a port of loopback for a server: none that a connection may be given
// (ip_local_port_range begins at 32768), and in the namespace of Isolated none that
// another has.
func FreePort() int {
	for {
		p := 10000 + int(ports.Add(1)-1)
		if os.Getenv(insideEnv) == "" {
			p = 10000 + (os.Getpid()*64+p)%20000
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p)); err == nil {
			_ = l.Close()
			return p
		}
	}
}
