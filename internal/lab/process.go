package lab

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"linkspan/internal/testlog"
)

// Process is a program that runs on a host until it is stopped, at the latest by
// the test's cleanup. nsenter becomes the program, so its pid is the program's.
type Process struct {
	cmd  *exec.Cmd
	host *Host
	out  *testlog.Log
	done chan struct{}
	err  error
}

// Start runs a program in the background; adjust may set its environment and
// folder. What it printed is logged when the test fails.
func (h *Host) Start(cmd []string, adjust ...func(*exec.Cmd)) *Process {
	h.lab.t.Helper()
	p := &Process{cmd: h.Command(cmd...), host: h, out: &testlog.Log{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	// Children that inherit the pipes must not keep Wait from returning.
	p.cmd.WaitDelay = time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, f := range adjust {
		f(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		h.lab.t.Fatalf("lab: on %s: %s: %v", h.Name, strings.Join(cmd, " "), err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	h.lab.t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.done
		if h.lab.t.Failed() {
			h.lab.t.Logf("%s on %s printed:\n%s", cmd[0], h.Name, p.Output())
		}
	})
	return p
}

// PID of the program itself.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output is what it printed so far.
func (p *Process) Output() string { return p.out.String() }

// Done is closed when it has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal; to a program that ended it is nothing.
func (p *Process) Signal(s os.Signal) {
	select {
	case <-p.done:
	default:
		_ = p.cmd.Process.Signal(s)
	}
}

// Stop asks it to end, kills it when that takes too long, and returns how it ended.
func (p *Process) Stop() error {
	p.host.lab.t.Helper()
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(Patience):
		p.host.lab.t.Errorf("lab: %v does not stop", p.cmd.Args)
		p.Kill()
	}
	return p.err
}

// Kill ends it at once and waits until it is gone.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// WaitFor waits until the program has printed text; it fails the test when the
// program ends, or the time passes, before: within, and Patience at least.
func (p *Process) WaitFor(text string, within time.Duration) {
	p.host.lab.t.Helper()
	within = max(within, Patience)
	deadline := time.After(within)
	for !strings.Contains(p.Output(), text) {
		select {
		case <-p.done:
			if strings.Contains(p.Output(), text) {
				return
			}
			p.host.lab.t.Fatalf("lab: %v ended (%v) without printing %q:\n%s", p.cmd.Args, p.err, text, p.Output())
		case <-deadline:
			p.host.lab.t.Fatalf("lab: %v did not print %q in %v:\n%s", p.cmd.Args, text, within, p.Output())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Listen opens a listening socket on the host.
func (h *Host) Listen(network, addr string) net.Listener {
	h.lab.t.Helper()
	var l net.Listener
	h.must(func() (err error) { l, err = net.Listen(network, addr); return err })
	h.lab.t.Cleanup(func() { l.Close() })
	return l
}

// ListenPacket opens a datagram socket on the host.
func (h *Host) ListenPacket(network, addr string) net.PacketConn {
	h.lab.t.Helper()
	var c net.PacketConn
	h.must(func() (err error) { c, err = net.ListenPacket(network, addr); return err })
	h.lab.t.Cleanup(func() { c.Close() })
	return c
}

// Dial connects from the host. Addresses only: names would be resolved by
// threads elsewhere; and one family only, since the dialer tries two in parallel.
func (h *Host) Dial(network, addr string, timeout time.Duration) (c net.Conn, err error) {
	if _, e := net.ResolveTCPAddr("tcp", addr); e != nil {
		return nil, fmt.Errorf("lab: dial %s: %w", addr, e)
	}
	err = h.Do(func() (err error) { c, err = net.DialTimeout(network, addr, timeout); return err })
	return c, err
}

func (h *Host) must(fn func() error) {
	h.lab.t.Helper()
	if err := h.Do(fn); err != nil {
		h.lab.t.Fatalf("lab: on %s: %v", h.Name, err)
	}
}

// Buried says whether a process is no more, but for who is to be told of it. A zombie has
// closed its files when no other thread of it is left; its command line is gone before
// (proc(5), and exit_mm before exit_files in the kernel's do_exit).
func Buried(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	_, state, _ := strings.Cut(string(b), ") ")
	return err != nil || strings.HasPrefix(state, "Z") && len(threads) <= 1
}

// Stopped says whether a process that got a SIGSTOP has stopped: each of its threads runs on
// until it sees it (signal(7)).
func Stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, t := range threads {
		b, err := os.ReadFile(t)
		if _, state, _ := strings.Cut(string(b), ") "); err == nil && !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return len(threads) > 0
}
