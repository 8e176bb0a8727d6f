// Package live asks a kernel what it has: it implements reading.Reader. It changes
// nothing but what TracePacket says. Every question opens a socket inside the namespace
// and closes it, so that a namespace is never held alive by its observers.
package live

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/reading"
	"linkspan/netns"
)

// Kernel is the machine's. It has no state: any number of questions may be asked at
// once.
type Kernel struct{ log *slog.Logger }

// New makes one.
func New(log *slog.Logger) *Kernel { return &Kernel{log: log} }

// within runs fn on a thread inside a namespace; "" is the process's own.
func within(ns string, fn func() error) error {
	if ns == "" {
		return fn()
	}
	return netns.Do(ns, fn)
}

// ask opens a netlink socket inside ns for fn.
func ask(ns string, proto int, fn func(*nfnl.Conn) error) error {
	var c *nfnl.Conn
	err := within(ns, func() (err error) {
		c, err = nfnl.Open(proto)
		return err
	})
	if err != nil {
		return place(ns, err)
	}
	defer c.Close()
	return place(ns, fn(c))
}

// place adds which namespace was asked.
func place(ns string, err error) error {
	if err == nil {
		return nil
	}
	if ns == "" {
		return fmt.Errorf("the host's network namespace: %w", err)
	}
	return fmt.Errorf("network namespace %s: %w", ns, err)
}

// Sysctl reads one by its path below /proc/sys. /proc/sys/net shows the namespace of
// the thread that opens it (network_namespaces(7)).
func (k *Kernel) Sysctl(ctx context.Context, ns, name string) (string, error) {
	if !filepath.IsLocal(name) || name != filepath.Clean(name) {
		return "", fmt.Errorf("sysctl %q: not a path below /proc/sys", name)
	}
	var value string
	err := within(ns, func() error {
		b, err := os.ReadFile(filepath.Join("/proc/sys", name))
		value = strings.Join(strings.Fields(string(b)), " ")
		return err
	})
	return value, place(ns, err)
}

// missing says that the kernel has no such subsystem, which then has no objects.
func missing(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOENT) && !errors.Is(err, fs.ErrPermission) ||
		errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT)
}

var _ reading.Reader = (*Kernel)(nil)
