package images

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// confined runs a shell script in mount and pid namespaces of its own: when it
// ends or is killed, its mounts and its children are gone, whatever state it
// was in. args become $1, $2, …
func confined(ctx context.Context, script string, args ...string) error {
	// --kill-child ties the namespace's first process to unshare, and Pdeathsig
	// ties unshare to us.
	line := append([]string{
		"unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL", "--mount-proc",
		"/bin/sh", "-eu", "-c", script, "build",
	}, args...)
	return tool(ctx, line...)
}

// tool runs a program that dies with this process, and puts what it printed
// into the error.
func tool(ctx context.Context, line ...string) error {
	_, err := toolOutput(ctx, line...)
	return err
}

func toolOutput(ctx context.Context, line ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := onOwnThread(cmd.Run)
	if err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", strings.Join(shortened(line), " "), err, tail(out.String()+errs.String(), 40))
	}
	return out.String(), nil
}

// onOwnThread runs f on a thread that stays until f returns: the kernel sends
// PDEATHSIG when the *thread* that forked ends (prctl(2)), and Go ends threads
// as it likes.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- f()
	}()
	return <-done
}

// shortened is a command line for an error: scripts and long option lists say
// less than what was printed below them.
func shortened(line []string) []string {
	const words = 14
	var out []string
	for i, s := range line {
		if i == words {
			return append(out, "…")
		}
		if before, _, cut := strings.Cut(s, "\n"); cut {
			s = before + "…"
		}
		out = append(out, s)
	}
	return out
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}
