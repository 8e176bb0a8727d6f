package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"
)

// Splice is a volume or bind mounted into a stopped container's view.
type Splice struct {
	Source, Destination string
	ReadOnly            bool
	// Subpath is the part of Source that is mounted, resolved below it; empty: all.
	Subpath string
}

// Stopped mounts a container's snapshot, and the splices into it, in a mount
// namespace that only the returned view holds: nobody else sees the mounts, and
// whatever becomes of this process, the kernel takes them down with the
// namespace. at is any existing directory. The container must have no task:
// two overlays on one upper directory are undefined.
func Stopped(layers []mount.Mount, splices []Splice, at string) (*View, error) {
	var v *View
	var err error
	onThrowawayThread(func() { v, err = mountHere(layers, splices, at) })
	return v, err
}

// onThrowawayThread runs f on a thread that ends with it: f leaves it with
// another mount namespace and root than the rest of the process has.
func onThrowawayThread(f func()) {
	done := make(chan struct{})
	go func() {
		// Never unlocked: that is what makes the runtime end the thread.
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			defer close(done)
			f()
			return
		}
		// The first thread cannot end before the process, and its namespaces are
		// what /proc/self shows. Kept busy here, it cannot be the one taken next.
		defer runtime.UnlockOSThread()
		onThrowawayThread(f)
		close(done)
	}()
	<-done
}

func mountHere(layers []mount.Mount, splices []Splice, at string) (*View, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return nil, fmt.Errorf("a private mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	writable := false
	for i := range layers {
		writable = writable || !slices.Contains(layers[i].Options, "ro")
		if err := mountLayer(&layers[i], at); err != nil {
			return nil, fmt.Errorf("mount the root file system: %w", err)
		}
	}
	root, err := os.OpenFile(at, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	v := &View{root: root, writable: writable}
	// Without it the splices would fall off when this thread, the namespace's
	// last member, ends.
	if v.space, err = os.Open("/proc/thread-self/ns/mnt"); err != nil {
		v.Close()
		return nil, err
	}
	for _, s := range splices {
		if err := splice(root, s); err != nil {
			v.Close()
			return nil, fmt.Errorf("mount %s at %s: %w", s.Source, s.Destination, err)
		}
	}
	return v, nil
}

// ReadOnly turns a container's mounts into ones that only read: the overlay's
// upper directory becomes its topmost lower one, so that a task may be started
// while the view is still open.
func ReadOnly(layers []mount.Mount) []mount.Mount {
	out := make([]mount.Mount, len(layers))
	for i, m := range layers {
		out[i] = m
		out[i].Options = nil
		upper, lower := "", ""
		for _, o := range m.Options {
			switch k, v, _ := strings.Cut(o, "="); k {
			case "upperdir":
				upper = v
			case "lowerdir":
				lower = v
			case "workdir", "index", "volatile", "rw":
			default:
				out[i].Options = append(out[i].Options, o)
			}
		}
		if lower != "" {
			if upper != "" {
				lower = upper + ":" + lower
			}
			out[i].Options = append(out[i].Options, "lowerdir="+lower)
		}
		if !slices.Contains(out[i].Options, "ro") {
			out[i].Options = append(out[i].Options, "ro")
		}
	}
	return out
}

// mountLayer is mount.Mount without its forks and threads, which would mount
// elsewhere than here.
func mountLayer(m *mount.Mount, at string) error {
	var flags uintptr
	var data []string
	dir := ""
	for _, o := range m.Options {
		switch o {
		case "ro":
			flags |= unix.MS_RDONLY
		case "rw":
		case "bind":
			flags |= unix.MS_BIND
		case "rbind":
			flags |= unix.MS_BIND | unix.MS_REC
		case "nosuid":
			flags |= unix.MS_NOSUID
		case "nodev":
			flags |= unix.MS_NODEV
		case "noexec":
			flags |= unix.MS_NOEXEC
		default:
			data = append(data, o)
		}
	}
	kind := m.Type
	if flags&unix.MS_BIND != 0 {
		kind = ""
	}
	// mount(2) takes one page of options; many layers are told relative to where
	// they all are.
	if opts := strings.Join(data, ","); len(opts) > os.Getpagesize()-512 {
		dir, data = relative(data)
	}
	if dir != "" {
		if err := unix.Chdir(dir); err != nil {
			return err
		}
		// Not staying there: it could keep a file system busy.
		defer unix.Chdir("/")
	}
	if err := unix.Mount(m.Source, at, kind, flags, strings.Join(data, ",")); err != nil {
		return &os.PathError{Op: "mount " + m.Type, Path: m.Source, Err: err}
	}
	return nil
}

// relative rewrites an overlay's lowerdir against the longest common directory.
func relative(data []string) (dir string, out []string) {
	for _, o := range data {
		v, ok := strings.CutPrefix(o, "lowerdir=")
		if !ok {
			out = append(out, o)
			continue
		}
		dirs := strings.Split(v, ":")
		dir = path.Dir(dirs[0])
		for _, d := range dirs {
			for dir != "/" && !strings.HasPrefix(d, dir+"/") {
				dir = path.Dir(dir)
			}
		}
		for i, d := range dirs {
			dirs[i] = strings.TrimPrefix(strings.TrimPrefix(d, dir), "/")
		}
		out = append(out, "lowerdir="+strings.Join(dirs, ":"))
	}
	return dir, out
}

// splice binds a host path to its place in the container, making the place as
// the runtime would at the start.
func splice(root *os.File, s Splice) error {
	if s.Subpath != "" {
		f, err := within(s.Source, s.Subpath)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		s.Source = fmt.Sprintf("/proc/thread-self/fd/%d", f.Fd())
	}
	st, err := os.Stat(s.Source)
	if errors.Is(err, os.ErrNotExist) {
		// A bind whose source is made at the start, or has gone: the place shows
		// what the image has.
		return nil
	}
	if err != nil {
		return err
	}
	f, err := OpenIn(root, s.Destination, unix.O_PATH, 0)
	if errors.Is(err, os.ErrNotExist) {
		if f, err = makePlace(root, s.Destination, st.IsDir()); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	defer f.Close()
	at := fmt.Sprintf("/proc/thread-self/fd/%d", f.Fd())
	if err := unix.Mount(s.Source, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil || !s.ReadOnly {
		return err
	}
	// Again from the root: the descriptor is of what the mount has covered.
	top, err := OpenIn(root, s.Destination, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer top.Close()
	return unix.Mount("", fmt.Sprintf("/proc/thread-self/fd/%d", top.Fd()), "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// within opens a path below a directory (O_PATH).
func within(dir, p string) (*os.File, error) {
	root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return OpenIn(root, p, unix.O_PATH, 0)
}

func makePlace(root *os.File, dest string, isDir bool) (*os.File, error) {
	dir, base := path.Split(path.Clean(dest))
	parent, err := MkdirAll(root, dir, 0o755)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if isDir {
		err = unix.Mkdirat(int(parent.Fd()), base, 0o755)
	} else {
		err = unix.Mknodat(int(parent.Fd()), base, unix.S_IFREG|0o644, 0)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	return OpenIn(root, dest, unix.O_PATH, 0)
}

// MkdirAll makes path below root and returns its descriptor (O_PATH).
func MkdirAll(root *os.File, dir string, perm uint32) (*os.File, error) {
	f, err := OpenIn(root, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	// Part by part, each from the root: ".." and links in the part that exists
	// are resolved by the kernel, never by text.
	done := ""
	for part := range strings.SplitSeq(dir, "/") {
		if part == "" || part == "." {
			continue
		}
		next := done + "/" + part
		if _, err := statIn(root, next); errors.Is(err, os.ErrNotExist) && part != ".." {
			parent, err := OpenIn(root, done, unix.O_PATH|unix.O_DIRECTORY, 0)
			if err != nil {
				return nil, err
			}
			err = unix.Mkdirat(int(parent.Fd()), part, perm)
			parent.Close()
			if err != nil && !errors.Is(err, unix.EEXIST) {
				return nil, &os.PathError{Op: "mkdir", Path: next, Err: err}
			}
		} else if err != nil {
			return nil, err
		}
		done = next
	}
	return OpenIn(root, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
}

func statIn(root *os.File, p string) (os.FileInfo, error) {
	f, err := OpenIn(root, p, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}
