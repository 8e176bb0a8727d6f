package container

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"linkspan/cnm"
	"linkspan/container/rootfs"
	"linkspan/container/spec"
	"linkspan/keeper"
)

func encode(v any) ([]byte, error) { return json.Marshal(v) }

func joined(words []string) string { return strings.Join(words, " ") }

// ExecStart implements Service. An error that comes after the client was handed
// to the keeper is told to the client, where alone it can be seen.
func (e *Engine) ExecStart(ctx context.Context, id string, tty bool, size *[2]uint, client *os.File, pending []byte) error {
	en, err := e.findExec(id)
	if err != nil {
		return err
	}
	in, err := e.find(en.get().ContainerID)
	if err != nil {
		return err
	}
	in.entering.RLock()
	c, err := e.claimExec(en)
	if err != nil {
		in.entering.RUnlock()
		return err
	}
	if size != nil {
		en.mu.Lock()
		en.x.Config.ConsoleSize = size
		en.mu.Unlock()
	}
	ended := make(chan struct{})
	told, err := e.runExec(lasting(ctx), en, c, client, pending, !tty, ended)
	in.entering.RUnlock()
	if err != nil {
		e.failExec(lasting(ctx), en, err)
		if told {
			return nil
		}
		return err
	}
	if client == nil {
		return nil
	}
	select {
	case <-en.done:
	case <-ended:
	case <-ctx.Done():
	}
	return nil
}

// claimExec makes sure that an exec is started once.
func (e *Engine) claimExec(en *execEntry) (*Container, error) {
	c, err := e.Get(en.get().ContainerID)
	if err == nil {
		err = canExec(c)
	}
	en.mu.Lock()
	defer en.mu.Unlock()
	switch {
	case en.x.Running:
		return nil, cnm.Conflict("Error: Exec command %s is already running", en.x.ID)
	case en.claimed:
		return nil, cnm.Conflict("Error: Exec command %s has already run", en.x.ID)
	case err != nil:
		return nil, err
	}
	en.claimed = true
	return c, nil
}

// runExec makes and starts the process. told says that the client has been told
// of the error.
func (e *Engine) runExec(ctx context.Context, en *execEntry, c *Container, client *os.File, pending []byte, mux bool, ended chan struct{}) (told bool, err error) {
	x := en.get()
	in, err := e.input(c)
	if err != nil {
		return false, err
	}
	user, err := e.execUser(c, x.Config.User)
	if err != nil {
		return false, err
	}
	p, err := spec.ExecProcess(in, &spec.Exec{
		Args: x.Config.Cmd, Env: x.Config.Env, Cwd: x.Config.WorkingDir, User: user,
		Tty: x.Config.Tty, Privileged: x.Config.Privileged, Size: x.Config.ConsoleSize,
	})
	if err != nil {
		return false, err
	}
	en.mu.Lock()
	en.x.Started, en.x.Running = true, true
	en.mu.Unlock()
	if err := e.commitExec(ctx, "exec.starting", en); err != nil {
		return false, err
	}
	stream, err := e.cfg.Keeper.OpenStream(ctx, keeper.StreamSpec{ID: x.ID, TTY: x.Config.Tty, Stdin: x.Config.AttachStdin, StdinOnce: true})
	if err != nil {
		return false, err
	}
	if err := e.ctd.createExec(ctx, c.ID, x.ID, p, stream); err != nil {
		return false, runtimeError("", err)
	}
	if client != nil {
		keys, _ := detachKeys(x.Config.DetachKeys)
		if !x.Config.Tty {
			keys = nil
		}
		o := keeper.AttachOptions{Stdin: x.Config.AttachStdin, Stdout: x.Config.AttachStdout, Stderr: x.Config.AttachStderr, Mux: mux, DetachKeys: keys, Pending: pending}
		if err := e.cfg.Keeper.Attach(ctx, x.ID, o, client, func(detached bool) {
			if detached {
				e.publish(c, "exec_detach", "execID", x.ID)
			}
			close(ended)
		}); err != nil {
			return false, err
		}
	}
	pid, err := e.ctd.startTask(ctx, c.ID, x.ID)
	if err != nil {
		err = runtimeError("", err)
		if client != nil {
			complain(client, err, mux)
		}
		return client != nil, err
	}
	en.mu.Lock()
	en.x.Pid = pid
	en.mu.Unlock()
	e.publish(c, "exec_start: "+joined(x.Config.Cmd), "execID", x.ID)
	err = e.cfg.Keeper.Started(ctx, x.ID)
	e.watchExec(en)
	return false, err
}

// complain writes an error as Docker does when an exec cannot be started: to
// the client's standard output.
func complain(client *os.File, err error, mux bool) {
	text := []byte(err.Error() + "\r\n")
	if mux {
		head := make([]byte, 8, 8+len(text))
		head[0] = 1
		binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
		text = append(head, text...)
	}
	_, _ = client.Write(text) // the client may be gone: then there is nobody to tell
}

// failExec takes back an exec that could not be started.
func (e *Engine) failExec(ctx context.Context, en *execEntry, cause error) {
	x := en.get()
	if x.Pid != 0 {
		return // it runs; only the keeper did not take note, and watchExec goes on
	}
	code := startCode(cause)
	en.mu.Lock()
	en.x.Running, en.x.ExitCode = false, &code
	stored := en.rev != 0
	en.mu.Unlock()
	warn := func(err error) {
		if err != nil && !errors.Is(err, cnm.ErrNotFound) {
			e.log.Warn("after a failed exec", "exec", x.ID, "container", x.ContainerID, "error", err)
		}
	}
	warn(e.ctd.deleteExec(ctx, x.ContainerID, x.ID))
	warn(e.cfg.Keeper.CloseStream(ctx, x.ID))
	if stored {
		warn(e.commitExec(ctx, "exec.failed", en))
	}
	close(en.ended)
	close(en.done)
	e.expireExec(en, execKeep)
}

// watchExec waits for an exec's end in the background.
func (e *Engine) watchExec(en *execEntry) {
	e.work.Go(func() {
		x := en.get()
		end, err := e.awaitExit(x.ContainerID, x.ID)
		if err != nil {
			return
		}
		ctx := lasting(e.ctx)
		en.mu.Lock()
		en.x.Running, en.x.ExitCode, en.x.Pid = false, &end.code, 0
		en.mu.Unlock()
		close(en.ended)
		e.drain(ctx, x.ID)
		if err := e.commitExec(ctx, "exec.ended", en); err != nil {
			e.log.Error("the exit code of an exec cannot be written", "exec", x.ID, "error", err)
		}
		if err := e.ctd.deleteExec(ctx, x.ContainerID, x.ID); err != nil {
			e.log.Warn("an ended exec stays in containerd until its container ends", "exec", x.ID, "error", err)
		}
		if err := e.cfg.Keeper.CloseStream(ctx, x.ID); err != nil {
			e.log.Warn("an ended exec's stdio stays with the keeper", "exec", x.ID, "error", err)
		}
		if c, err := e.Get(x.ContainerID); err == nil {
			e.publish(c, "exec_die", "execID", x.ID, "exitCode", itoa(end.code))
		}
		close(en.done)
		e.expireExec(en, execKeep)
	})
}

// expireExec forgets an ended exec after a while.
func (e *Engine) expireExec(en *execEntry, after time.Duration) {
	if en.passing {
		return
	}
	time.AfterFunc(after, func() {
		if e.ctx.Err() == nil {
			e.forgetExec(e.ctx, en)
		}
	})
}

// execUser resolves an exec's user in the running container; empty is the
// container's own.
func (e *Engine) execUser(c *Container, user string) (u specs.User, err error) {
	if user == "" {
		user = c.Config.User
	}
	v, err := rootfs.Running(c.State.Pid, c.ID)
	if err != nil {
		return u, err
	}
	defer v.Close()
	return v.User(user, c.HostConfig.GroupAdd)
}
