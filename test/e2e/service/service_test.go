// Package service tests the daemon as a service manager and an administrator
// see it: readiness, signals, its socket, the death of its helpers.
package service

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// notify is a service manager's socket (sd_notify(3)).
func notify(t *testing.T) (path string, next func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "n")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return path, func() string {
		t.Helper()
		b := make([]byte, 4096)
		c.SetReadDeadline(time.Now().Add(lab.Patience))
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("nothing is told to the service manager: %v", err)
		}
		return string(b[:n])
	}
}

// TestReadiness: the service manager hears READY when the socket answers, of
// each reload, and of the end; a reload changes what may change.
func TestReadiness(t *testing.T) {
	file := filepath.Join(t.TempDir(), "daemon.json")
	config := func(label string) {
		t.Helper()
		b, _ := json.Marshal(map[string]any{"labels": []string{label}})
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	config("rack=1")
	socket, next := notify(t)
	d := daemontest.Start(t, daemontest.Options{World: daemontest.NewBareWorld(t), Args: []string{"--config-file", file}, Env: []string{"NOTIFY_SOCKET=" + socket}})
	if s := next(); !strings.Contains(s, "READY=1") {
		t.Errorf("told %q", s)
	}
	labels := func() string { return d.Docker("info", "-f", "{{.Labels}}") }
	if l := labels(); l != "[rack=1]" {
		t.Errorf("labels %s", l)
	}
	config("rack=2")
	d.Signal(unix.SIGHUP)
	if s := next(); !strings.Contains(s, "RELOADING=1") {
		t.Errorf("told %q", s)
	}
	if s := next(); !strings.Contains(s, "READY=1") {
		t.Errorf("told %q", s)
	}
	if l := labels(); l != "[rack=2]" {
		t.Errorf("labels after HUP: %s", l)
	}
	// A broken file changes nothing, and is said.
	if err := os.WriteFile(file, []byte(`{"labels": 7}`), 0o644); err != nil {
		t.Fatal(err)
	}
	d.Signal(unix.SIGHUP)
	next()
	next()
	if l := labels(); l != "[rack=2]" || !strings.Contains(d.Log(), "was not reloaded") {
		t.Errorf("after a broken file: labels %s, log:\n%s", l, d.Log())
	}
	d.Stop()
	if s := next(); !strings.Contains(s, "STOPPING=1") {
		t.Errorf("told %q", s)
	}
	if _, err := os.Stat(d.Socket); err == nil {
		t.Error("the socket outlives the daemon")
	}
}

// TestSocket: mode 0660, and the group's.
func TestSocket(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{World: daemontest.NewBareWorld(t), Args: []string{"--group", "4711"}})
	st, err := os.Stat(d.Socket)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o660 || st.Sys().(*syscall.Stat_t).Gid != 4711 || st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("%v %+v", st.Mode(), st.Sys())
	}
	// The same binary is docker.
	if r := d.Linkspan("version", "-f", "{{.Server.Version}}"); r.Code != 0 || strings.TrimSpace(r.Stdout) == "" {
		t.Errorf("linkspan version: %d %q %q", r.Code, r.Stdout, r.Stderr)
	}
	if r := d.SecondDaemon(); !strings.Contains(r, "runs in this network namespace already (pid ") {
		t.Errorf("a second daemon in one namespace: %s", r)
	}
}

// TestRestartUnderTraffic: a restart under traffic loses no packet of an open connection,
// with or without a daemon, and the keeper may die as well.
func TestRestartUnderTraffic(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Docker("run", "-d", "--name", "echo", "-p", "9000:9000", "netprobe")
	var c net.Conn
	d.Until(10*time.Second, "the server answers", func() (ok bool) {
		var err error
		c, err = d.Machine.Dial("tcp", daemontest.HostAddr+":9000", 5*time.Second)
		return err == nil
	})
	defer c.Close()
	in := bufio.NewReader(c)
	talk := func() {
		t.Helper()
		c.SetDeadline(time.Now().Add(lab.Patience))
		if _, err := c.Write([]byte("hello\n")); err != nil {
			t.Fatalf("the connection broke: %v", err)
		}
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatalf("the connection broke: %v", err)
		}
	}
	talk()
	pid := d.KeeperPID()
	for range 3 {
		d.Kill9()
		talk() // with no daemon
		d.Run()
		talk()
		d.Restart()
		talk()
	}
	if d.KeeperPID() != pid {
		t.Error("the keeper did not outlive the daemon")
	}

	// The keeper's own death: a new one, which holds the port again.
	d.KillKeeper()
	d.Until(10*time.Second, "a new keeper", func() bool { now := d.KeeperPID(); return now != 0 && now != pid })
	talk()
	d.Until(10*time.Second, "the port is held again", func() bool {
		// For a moment only: the keeper wants it.
		return errors.Is(d.Host.Do(func() error {
			l, err := net.Listen("tcp4", "0.0.0.0:9000")
			if err == nil {
				l.Close()
			}
			return err
		}), unix.EADDRINUSE)
	})
	if out := d.Docker("ps", "-q"); out == "" {
		t.Error("the container is gone")
	}
}
