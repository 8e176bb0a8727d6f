package daemontest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"linkspan/internal/lab"
)

// DockerEnv is the environment variable that names another docker command.
const DockerEnv = "LINKSPAN_TEST_DOCKER"

// Result is what a command gave.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Docker runs the real docker command against the daemon and returns what it
// printed to stdout, without the last newline. A failure fails the test.
func (d *Daemon) Docker(args ...string) string {
	d.t.Helper()
	r := d.TryDocker(args...)
	if r.Code != 0 {
		d.t.Fatalf("docker %s: exit code %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSuffix(r.Stdout, "\n")
}

// TryDocker is Docker for commands that may fail.
func (d *Daemon) TryDocker(args ...string) Result {
	d.t.Helper()
	return d.finish(exec.Command(dockerProgram(), args...))
}

// Refused runs a docker command that must fail with all of the words in what it
// says.
func (d *Daemon) Refused(words []string, args ...string) Result {
	d.t.Helper()
	r := d.TryDocker(args...)
	if r.Code == 0 {
		d.t.Errorf("docker %s: succeeded, want %q\n%s", strings.Join(args, " "), words, r.Stdout)
	}
	for _, w := range words {
		if !strings.Contains(r.Stderr, w) {
			d.t.Errorf("docker %s: said %q, want %q in it", strings.Join(args, " "), r.Stderr, w)
		}
	}
	return r
}

// Linkspan runs the binary under test as linkspan, against the daemon.
func (d *Daemon) Linkspan(args ...string) Result {
	d.t.Helper()
	return d.finish(exec.Command(d.binary, args...))
}

// DockerCommand prepares docker for callers that need its pipes.
func (d *Daemon) DockerCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(dockerProgram(), args...)
	cmd.Env = d.Env()
	return cmd
}

func (d *Daemon) finish(cmd *exec.Cmd) Result {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), dockerTime)
	defer cancel()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errs, d.Env()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		d.t.Fatalf("%s: %v", cmd.Args[0], err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	r := Result{Stdout: out.String(), Stderr: errs.String(), Code: cmd.ProcessState.ExitCode()}
	if ctx.Err() != nil {
		d.t.Errorf("%s: killed after %v\n%s%s", strings.Join(cmd.Args, " "), dockerTime, r.Stdout, r.Stderr)
	} else if err != nil && !errors.As(err, new(*exec.ExitError)) {
		d.t.Errorf("%s: %v", strings.Join(cmd.Args, " "), err)
	}
	return r
}

// Until repeats a check until it is true, and fails the test when the time is
// over: within, and lab.Patience at least.
func (d *Daemon) Until(within time.Duration, what string, ok func() bool) {
	d.t.Helper()
	within = max(within, lab.Patience)
	began := time.Now()
	for !ok() {
		if time.Since(began) > within {
			d.t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if took := time.Since(began); took > long {
		d.t.Logf("only after %v: %s", took.Round(100*time.Millisecond), what)
	}
}

// long is what a wait takes that is worth to be told.
const long = 3 * time.Second

func dockerProgram() string {
	if p := os.Getenv(DockerEnv); p != "" {
		return p
	}
	return "docker"
}
