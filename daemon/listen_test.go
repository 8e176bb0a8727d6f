package daemon

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"linkspan/cnm"
	"linkspan/config"
)

func unixHost(path string) *config.Config {
	c := config.Default("linkspan")
	c.Hosts = []config.Host{{Proto: "unix", Addr: path}}
	return c
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "s.sock")
	ls, err := listen(unixHost(path), nil)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}

	// A second daemon is refused, and does not take the first one's socket away.
	if _, err := listen(unixHost(path), nil); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "another daemon answers on unix://"+path) {
		t.Errorf("second daemon: %v", err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first daemon's socket: %v", err)
	} else {
		c.Close()
	}

	// A daemon that was killed leaves its socket; the next one replaces it.
	ls[0].(*net.UnixListener).SetUnlinkOnClose(false)
	closeAll(ls)
	ls, err = listen(unixHost(path), nil)
	if err != nil {
		t.Fatalf("after a kill: %v", err)
	}
	closeAll(ls)
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after a clean stop the socket is still there: %v", err)
	}
}

func TestListenAllOrNone(t *testing.T) {
	dir := t.TempDir()
	good, file := filepath.Join(dir, "good.sock"), filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := unixHost(good)
	c.Hosts = append(c.Hosts, config.Host{Proto: "unix", Addr: file})
	ls, err := listen(c, nil)
	if ls != nil || !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "there is something else") {
		t.Errorf("%v, %v", ls, err)
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file was touched")
	}
	if _, err := os.Lstat(good); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the first socket was left behind: %v", err)
	}
	c.Hosts = []config.Host{{Proto: "fd"}}
	if _, err := listen(c, nil); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "no socket for fd://") {
		t.Errorf("fd:// without systemd: %v", err)
	}
}

func TestGroupID(t *testing.T) {
	for _, c := range []struct {
		name  string
		given bool
		want  int
		class error
	}{
		{"", false, 0, nil}, {"root", true, 0, nil}, {"4711", true, 4711, nil},
		{"no-such-group-here", false, 0, nil}, {"no-such-group-here", true, 0, cnm.ErrNotFound}, {"-5", true, 0, cnm.ErrNotFound},
	} {
		got, err := groupID(c.name, c.given)
		if got != c.want || !errors.Is(err, c.class) {
			t.Errorf("%q given %v: %d, %v", c.name, c.given, got, err)
		}
	}
}

// TestListenFD starts this binary as systemd would, with two sockets.
func TestListenFD(t *testing.T) {
	if want := os.Getenv("LINKSPAN_TEST_FD"); want != "" {
		serveOnce(want)
	}
	for want, reached := range map[string][]bool{"": {true, true}, "api": {true, false}, "4": {false, true}} {
		dir := t.TempDir()
		var files []*os.File
		var paths []string
		for _, n := range []string{"a", "b"} {
			l, err := net.Listen("unix", filepath.Join(dir, n))
			if err != nil {
				t.Fatal(err)
			}
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			f, err := l.(*net.UnixListener).File()
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			files, paths = append(files, f), append(paths, filepath.Join(dir, n))
		}
		// LISTEN_PID must be the process's own, so a shell fills it in.
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run '^TestListenFD$'`, os.Args[0])
		cmd.Env = append(os.Environ(), "LISTEN_FDS=2", "LISTEN_FDNAMES=api:other", "LINKSPAN_TEST_FD=fd://"+want)
		cmd.ExtraFiles, cmd.Stderr = files, os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			f.Close()
		}
		ready := make([]byte, len("ready"))
		if _, err := io.ReadFull(out, ready); err != nil {
			t.Fatalf("fd://%s: the child is not ready: %v", want, err)
		}
		for i, p := range paths {
			c, err := net.Dial("unix", p)
			if reached[i] != (err == nil) {
				t.Errorf("fd://%s: %s reached: %v, want %v", want, filepath.Base(p), err, reached[i])
			}
			if err == nil {
				c.Close()
			} else if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Error(err)
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// serveOnce is the child of TestListenFD; it ends by being killed.
func serveOnce(host string) {
	c := config.Default("linkspan")
	c.Hosts = []config.Host{{Proto: "fd", Addr: strings.TrimPrefix(host, "fd://")}}
	if _, err := listen(c, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print("ready")
	select {}
}
