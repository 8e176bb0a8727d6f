package keeper

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain runs everything in a network namespace of its own, so that ports
// collide with nothing; and it is the keeper process that process-level tests
// start.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "keeper":
			os.Exit(Run(os.Args[2:], cmp.Or(os.Getenv("KEEPER_TEST_VERSION"), "test")))
		case "daemon":
			os.Exit(actDaemon(os.Args[2]))
		case "naming":
			os.Exit(actNaming(os.Args[2], os.Args[3]))
		}
	}
	const inside = "KEEPER_TEST_NETNS"
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		if os.Getenv(inside) == "new" {
			if err := upLoopback(); err != nil {
				fmt.Fprintln(os.Stderr, "lo:", err)
				os.Exit(1)
			}
			os.Setenv(inside, "up")
		}
		os.Exit(m.Run())
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=new")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
}

func upLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOOPBACK)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}
