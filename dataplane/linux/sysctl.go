package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/netns"
)

// sysctlRun counts the ops at the front that are parameters of one namespace.
func sysctlRun(ops []dataplane.Op) (n int) {
	for ; n < len(ops); n++ {
		o, ok := ops[n].Object.(dataplane.Sysctl)
		if !ok || o.NS != ops[0].Object.(dataplane.Sysctl).NS {
			break
		}
	}
	return n
}

// sysctls writes parameters. /proc/sys/net shows the namespace of the thread that
// opens it, so this happens on a thread inside (network_namespaces(7)), once for
// all of them.
func (a *applier) sysctls(run []dataplane.Op) {
	todo := 0 // up to here they are done
	within := a.within
	if !slices.ContainsFunc(run, func(op dataplane.Op) bool { return op.Verb != dataplane.Delete }) {
		within = func(_ string, fn func() error) error { return fn() } // nothing to do inside
	}
	err := within(run[0].Object.(dataplane.Sysctl).NS, func() error {
		for ; todo < len(run); todo++ {
			op := run[todo]
			if a.skip(op) {
				continue
			}
			a.k.hook("before", op)
			o := op.Object.(dataplane.Sysctl)
			if err := a.sysctl(o, op.Verb == dataplane.Delete); err != nil {
				a.fail(op, err)
				continue
			}
			if op.Verb != dataplane.Delete {
				a.k.expect(o)
			}
			a.k.hook("after", op)
		}
		return nil
	})
	for ; err != nil && todo < len(run); todo++ {
		if op := run[todo]; op.Verb != dataplane.Delete && !a.skip(op) {
			a.fail(op, err)
		}
	}
}

// within is Kernel.within, by what is open of a sandbox already.
func (a *applier) within(ns string, fn func() error) error {
	if s := a.inside[ns]; s != nil {
		return netns.DoFD(int(s.ns.Fd()), fn)
	}
	return a.k.within(ns, fn)
}

// sysctl writes one parameter, on a thread that is inside. Deleting one is nothing:
// parameters of a link go with it, and shared ones are given back by uninstall only.
func (a *applier) sysctl(o dataplane.Sysctl, del bool) error {
	if del {
		return nil
	}
	path, err := sysctlPath(o.Name)
	if err != nil {
		return err
	}
	prior, err := os.ReadFile(path)
	if o.Optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return sysctlError(o.Name, err)
	}
	have := words(string(prior))
	if have == words(o.Value) {
		return nil
	}
	if o.Shared && a.k.cfg.OnShared != nil {
		if err := a.k.cfg.OnShared(o.Name, have); err != nil {
			return fmt.Errorf("its value %q could not be recorded, so it stays: %w", have, err)
		}
	}
	// No O_TRUNC or O_CREATE: this is /proc.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return sysctlError(o.Name, err)
	}
	defer f.Close()
	if _, err := f.WriteString(o.Value); err != nil {
		return sysctlError(o.Name, err)
	}
	return nil
}

// within runs fn on a thread in the host's or a sandbox's namespace.
func (k *Kernel) within(ns string, fn func() error) error {
	if ns == "" {
		return k.inHost(fn)
	}
	return netns.Do(ns, fn)
}

func (k *Kernel) readSysctl(o dataplane.Sysctl) (value string, ok bool) {
	value, ok = k.readSysctls([]dataplane.Object{o})[o.Key()]
	return value, ok
}

// readSysctls reads all sysctls among some objects, by key, and enters each namespace
// once: a daemon that starts asks for thousands.
func (k *Kernel) readSysctls(objs []dataplane.Object) map[string]string {
	all := map[string][]dataplane.Sysctl{}
	for _, o := range objs {
		if s, ok := o.(dataplane.Sysctl); ok {
			all[s.NS] = append(all[s.NS], s)
		}
	}
	values := map[string]string{}
	for ns, list := range all {
		_ = k.within(ns, func() error {
			for _, s := range list {
				if path, err := sysctlPath(s.Name); err == nil {
					if v, ok := readSetting(path); ok {
						values[s.Key()] = v
					}
				}
			}
			return nil
		})
	}
	return values
}

// readSetting is os.ReadFile without asking the poller, which costs more than the file.
func readSetting(path string) (value string, ok bool) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", false
	}
	defer unix.Close(fd)
	var b [4096]byte // no setting of one line is longer
	n, err := unix.Read(fd, b[:])
	if err != nil {
		return "", false
	}
	return words(string(b[:n])), true
}

// sysctlPath refuses names that lead out of /proc/sys.
func sysctlPath(name string) (string, error) {
	if !filepath.IsLocal(name) || name != filepath.Clean(name) {
		return "", cnm.Invalid("sysctl %q: not a path below /proc/sys", name)
	}
	return filepath.Join("/proc/sys", name), nil
}

func sysctlError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("this kernel, or this link, has no parameter %s: %w", name, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the kernel does not let %s be changed here (/proc/sys read-only?): %w", name, err)
	}
	return err
}

// words makes one canonical line: several values are parted by tabs in /proc.
func words(s string) string { return strings.Join(strings.Fields(s), " ") }
