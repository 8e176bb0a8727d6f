package container

import (
	"context"
	"io"
	"os"

	"linkspan/cnm"
	"linkspan/container/logs"
	"linkspan/keeper"
)

// CanAttach implements Service.
func (e *Engine) CanAttach(ref string) (*Container, error) {
	c, err := e.Get(ref)
	if err != nil {
		return nil, err
	}
	switch c.State.Phase {
	case Paused:
		return nil, cnm.Conflict("container %s is paused, unpause the container before attach", c.ID)
	case Restarting:
		return nil, cnm.Conflict("container %s is restarting, wait until the container is running", c.ID)
	case Removing, Dead:
		return nil, cnm.Conflict("container %s is marked for removal: it has no streams any more", c.ID)
	}
	return c, nil
}

// Attach implements Service. It returns when the keeper has the connection,
// which from then on outlives this process.
func (e *Engine) Attach(ctx context.Context, ref string, o AttachOptions, client *os.File) error {
	c, err := e.CanAttach(ref)
	if err != nil {
		return err
	}
	keys, err := detachKeys(o.DetachKeys)
	if err != nil {
		return err
	}
	if !c.Config.Tty {
		keys = nil
	}
	if !o.Stream {
		if !o.Logs {
			return nil
		}
		return e.Logs(ctx, ref, LogOptions{Stdout: o.Stdout, Stderr: o.Stderr, Tail: -1}, client, func() {})
	}
	if !c.State.Phase.running() {
		// The stream of an earlier run has ended: attach to that of the next one.
		if _, err := e.openStream(ctx, c); err != nil {
			return err
		}
	}
	ko := keeper.AttachOptions{
		Stdin: o.Stdin && c.Config.OpenStdin, Stdout: o.Stdout, Stderr: o.Stderr,
		Mux: o.Mux, DetachKeys: keys, Pending: o.Pending, Replay: o.Logs,
	}
	err = e.cfg.Keeper.Attach(ctx, c.ID, ko, client, func(detached bool) {
		if detached {
			e.publish(c, "detach")
		}
	})
	if err == nil {
		e.publish(c, "attach")
	}
	return err
}

// StdinClosed makes the shim let go of a stdin that the keeper has closed, so
// that the process reads EOF. id is a container's or an exec's. It is for the
// keeper client's OnStdinClosed.
func (e *Engine) StdinClosed(id string) {
	ctx, cancel := context.WithTimeout(e.ctx, quick)
	defer cancel()
	exec := ""
	if en, err := e.findExec(id); err == nil {
		id, exec = en.get().ContainerID, id
	}
	if err := e.ctd.closeStdin(ctx, id, exec); err != nil {
		e.log.Warn("a process keeps waiting for input that has ended", "container", id, "exec", exec, "error", err)
	}
}

// Logs implements Service.
func (e *Engine) Logs(ctx context.Context, ref string, o LogOptions, w io.Writer, flush func()) error {
	en, err := e.find(ref)
	if err != nil {
		return err
	}
	c := en.load()
	if c.HostConfig.LogConfig.Type == "none" {
		return cnm.Unsupported("configured logging driver does not support reading: container %s was made with --log-driver none", c.Name)
	}
	done := make(chan struct{})
	if r := en.currentRun(); r != nil {
		done = r.done
	} else {
		close(done) // nothing is added: followers end at once, as with Docker
	}
	return logs.Copy(ctx, e.logPath(c.ID), logs.Options{
		Stdout: o.Stdout, Stderr: o.Stderr && !c.Config.Tty, Timestamps: o.Timestamps, Details: o.Details, Follow: o.Follow,
		Since: o.Since, Until: o.Until, Tail: o.Tail, Mux: !c.Config.Tty,
	}, done, w, flush)
}

// Size measures a container's writable layer, and all that it sees.
func (e *Engine) Size(ctx context.Context, ref string) (rw, root int64, err error) {
	c, err := e.Get(ref)
	if err != nil {
		return 0, 0, err
	}
	if rw, err = e.ctd.layerSize(ctx, c.ID); err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	img, err := e.cfg.Images.Get(ctx, c.ImageID)
	if err != nil {
		// The image may be gone from the list while its layers are in use.
		return rw, rw, nil
	}
	return rw, rw + img.Size, nil
}
