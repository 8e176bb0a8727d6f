// Package ctdtest starts a private containerd for a test and leaves nothing of
// it behind: no process, shim, mount, socket or file.
package ctdtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"

	"linkspan/probe"
)

// Namespace is a containerd namespace that tests may use; any other is cleaned
// up as well.
const Namespace = "linkspan-test"

// config is containerd's, in the oldest form that 1.6 and 2.x both read. Without
// the CRI plugin it boots in a few milliseconds and opens no CNI directory.
const config = `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = %q
[plugins."io.containerd.gc.v1.scheduler"]
  startup_delay = "10ms"
`

// Server is one private containerd.
type Server struct {
	// Address is its socket.
	Address string
	// Dir holds root, state, config and log.
	Dir string

	tb  testing.TB
	mu  sync.Mutex
	cmd *exec.Cmd
}

// Start runs a private containerd until the test ends and returns the path of
// its socket. The test is skipped, with the reason, where that cannot be.
func Start(tb testing.TB) (address string) {
	tb.Helper()
	return New(tb).Address
}

// New is Start for tests that stop and start containerd in their course.
func New(tb testing.TB) *Server {
	tb.Helper()
	probe.Require(tb, probe.Root, probe.Containerd)
	// Not tb.TempDir: a long test name would make the sockets' paths longer than
	// the 108 bytes of sun_path (unix(7)).
	dir, err := os.MkdirTemp("", "ctd-")
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{Address: filepath.Join(dir, "c.sock"), Dir: dir, tb: tb}
	text := fmt.Sprintf(config, filepath.Join(dir, "root"), filepath.Join(dir, "state"), s.Address)
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.cleanup)
	s.Run()
	return s
}

func (s *Server) config() string { return filepath.Join(s.Dir, "config.toml") }
func (s *Server) logs() string   { return filepath.Join(s.Dir, "log") }

// Run starts containerd and waits until it answers.
func (s *Server) Run() {
	s.tb.Helper()
	out, err := os.OpenFile(s.logs(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command("containerd", "--config", s.config(), "--log-level", "warn")
	cmd.Stdout, cmd.Stderr = out, out
	// If the test binary is killed, its containerd goes too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// Pdeathsig comes when the *thread* that forked ends (prctl(2)), and Go ends
	// threads as it likes: fork from one that stays.
	if err := onLastingThread(cmd.Start); err != nil {
		s.tb.Fatalf("containerd does not start: %v", err)
	}
	s.mu.Lock()
	s.cmd = cmd
	s.mu.Unlock()
	deadline := time.Now().Add(time.Minute)
	for {
		if err = ping(s.Address); err == nil {
			return
		}
		if time.Now().After(deadline) {
			b, _ := os.ReadFile(s.logs())
			s.tb.Fatalf("the private containerd does not answer on %s: %v\n%s", s.Address, err, tail(b))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Stop ends containerd as an administrator would; containers and shims live on.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends containerd without warning.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(sig syscall.Signal) {
	s.mu.Lock()
	cmd := s.cmd
	s.cmd = nil
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(sig)
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		<-done
	}
}

// Client returns a client of this containerd that is closed with the test.
func (s *Server) Client() *client.Client {
	s.tb.Helper()
	c, err := client.New(s.Address)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { _ = c.Close() })
	return c
}

func ping(address string) error {
	if _, err := os.Stat(address); err != nil {
		return err
	}
	c, err := client.New(address, client.WithTimeout(2*time.Second))
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err = c.Version(ctx)
	return err
}

// tail is the end of a log, so that a failure shows why and not everything.
func tail(b []byte) string {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	if len(lines) > 20 {
		lines = lines[len(lines)-20:]
	}
	return strings.TrimSpace(string(bytes.Join(lines, []byte("\n"))))
}
