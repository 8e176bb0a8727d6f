package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"linkspan/cnm"
)

// EnsureConfig says which keeper, and how to start one.
type EnsureConfig struct {
	Socket, Dir string
	// Exe is the binary; it is called as `Exe keeper --socket … --dir … --name …`.
	Exe string
	// Name is the instance.
	Name string
	// Version is the daemon's, told to the keeper.
	Version string
	Logger  *slog.Logger
	// Args are further arguments of a keeper that is started.
	Args []string
	// Env is the environment of a keeper that is started; nil: the caller's, without what
	// is between it and the service manager.
	Env []string
}

// startTimeout bounds the start of a keeper: it needs milliseconds.
const startTimeout = 10 * time.Second

// ExitRunning is the exit code of a keeper that found another one.
const ExitRunning = 3

// Ensure connects to the keeper, and starts one if there is none. started tells
// which: a new one holds nothing, and everything has to be declared again. One of
// another version is upgraded in its place.
func Ensure(ctx context.Context, cfg EnsureConfig) (c *Client, started bool, err error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		c, err = dialVersion(cfg.Socket, cfg.Version)
		if err == nil {
			err = c.checkPlace(ctx)
		}
		if err == nil {
			c.renew(ctx, cfg)
			return c, started, nil
		}
		if c != nil {
			c.Close()
		}
		if !errors.Is(err, cnm.ErrUnavailable) {
			return nil, false, err
		}
		var exit *exec.ExitError
		switch serr := start(ctx, cfg); {
		case serr == nil:
			started = true
			continue
		case errors.As(serr, &exit) && exit.ExitCode() == ExitRunning:
			// Another daemon was faster, or the former keeper is just leaving.
		default:
			return nil, false, cnm.Errorf(cnm.ErrUnavailable, "the keeper cannot be started: %w", serr)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, false, cnm.Errorf(cnm.ErrUnavailable, "a keeper holds %s but does not answer on %s: %w", cfg.Dir, cfg.Socket, err)
		}
	}
}

// renew has a keeper of another version replace itself by this daemon's, so that
// it knows what this daemon will ask for. It keeps everything that it holds. One
// that cannot stays, and answers cnm.ErrUnsupported to what it does not know.
func (c *Client) renew(ctx context.Context, cfg EnsureConfig) {
	info, err := c.Info(ctx)
	if err != nil || cfg.Version == "" || info.Version == cfg.Version {
		return
	}
	if err := c.Upgrade(ctx, cfg.Exe); err != nil {
		cfg.Logger.Warn("the keeper is another version's and cannot be replaced: what is new does not work until it is ended, which cuts attached clients",
			"pid", info.PID, "keeper", info.Version, "daemon", cfg.Version, "err", err)
		return
	}
	cfg.Logger.Info("the keeper replaced itself by this version's", "pid", info.PID, "was", info.Version, "is", cfg.Version)
}

// checkPlace refuses a keeper that was started in another network namespace: the
// ports it binds and the connections it forwards would be another host's.
func (c *Client) checkPlace(ctx context.Context) error {
	info, err := c.Info(ctx)
	if err != nil {
		return err
	}
	mine, err := netInode()
	if err != nil {
		return err
	}
	if info.NetInode != mine {
		return cnm.Conflict("the keeper on %s (pid %d) runs in network namespace %d and this daemon in %d: start the daemon there, or end that keeper", c.path, info.PID, info.NetInode, mine)
	}
	return nil
}

// start runs a keeper, detached, and returns when it accepts connections. It has
// a session of its own, so that no signal to the daemon's group or terminal gets
// to it; when the daemon dies it becomes init's child. Under systemd the unit
// needs KillMode=process: a session is no cgroup.
func start(ctx context.Context, cfg EnsureConfig) error {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(cfg.Dir, "keeper.log")
	log, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	args := append([]string{"keeper", "--socket", cfg.Socket, "--dir", cfg.Dir, "--name", cfg.Name, "--ready-fd", "3"}, cfg.Args...)
	cmd := exec.Command(cfg.Exe, args...)
	cmd.Dir = "/"
	cmd.Env = cfg.Env
	if cmd.Env == nil {
		// The keeper must not answer the service manager in the daemon's name.
		cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool {
			return strings.HasPrefix(e, "NOTIFY_SOCKET=") || strings.HasPrefix(e, "WATCHDOG_") || strings.HasPrefix(e, "LISTEN_")
		})
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	from, _ := log.Seek(0, io.SeekEnd)
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	// Reaped whenever it dies, as long as this process is its parent.
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	ready := make(chan bool, 1)
	go func() {
		b, _ := io.ReadAll(r)
		ready <- len(b) > 0
	}()
	select {
	case ok := <-ready:
		if ok {
			cfg.Logger.Info("keeper started", "pid", cmd.Process.Pid, "socket", cfg.Socket, "log", path)
			return nil
		}
		// It closed the pipe without a word: it is about to exit.
		select {
		case err = <-exited:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		err = fmt.Errorf("pid %d was not ready: %w", cmd.Process.Pid, context.Cause(ctx))
	}
	if err == nil {
		err = errors.New("it exited at once")
	}
	return fmt.Errorf("%s keeper: %w%s", cfg.Exe, err, said(path, from))
}

// said is what a keeper that failed wrote into its log.
func said(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(io.NewSectionReader(f, from, 4<<10), 4<<10))
	if b = bytes.TrimSpace(b); len(b) == 0 {
		return ""
	}
	return ": " + strings.ReplaceAll(string(b), "\n", "; ")
}

// Supervise keeps a keeper there until ctx ends. When it dies it starts another
// one at once and calls replaced, which declares again what was held: streams of
// running containers (their FIFOs are found again, with what was printed
// meanwhile) and ports. Attached clients are gone with the old one.
func (c *Client) Supervise(ctx context.Context, cfg EnsureConfig, replaced func(ctx context.Context)) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-c.Lost():
		}
		if c.isClosed() {
			return
		}
		n, started, err := Ensure(ctx, cfg)
		if err == nil {
			n.Close()
			_, err = c.connection()
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait = min(max(2*wait, 50*time.Millisecond), 5*time.Second)
			cfg.Logger.Error("the keeper is gone and cannot be replaced; attach, logs and new ports do not work until it is", "err", err, "next_try", wait)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
		case started:
			wait = 0
			cfg.Logger.Warn("the keeper died and was replaced: attached clients were cut; streams and ports are declared again")
			replaced(ctx)
		default:
			wait = 0 // the same keeper, or one that someone else has started
			replaced(ctx)
		}
	}
}

func (c *Client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}
