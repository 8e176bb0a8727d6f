package images

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// registryConfig is for docker-registry (distribution 2.8, docs/configuration.md).
// A read-only registry answers pulls and refuses every change, so that any
// number of tests can serve the one cached storage at the same time.
const registryConfig = `version: 0.1
log:
  level: info
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: %s
    maxthreads: 32
  maintenance:
    uploadpurging:
      enabled: false
    readonly:
      enabled: %t
http:
  addr: %s
`

// registry is a running docker-registry.
type registry struct {
	addr string // as it listens: IP:PORT
	cmd  *exec.Cmd
	done chan struct{}
	err  error
	stop sync.Once
}

var listening = regexp.MustCompile(`listening on ([^ ",]+)`)

// startRegistry runs docker-registry in the network namespace at netns ("" for
// the caller's) on addr (port 0 takes a free one) until stopped, and returns
// once it listens. It dies with this process.
func startRegistry(ctx context.Context, storage, netns, addr string, readonly bool) (*registry, error) {
	// The configuration is a file without a name: nothing to remove, however
	// this process ends. Opening /proc/self/fd/3 reads it from its beginning.
	config, err := os.CreateTemp("", "linkspan-registry-*.yml")
	if err != nil {
		return nil, err
	}
	defer config.Close()
	_, err = fmt.Fprintf(config, registryConfig, storage, readonly, addr)
	if err := errors.Join(err, os.Remove(config.Name())); err != nil {
		return nil, err
	}
	line := []string{"docker-registry", "serve", "/proc/self/fd/3"}
	if netns != "" {
		// nsenter without --fork becomes the registry: one pid to stop.
		line = append([]string{"nsenter", "--net=" + netns, "--"}, line...)
	}
	r := &registry{cmd: exec.Command(line[0], line[1:]...), done: make(chan struct{})}
	r.cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "OTEL_TRACES_EXPORTER=none"}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	output, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	r.cmd.ExtraFiles = []*os.File{config}
	r.cmd.Stdout, r.cmd.Stderr = w, w

	started, ready := make(chan error, 1), make(chan string, 1)
	go func() {
		defer close(r.done)
		r.err = onOwnThread(func() error {
			err := r.cmd.Start()
			w.Close()
			started <- err
			if err != nil {
				return err
			}
			return r.cmd.Wait()
		})
	}()
	printed := make(chan string, 1)
	go watch(output, ready, printed)

	if err := <-started; err != nil {
		<-r.done
		return nil, fmt.Errorf("docker-registry (sudo script/install-deps.sh test): %w", err)
	}
	select {
	case r.addr = <-ready:
		return r, nil
	case <-r.done:
		return nil, fmt.Errorf("docker-registry on %s: %v\n%s", addr, r.err, <-printed)
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("docker-registry on %s: %w", addr, ctx.Err()), r.close())
	case <-time.After(time.Minute):
		return nil, errors.Join(fmt.Errorf("docker-registry on %s does not listen after 20 s", addr), r.close())
	}
}

// watch finds the line that says where it listens, and keeps the last lines
// for an error.
func watch(output io.ReadCloser, ready, printed chan<- string) {
	defer output.Close()
	var last []string
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			select {
			case ready <- m[1]:
			default:
			}
		}
		if last = append(last, lines.Text()); len(last) > 20 {
			last = last[1:]
		}
	}
	printed <- strings.Join(last, "\n")
}

func (r *registry) url() string { return "http://" + r.addr }

// close ends the process, by pid, and waits for it.
func (r *registry) close() error {
	r.stop.Do(func() {
		r.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-r.done:
		case <-time.After(2 * time.Second): // it waits for open connections
			r.cmd.Process.Kill()
			<-r.done
		}
	})
	return nil
}
