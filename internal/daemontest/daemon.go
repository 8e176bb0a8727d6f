package daemontest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/internal/lab"
	"linkspan/internal/testlog"
)

const (
	// readyTime is what a daemon may take to answer; it takes about 100 ms.
	readyTime = lab.Patience
	// stopTime is what it may take to stop.
	stopTime = lab.Patience
	// dockerTime bounds one docker command.
	dockerTime = 3 * time.Minute
)

// Daemon is one daemon under test. Methods fail the test they belong to.
type Daemon struct {
	*World
	// Dir holds everything of this daemon: Data, Exec and its socket.
	Dir, Data, Exec, Socket string

	t      testing.TB
	binary string
	ctd    string // the containerd it was given, if any
	flags  []string
	env    []string
	proc   *process
}

// process is the running daemon; it is shared by all tests that share a daemon.
type process struct {
	mu   sync.Mutex
	cmd  *exec.Cmd
	log  testlog.Log
	done chan struct{}
	err  error
}

// For is the same daemon as seen by another test.
func (d *Daemon) For(t testing.TB) *Daemon {
	c := *d
	c.t = t
	return &c
}

// Run starts the daemon and waits until it answers; after Stop or Kill9 it is
// the restart. More flags and variables hold for this run only.
func (d *Daemon) Run(more ...string) {
	d.t.Helper()
	if err := d.TryRun(more...); err != nil {
		d.t.Fatalf("the daemon does not start: %v\n%s", err, d.Log())
	}
}

// TryRun is Run for daemons that may refuse to start. Arguments that start with
// a dash are flags, all others NAME=value of the environment.
func (d *Daemon) TryRun(more ...string) error {
	p := d.proc
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return errors.New("it is running")
	}
	args := append([]string{d.binary, "daemon"}, d.flags...)
	env := append(os.Environ(), d.env...)
	for _, m := range more {
		if strings.HasPrefix(m, "-") {
			args = append(args, m)
		} else {
			env = append(env, m)
		}
	}
	// nsenter becomes the daemon, so its pid is the daemon's.
	cmd := d.Host.Command(args...)
	// A file would do, and a pipe too; but children that inherit a pipe keep Wait
	// from returning.
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &p.log, &p.log, time.Second
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.done = cmd, make(chan struct{})
	done := p.done
	go func() { p.err = cmd.Wait(); close(done) }()
	deadline := time.Now().Add(readyTime)
	for {
		err := d.ping()
		if err == nil {
			return nil
		}
		select {
		case <-done:
			p.cmd = nil
			return fmt.Errorf("it ended: %v", p.err)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			<-done
			p.cmd = nil
			return fmt.Errorf("no answer after %v: %w", readyTime, err)
		}
	}
}

func (d *Daemon) ping() error {
	_, err := d.get("/_ping", 10*time.Second)
	return err
}

// PID of the running daemon, 0 if none runs.
func (d *Daemon) PID() int {
	d.proc.mu.Lock()
	defer d.proc.mu.Unlock()
	if d.proc.cmd == nil {
		return 0
	}
	return d.proc.cmd.Process.Pid
}

// Log is what all runs of the daemon have printed.
func (d *Daemon) Log() string { return d.proc.log.String() }

// Signal sends a signal to the running daemon, and waits until one that stops it has.
func (d *Daemon) Signal(s syscall.Signal) {
	d.t.Helper()
	pid := d.PID()
	if pid == 0 {
		d.t.Fatal("no daemon is running")
	}
	if err := unix.Kill(pid, s); err != nil {
		d.t.Fatalf("daemon: %v", err)
	}
	if s == syscall.SIGSTOP {
		d.Until(lab.Patience, "the daemon has stopped", func() bool { return lab.Stopped(pid) })
	}
}

// Wait waits until the daemon has ended by itself (a fail point, say) and
// returns how; within, and lab.Patience at least.
func (d *Daemon) Wait(within time.Duration) error {
	d.t.Helper()
	p := d.proc
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return p.err
	}
	select {
	case <-p.done:
	case <-time.After(max(within, lab.Patience)):
		d.t.Fatalf("the daemon runs on after %v", max(within, lab.Patience))
	}
	p.cmd = nil
	return p.err
}

// Kill9 kills the daemon, and nothing but the daemon.
func (d *Daemon) Kill9() {
	d.t.Helper()
	if d.PID() == 0 {
		return
	}
	d.Signal(unix.SIGKILL)
	_ = d.Wait(stopTime)
}

// Stop asks the daemon to stop.
func (d *Daemon) Stop() {
	d.t.Helper()
	if d.PID() == 0 {
		return
	}
	d.Signal(unix.SIGTERM)
	if err := d.Wait(stopTime); err != nil {
		d.t.Errorf("the daemon stopped with %v", err)
	}
}

// Restart stops and starts it.
func (d *Daemon) Restart(more ...string) {
	d.t.Helper()
	d.Stop()
	d.Run(more...)
}

// KeeperPID finds the daemon's keeper, 0 if there is none.
func (d *Daemon) KeeperPID() int {
	for _, p := range d.processes() {
		if slices.Contains(strings.Fields(p.cmd), "keeper") {
			return p.pid
		}
	}
	return 0
}

// KillKeeper kills the daemon's keeper and returns what its pid was.
func (d *Daemon) KillKeeper() int {
	d.t.Helper()
	pid := d.KeeperPID()
	if pid == 0 {
		d.t.Fatal("no keeper is running")
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		d.t.Fatalf("keeper: %v", err)
	}
	return pid
}

// SecondDaemon tries to start another daemon, with folders of its own, beside
// this one in the same network namespace, and returns what that one said when it
// refused.
func (d *Daemon) SecondDaemon() string {
	d.t.Helper()
	dir := d.t.TempDir()
	out, err := d.Host.Try("timeout", "60", d.binary, "daemon", "--data-root", dir+"/d", "--exec-root", dir+"/x", "-H", "unix://"+d.Dir+"/second.sock")
	if err == nil {
		d.t.Errorf("the second daemon ended without complaint")
	}
	return out
}
