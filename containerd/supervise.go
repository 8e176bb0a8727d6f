package containerd

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// supervise starts the private containerd again when it is gone. It asks the
// socket rather than waiting for the process, since one that was taken over is
// nobody's child.
func (d *Daemon) supervise(ctx context.Context) {
	defer close(d.done)
	pause := 100 * time.Millisecond
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(500 * time.Millisecond):
		}
		if answers(d.Address) == nil || d.alive() {
			pause = 100 * time.Millisecond
			continue
		}
		d.cfg.Log.Warn("containerd is gone; containers keep running; starting it again", "socket", d.Address)
		if err := d.start(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Log.Error("containerd does not start", "err", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, 10*time.Second)
		}
	}
}

// alive says whether the process of the pid file is still that containerd.
func (d *Daemon) alive() bool { return d.pid() != 0 }

// pid is the running private containerd's process, or 0. A pid that went to
// another program meanwhile is not it.
func (d *Daemon) pid() int {
	b, err := os.ReadFile(d.pidFile())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil || pid <= 1 {
		return 0
	}
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || !bytes.Contains(line, []byte(filepath.Join(d.cfg.State, "config.toml"))) {
		return 0
	}
	return pid
}

// Leave ends the supervision and leaves the process as it is.
func (d *Daemon) Leave() {
	if d.stop != nil {
		d.stop()
		<-d.done
	}
}

// Stop ends a private containerd and waits for it, at most 10 s. Shims, and the
// containers in them, go on. Of another's containerd it only takes leave.
func (d *Daemon) Stop() {
	d.Leave()
	if !d.Private {
		return
	}
	pid := d.pid()
	if pid == 0 {
		return
	}
	syscall.Kill(pid, syscall.SIGTERM)
	for range 1000 {
		if d.pid() == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, f := range []string{d.pidFile(), d.Address, d.Address + ".ttrpc"} {
		os.Remove(f)
	}
}
