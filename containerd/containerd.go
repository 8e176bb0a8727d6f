// Package containerd finds the containerd that runs the containers: the one
// that was named, else one that runs already, else a private child that it
// supervises.
package containerd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"linkspan/cnm"
)

// System is where a containerd of the host's own listens.
const System = "/run/containerd/containerd.sock"

// Config says where to look and where a private one lives.
type Config struct {
	// Address is the socket that the person named; empty: search.
	Address string
	// Root and State are a private one's folders.
	Root, State string
	Log         *slog.Logger
}

// Daemon is the containerd in use.
type Daemon struct {
	// Address is its socket.
	Address string
	// Private says that it is ours to supervise and to end.
	Private bool

	cfg  Config
	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when the supervisor ended
	stop context.CancelFunc
}

// Find returns the containerd to use, having started one if need be. A private
// one that a killed predecessor left running is taken over. Errors are
// cnm.ErrUnavailable.
func Find(ctx context.Context, cfg Config) (*Daemon, error) {
	if cfg.Address != "" {
		if err := answers(cfg.Address); err != nil {
			return nil, cnm.Errorf(cnm.ErrUnavailable, "containerd at %s does not answer: %w; start it, or leave --containerd away to have a private one", cfg.Address, err)
		}
		return &Daemon{Address: cfg.Address, cfg: cfg}, nil
	}
	d := &Daemon{Address: filepath.Join(cfg.State, "containerd.sock"), Private: true, cfg: cfg}
	if answers(d.Address) != nil {
		if answers(System) == nil {
			return &Daemon{Address: System, cfg: cfg}, nil
		}
		if err := d.start(ctx); err != nil {
			return nil, err
		}
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop, d.done = stop, make(chan struct{})
	go d.supervise(run)
	return d, nil
}

func answers(socket string) error {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// settings is the private one's whole configuration: no CRI plugin, since no
// kubelet asks, and all folders our own.
const settings = `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = %q
`

// start runs a private containerd and waits until it answers.
func (d *Daemon) start(ctx context.Context) error {
	bin, err := exec.LookPath("containerd")
	if err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "no containerd runs on this host and none is installed: %w; install the package containerd, or name a socket with --containerd", err)
	}
	for _, dir := range []string{d.cfg.Root, d.cfg.State} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	conf := filepath.Join(d.cfg.State, "config.toml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, settings, d.cfg.Root, filepath.Join(d.cfg.State, "state"), d.Address), 0o600); err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(d.cfg.State, "containerd.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(bin, "--config", conf)
	cmd.Stdout, cmd.Stderr = out, out
	// A session of its own: the terminal's Ctrl-C and the daemon's death are not
	// its business, and the next daemon takes it over.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Nor is the service manager, which it would tell READY in the daemon's name
	// (sd_notify(3)).
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "NOTIFY_SOCKET=") || strings.HasPrefix(e, "WATCHDOG_") || strings.HasPrefix(e, "LISTEN_")
	})
	if err := cmd.Start(); err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "start containerd: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	d.mu.Lock()
	d.cmd = cmd
	d.mu.Unlock()
	if err := os.WriteFile(d.pidFile(), fmt.Appendf(nil, "%d\n", cmd.Process.Pid), 0o600); err != nil {
		return err
	}
	for deadline := time.After(20 * time.Second); ; {
		if answers(d.Address) == nil {
			return nil
		}
		select {
		case err := <-exited:
			return cnm.Errorf(cnm.ErrUnavailable, "containerd ended at its start (%v); see %s", err, out.Name())
		case <-deadline:
			return cnm.Errorf(cnm.ErrUnavailable, "containerd did not answer within 20 s; see %s", out.Name())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(3 * time.Millisecond):
		}
	}
}

func (d *Daemon) pidFile() string { return filepath.Join(d.cfg.State, "containerd.pid") }
