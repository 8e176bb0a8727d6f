package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/container/rootfs"
	"linkspan/container/spec"
)

// subpathDir is where the parts of volumes are mounted while a task is made.
func (e *Engine) subpathDir(id string) string { return filepath.Join(e.cfg.ExecRoot, "subpath", id) }

// mountSubpaths puts what the mounts with a volume-subpath mean in place of the
// volumes. A path is resolved below its volume by the kernel, once, and mounted
// through the descriptor: whoever writes to the volume meanwhile cannot lead it out
// to the host. The runtime makes its own mount of it, so that release, called when
// the task is made, takes ours away.
func (e *Engine) mountSubpaths(c *Container, in *spec.Input) (release func(), err error) {
	dir := e.subpathDir(c.ID)
	release = func() { _ = e.step("mounts.release", func() error { unmountBelow(dir); return nil }) }
	for i, m := range c.Mounts { // in.Mounts begins with them, in this order
		if m.Subpath == "" {
			continue
		}
		at := filepath.Join(dir, strconv.Itoa(i))
		if err := e.step("mounts.subpath", func() error { return mountSubpath(&m, at) }); err != nil {
			release()
			return nil, err
		}
		in.Mounts[i].Source = at
	}
	return release, nil
}

func mountSubpath(m *Mount, at string) error {
	f, err := openSubpath(m)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.IsDir() {
		err = os.MkdirAll(at, 0o700)
	} else if err = os.MkdirAll(filepath.Dir(at), 0o700); err == nil {
		err = os.WriteFile(at, nil, 0o600)
	}
	if err == nil {
		err = unix.Mount(procPath(f), at, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("path %s of volume %s: %w", m.Subpath, m.Name, err)
	}
	return nil
}

// unmountBelow takes the mounts of a folder away, and the folder.
func unmountBelow(dir string) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, f := range list {
		p := filepath.Join(dir, f.Name())
		for unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
		}
		_ = os.Remove(p) // never what is below it: it may be mounted still
	}
	_ = os.Remove(dir)
}

// sweepSubpaths takes away what a daemon that died was about to mount.
func (e *Engine) sweepSubpaths() {
	dir := e.subpathDir("")
	list, _ := os.ReadDir(dir)
	for _, f := range list {
		_ = e.step("mounts.sweep", func() error { unmountBelow(filepath.Join(dir, f.Name())); return nil })
	}
	_ = os.Remove(dir)
}

// procPath leads to a file that is open here.
func procPath(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }

func openSubpath(m *Mount) (*os.File, error) {
	root, err := os.OpenFile(m.Source, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", m.Name, err)
	}
	defer root.Close()
	f, err := rootfs.OpenIn(root, m.Subpath, unix.O_PATH, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cnm.Invalid("cannot access path %s of volume %s: %w; a volume-subpath must be there before the container starts", m.Subpath, m.Name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("path %s of volume %s: %w", m.Subpath, m.Name, err)
	}
	return f, nil
}
