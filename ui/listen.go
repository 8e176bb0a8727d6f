package ui

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"linkspan/cnm"
)

// Listen opens the page's address: "127.0.0.1:7700", "[::1]:7700", "localhost:7700" or
// "unix:///path". Others are refused: the page has no login.
func Listen(addr string) (l net.Listener, url string, err error) {
	if path, ok := strings.CutPrefix(addr, "unix://"); ok {
		if !filepath.IsAbs(path) {
			return nil, "", cnm.Invalid("the address %s: the path of a unix socket begins with /", addr)
		}
		l, err = listenUnix(filepath.Clean(path))
		return l, addr, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, "", cnm.Invalid("the address %q is none: write it like 127.0.0.1:7700, [::1]:7700 or unix:///run/linkspan/ui.sock", addr)
	}
	ip, perr := netip.ParseAddr(host)
	if host == "localhost" {
		ip, perr = netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	if perr != nil || !ip.IsLoopback() {
		if host == "" {
			host = "every address"
		}
		return nil, "", cnm.Invalid("refusing to serve the page on %s: it has no login, and shows who talks to whom. Serve it on 127.0.0.1:%s, and from another machine: ssh -L %[2]s:127.0.0.1:%[2]s root@THIS-HOST, then http://localhost:%[2]s/", host, port)
	}
	l, err = net.Listen("tcp", net.JoinHostPort(ip.String(), port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, "", cnm.Conflict("%s is in use already (is a page open there?): choose another port with --addr %s:PORT, or 0 for any", addr, ip)
	}
	if err != nil {
		return nil, "", cnm.Invalid("the page cannot be served on %s: %w", addr, err)
	}
	return l, "http://" + l.Addr().String() + "/", nil
}

// listenUnix makes a socket that only its owner may use. It is made in a folder of its
// own and moved when its mode is right, so that nobody can connect before.
func listenUnix(path string) (net.Listener, error) {
	if st, err := os.Lstat(path); err == nil {
		if st.Mode()&os.ModeSocket == 0 {
			return nil, cnm.Conflict("%s is there and is no socket: move it away, or choose another path", path)
		}
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return nil, cnm.Conflict("somebody serves on unix://%s already: choose another path", path)
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".ui")
	if err != nil {
		return nil, cnm.Invalid("no socket can be made at %s: %w", path, err)
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "s")
	l, err := net.Listen("unix", made)
	if err != nil {
		return nil, cnm.Invalid("no socket can be made at %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		l.Close()
		return nil, fmt.Errorf("the socket %s: %w", path, err)
	}
	return &moved{l, path}, nil
}

// moved is a listener whose socket was moved, and goes when it closes.
type moved struct {
	net.Listener
	path string
}

func (m *moved) Close() error {
	err := m.Listener.Close()
	if rerr := os.Remove(m.path); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}
