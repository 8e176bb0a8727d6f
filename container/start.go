package container

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/mount"

	"linkspan/cnm"
	"linkspan/container/spec"
	"linkspan/keeper"
)

// Start implements Service.
func (e *Engine) Start(ctx context.Context, ref string) error {
	en, c, err := e.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer en.unlock()
	switch c.State.Phase {
	case Running:
		return cnm.Errorf(cnm.ErrNotModified, "container %s is already running", c.ID)
	case Paused:
		return cnm.Conflict("cannot start a paused container, try unpause instead")
	case Removing, Dead:
		return cnm.Conflict("container is marked for removal and cannot be started")
	case Restarting:
		// A person does not wait for the delay to pass.
		e.cancelRestart(en)
	}
	en.mu.Lock()
	en.backoff = backoff{}
	en.mu.Unlock()
	return e.start(lasting(ctx), en, func(s *State) { s.Restarts, s.ManuallyStopped = 0, false })
}

// start brings a container to run; the caller has its lock. The commit before
// it and the one after it enclose all that it touches, so that a crash in
// between is seen.
func (e *Engine) start(ctx context.Context, en *entry, with func(*State)) error {
	before := en.load().State
	c, err := e.change(ctx, en, "starting", func(c *Container) {
		c.State.Starting = true
		with(&c.State)
	})
	if err != nil {
		return err
	}
	pid, err := e.launch(ctx, c)
	if err == nil {
		err = e.started(ctx, en, pid)
	}
	if err == nil {
		return nil
	}
	// Nothing of a failed start stays: its task, its place in the network.
	e.clearRun(ctx, c)
	code := startCode(err)
	c = e.observe(en, "failed", func(c *Container) {
		c.State = before
		if c.State.Phase == Restarting {
			c.State.Phase = Exited
		}
		c.State.Starting, c.State.Pid, c.State.ExitCode, c.State.Error = false, 0, code, err.Error()
	})
	if c.HostConfig.AutoRemove {
		if rerr := e.remove(ctx, en, true); rerr != nil {
			e.log.Error("a container that failed to start is not removed", "container", c.Name, "error", rerr)
		}
	}
	return err
}

// launch makes sandbox, files, specification, task and process.
func (e *Engine) launch(ctx context.Context, c *Container) (pid int, err error) {
	if c.Target != "" {
		if _, err := e.runningTarget(c.Target, "join network of"); err != nil {
			return 0, err
		}
	}
	if err := e.networksThere(c); err != nil {
		return 0, err
	}
	req, err := e.networkRequest(c)
	if err != nil {
		return 0, err
	}
	if err := e.mountVolumes(ctx, c); err != nil {
		return 0, err
	}
	type built struct {
		in     *spec.Input
		layers []mount.Mount
		err    error
	}
	b := make(chan built, 1)
	go func() {
		in, layers, err := e.specification(ctx, c)
		b <- built{in, layers, err}
	}()
	stream, serr := e.openStream(ctx, c)
	e.cfg.Hook("network.join.before")
	sb, nerr := e.cfg.Network.Join(ctx, req)
	e.cfg.Hook("network.join.after")
	x := <-b
	if err := errors.Join(serr, nerr, x.err); err != nil {
		return 0, first(x.err, nerr, serr)
	}
	if err := e.writeFiles(c, sb); err != nil {
		return 0, err
	}
	x.in.NetNS = sb.Path
	if err := e.joins(c, x.in); err != nil {
		return 0, err
	}
	release, err := e.mountSubpaths(c, x.in)
	if err != nil {
		return 0, err
	}
	defer release()
	return e.spawn(ctx, c, x.in, stream, x.layers)
}

// first returns the first error there is.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) spawn(ctx context.Context, c *Container, in *spec.Input, stream keeper.Stream, layers []mount.Mount) (int, error) {
	s, err := spec.Build(in)
	if err != nil {
		return 0, err
	}
	if err := e.ctd.setSpec(ctx, c.ID, s); err != nil {
		return 0, err
	}
	const failed = "failed to create task for container: "
	if err := e.ctd.makeTask(ctx, c.ID, c.Config.Tty, stream, layers); err != nil {
		return 0, runtimeError(failed, err)
	}
	pid, err := e.ctd.startTask(ctx, c.ID, "")
	if err != nil {
		return 0, runtimeError(failed, err)
	}
	return pid, e.cfg.Keeper.Started(ctx, c.ID)
}

// started commits that the process runs and begins to watch it.
func (e *Engine) started(ctx context.Context, en *entry, pid int) error {
	now := time.Now().UTC()
	c, err := e.change(ctx, en, "running", func(c *Container) {
		s := &c.State
		s.Health = healthOf(c.Config).begin(s.Health)
		s.Phase, s.Pid, s.StartedAt, s.FinishedAt = Running, pid, now, time.Time{}
		s.ExitCode, s.Error, s.OOMKilled, s.Starting, s.Frozen = 0, "", false, false, false
		// Whoever started it: that a person stopped it once is over.
		s.ManuallyStopped = false
	})
	if err != nil {
		return err
	}
	e.publish(c, "start")
	e.followLinks(ctx, c)
	r := &run{pid: pid, started: now, done: make(chan struct{})}
	e.watch(en, r, nil)
	e.monitor(en, r, false)
	return nil
}

// clearRun takes away what a start had made. Each part is tried whatever
// becomes of the others; what stays is found by the next start or sweep.
func (e *Engine) clearRun(ctx context.Context, c *Container) {
	warn := func(what string, err error) {
		if err != nil {
			e.log.Warn("after a failed start", "container", c.Name, "step", what, "error", err)
		}
	}
	warn("task", absent(e.ctd.killTask(ctx, c.ID)))
	warn("stdio", e.cfg.Keeper.CloseStream(ctx, c.ID))
	warn("network", e.cfg.Network.Leave(ctx, c.ID, false))
	e.unmountShm(c.ID)
	e.leaveVolumes(ctx, c)
}

// Exit codes of a process that could not be started, as shells have them.
const (
	codeFault     = 128
	codeNotFound  = 127
	codeForbidden = 126
)

// startError is a start that the runtime refused: the container's own fault.
type startError struct {
	code int
	msg  string
}

func (s *startError) Error() string { return s.msg }

// Unwrap: what could be invoked with another command or mount is the request's
// fault; the rest is the host's.
func (s *startError) Unwrap() error {
	if s.code == codeFault {
		return nil
	}
	return cnm.ErrInvalid
}

// runtimeError reads what the OCI runtime says, which is text alone. The docker
// CLI derives its own exit code from the same words, so they are kept.
func runtimeError(what string, err error) error {
	if errors.Is(err, cnm.ErrUnavailable) {
		return err
	}
	msg := what + strings.TrimSuffix(err.Error(), ": unknown")
	low := strings.ToLower(msg)
	has := func(s string) bool { return strings.Contains(low, strings.ToLower(s)) }
	switch {
	case has(syscall.EACCES.Error()):
		return &startError{codeForbidden, msg}
	case has(syscall.EISDIR.Error()):
		// Executing a directory: the CLI looks for the other words.
		return &startError{codeForbidden, msg + ": " + syscall.EACCES.Error()}
	case has(syscall.ENOTDIR.Error()):
		return &startError{codeNotFound, msg + ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"}
	case has("executable file not found"), has("no such file or directory"), has("system cannot find the file specified"):
		return &startError{codeNotFound, msg}
	}
	return &startError{codeFault, msg}
}

func startCode(err error) int {
	var s *startError
	if errors.As(err, &s) {
		return s.code
	}
	return codeFault
}
