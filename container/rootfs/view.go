// Package rootfs opens a container's root file system as the container sees it,
// running or not, and looks things up in it without ever leaving it.
//
// Every lookup goes through openat2(2) with RESOLVE_IN_ROOT from a descriptor
// of the root: whatever symbolic links a container plants, and however fast it
// swaps them, a path cannot come out on the host.
package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// View is an open root. Close it soon: it keeps a stopped container's file
// system mounted (for nobody but this process).
type View struct {
	root *os.File
	// space pins the mount namespace of a stopped container's view.
	space *os.File
	// writable: the upper directory is in use until the mounts are down.
	writable bool
}

// Close gives the root back.
func (v *View) Close() {
	v.root.Close()
	switch {
	case v.space == nil:
	case v.writable:
		v.space.Close()
	default:
		// The last descriptor takes the mounts down, which waits for RCU: not on
		// the caller's time.
		go v.space.Close()
	}
}

// Running opens the root of a container's process, with all that is mounted in
// it. id must appear in the process's cgroup path: a pid can come to belong to
// somebody else.
func Running(pid int, id string) (*View, error) {
	dir, err := process(pid, id)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, gone(id, err)
	}
	return &View{root: os.NewFile(uintptr(fd), "root of "+id)}, nil
}

// process opens a process's folder in /proc, and makes sure that it is the
// container's: all that is opened below it is of the very process that had the
// pid then.
func process(pid int, id string) (*os.File, error) {
	dir, err := os.OpenFile("/proc/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, gone(id, err)
	}
	fd, err := unix.Openat(int(dir.Fd()), "cgroup", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		dir.Close()
		return nil, gone(id, err)
	}
	f := os.NewFile(uintptr(fd), "cgroup")
	buf := make([]byte, 16<<10)
	n, err := f.Read(buf)
	f.Close()
	if err == nil && !strings.Contains(string(buf[:n]), id) {
		err = errors.New("its pid belongs to another process now")
	}
	if err != nil {
		dir.Close()
		return nil, gone(id, err)
	}
	return dir, nil
}

func gone(id string, err error) error {
	return cnm.Conflict("container %s is not running: %w", id, err)
}

// Open opens a path below the root; flags as open(2)'s. O_CLOEXEC is added.
func (v *View) Open(path string, flags int) (*os.File, error) {
	return OpenIn(v.root, path, flags, 0)
}

// Root is the descriptor of the root, valid until Close.
func (v *View) Root() *os.File { return v.root }

// OpenIn opens path as if root were "/", links and ".." included.
func OpenIn(root *os.File, path string, flags int, perm uint32) (*os.File, error) {
	if path = strings.TrimLeft(path, "/"); path == "" {
		path = "."
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(perm), Resolve: unix.RESOLVE_IN_ROOT}
	for {
		fd, err := unix.Openat2(int(root.Fd()), path, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			// A rename somewhere raced with ".."; openat2(2) says to try again.
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM) && !haveOpenat2():
			return nil, cnm.Unsupported("openat2(2) is missing on this kernel (Linux 5.6 has it): files of a container cannot be opened safely without it")
		default:
			return nil, &fs.PathError{Op: "open", Path: "/" + path, Err: err}
		}
	}
}

// haveOpenat2 tells a seccomp profile that knows no openat2 and answers EPERM
// from a real refusal.
func haveOpenat2() bool {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

// ReadFile reads a regular file of at most limit bytes.
func (v *View) ReadFile(path string, limit int64) ([]byte, error) {
	// Non-blocking: a FIFO planted there must not hold us up.
	f, err := v.Open(path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s in the container is no regular file", path)
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s in the container has %d bytes; at most %d are read", path, st.Size(), limit)
	}
	// One more than the limit, for a file that grew since.
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s in the container has more than %d bytes", path, limit)
	}
	return b, err
}
