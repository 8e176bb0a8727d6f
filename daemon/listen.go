package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/config"
)

// listen opens the sockets that the API answers on: all of them, or none. Call
// it once per process, before other goroutines make files (it sets the umask for
// a moment). Closing a unix listener removes its path.
func listen(c *config.Config, certs *certificates) (ls []net.Listener, err error) {
	defer func() {
		if err != nil {
			closeAll(ls)
			ls = nil
		}
	}()
	gid, err := groupID(c.Group, c.GroupGiven)
	if err != nil {
		return nil, err
	}
	var passed map[string][]net.Listener
	for _, h := range c.Hosts {
		switch h.Proto {
		case "unix":
			l, err := listenUnix(h.Addr, gid)
			if err != nil {
				return ls, err
			}
			ls = append(ls, l)
		case "fd":
			if passed == nil {
				if passed, err = activated(); err != nil {
					return ls, err
				}
			}
			found := passed[h.Addr]
			if len(found) == 0 {
				return ls, cnm.Invalid("no socket for %s was passed on: the daemon must be started by a systemd socket unit (its FileDescriptorName, or the number of the descriptor, is what follows fd://)", h)
			}
			for _, l := range found {
				if slices.Contains(ls, l) {
					continue
				}
				if err := passedTCP(c, h, l); err != nil {
					return ls, err
				}
				ls = append(ls, l)
			}
		case "tcp":
			l, err := listenTCP(h)
			if err != nil {
				return ls, err
			}
			ls = append(ls, l)
		default:
			return ls, cnm.Unsupported("not yet: listening on %s", h)
		}
	}
	// What was passed and not asked for would take connections that nobody answers.
	for _, l := range passed[""] {
		if !slices.Contains(ls, l) {
			_ = l.Close()
		}
	}
	for i, l := range ls {
		if _, tcp := l.(*net.TCPListener); tcp && certs != nil {
			ls[i] = &tlsListener{Listener: l, certs: certs}
		}
	}
	return ls, nil
}

// passedTCP holds a TCP socket of systemd's to the rules of -H tcp://.
func passedTCP(c *config.Config, h config.Host, l net.Listener) error {
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok || c.TLS || c.TLSGiven || a.IP.IsLoopback() {
		return nil
	}
	return cnm.Invalid("refusing to answer on %s (%s) without TLS: whoever reaches it is root on this host; use --tlsverify with certificates, or say --tls=false", h, a)
}

func closeAll(ls []net.Listener) {
	for _, l := range ls {
		_ = l.Close()
	}
}

// activated returns the sockets that systemd passed (sd_listen_fds(3)), by name,
// by number, and all of them under "".
func activated() (map[string][]net.Listener, error) {
	out := map[string][]net.Listener{}
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f) // duplicates the descriptor
		_ = f.Close()
		if err != nil {
			return nil, cnm.Invalid("the socket %s that systemd passed cannot be listened on: %w", f.Name(), err)
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // the path is systemd's
		}
		// The package numbers them from 3 on, in order.
		number := strconv.Itoa(3 + len(out[""]))
		for _, key := range []string{"", f.Name(), number} {
			out[key] = append(out[key], l)
		}
	}
	return out, nil
}

// listenUnix makes a unix socket of mode 0660 that the group may use. A socket
// that a killed daemon left is replaced; one that somebody answers on, and
// anything that is no socket, is left alone.
func listenUnix(path string, gid int) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, cnm.Invalid("no directory for the socket: %w", err)
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	// Nobody can connect before owner and mode are right.
	old := unix.Umask(0o777)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err == nil {
		if err = os.Chown(path, 0, gid); errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
			err = nil // not root: it stays ours
		}
		if err == nil {
			err = os.Chmod(path, 0o660)
		}
		if err != nil {
			_ = l.Close()
		}
	}
	if err != nil {
		return nil, cnm.Invalid("can't create unix socket %s: %w", path, err)
	}
	return l, nil
}

func clearStale(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return cnm.Invalid("can't create unix socket %s: %w", path, err)
	case st.Mode()&os.ModeSocket == 0:
		return cnm.Conflict("can't create unix socket %s: there is something else (%s); move it away or choose another -H", path, st.Mode())
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		_ = c.Close()
		return cnm.Conflict("another daemon answers on unix://%s: stop it, or choose another socket with -H", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return cnm.Conflict("cannot tell whether another daemon uses unix://%s: %w", path, err)
	}
	return os.Remove(path)
}

// groupID finds the group by name or number. A default that this host does not
// have is root.
func groupID(name string, given bool) (int, error) {
	if name == "" {
		return 0, nil
	}
	if g, err := user.LookupGroup(name); err == nil {
		return strconv.Atoi(g.Gid)
	} else if !errors.As(err, new(user.UnknownGroupError)) {
		return 0, fmt.Errorf("looking up the group %s of the socket: %w", name, err)
	}
	if n, err := strconv.Atoi(name); err == nil && n >= 0 {
		return n, nil
	}
	if given {
		return 0, cnm.NotFound("the group %s for the socket does not exist on this host: groupadd %s, or choose another with --group", name, name)
	}
	return 0, nil
}
