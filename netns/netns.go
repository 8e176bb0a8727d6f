// Package netns makes, pins, enters and lists network namespaces. A namespace
// is entered only for one short action (open a socket, run a program, write a
// sysctl) on a thread that is thrown away when it cannot come back; everything
// after that works through file descriptors, from any goroutine.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"golang.org/x/sys/unix"
)

// threadNS is the namespace of the calling thread. Not /proc/self: that is the
// main thread's, and each thread has its own (setns(2)).
const threadNS = "/proc/thread-self/ns/net"

// Create makes a new network namespace with its loopback up and pins it by a
// bind mount at path, so that it lives while nobody is in it. An existing pin is
// fs.ErrExist; a leftover file that is no pin is used. A kill between the steps
// leaves at most an empty file, which List does not show.
func Create(path string) error { return CreateWith(path, nil) }

// CreateWith is Create, then fn on the thread that is still inside: it saves the
// caller entering again to open a socket. The pin stays when fn fails.
func CreateWith(path string, fn func() error) error {
	if err := touch(path); err != nil {
		return err
	}
	return inNew(func() error {
		err := pinThread(path)
		if err == nil {
			err = loopbackUp()
		}
		if err == nil && fn != nil {
			err = fn()
		}
		return err
	})
}

// Unpinned makes a new network namespace with its loopback up that only the
// returned descriptor keeps alive; fn runs on the thread that is inside. Pin gives
// it a path later, which takes a tenth of the time that a new one takes.
func Unpinned(fn func() error) (ns *os.File, err error) {
	err = inNew(func() (err error) {
		if ns, err = Current(); err != nil {
			return err
		}
		if err = loopbackUp(); err == nil && fn != nil {
			err = fn()
		}
		return err
	})
	if err != nil && ns != nil {
		ns.Close()
		ns = nil
	}
	return ns, err
}

// Pin pins an open namespace at path, with Create's rules.
func Pin(ns *os.File, path string) error {
	if err := touch(path); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pin network namespace at %s: %w", path, err)
	}
	return nil
}

// inNew runs fn on a thread in a namespace that is made for it.
func inNew(fn func() error) error {
	return onThread(func() (err error, tainted bool) {
		own, err := openThread()
		if err != nil {
			return err, false
		}
		defer unix.Close(own)
		// A thread that unshared keeps its namespace alive: it goes back, or dies.
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err), false
		}
		err = fn()
		return err, unix.Setns(own, unix.CLONE_NEWNET) != nil
	})
}

// PinSelf pins the namespace of the calling process (of its threads that never
// entered another) at path: host mode hands it to the runtime as a path.
// Pinning what is pinned there already is success.
func PinSelf(path string) error {
	own, err := Own()
	if err != nil {
		return err
	}
	if ino, err := Inode(path); err == nil {
		if ino == own {
			return nil
		}
		return fmt.Errorf("pin own network namespace: %s holds another namespace (inode %d, ours is %d): %w", path, ino, own, fs.ErrExist)
	}
	if err := touch(path); err != nil {
		return err
	}
	return onThread(func() (error, bool) { return pinThread(path), false })
}

// Open returns a descriptor of the namespace pinned at path. The caller closes it.
// The open file is what is looked at, not the path: another may be unpinning it.
func Open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Type != unix.NSFS_MAGIC {
		return nil, errors.Join(fmt.Errorf("open network namespace %s: a plain file, no namespace is mounted on it: %w", path, fs.ErrNotExist), f.Close())
	}
	return f, nil
}

// Remove unpins: the namespace goes when the last process and descriptor leave
// it. Removing what is not there is success.
func Remove(path string) error {
	// Pins can be stacked when someone mounted over ours: take all.
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == nil || err == unix.EINTR {
			continue
		}
		if err == unix.EINVAL || err == unix.ENOENT { // not a mount point; gone
			break
		}
		return fmt.Errorf("unpin network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin network namespace: %w", err)
	}
	return nil
}

// Pinned says whether a namespace is mounted at path (or path is a link to one
// in /proc): a plain file is left over from a kill or a reboot.
func Pinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// Inode identifies the namespace at path: equal inodes, same namespace.
func Inode(path string) (uint64, error) {
	f, err := Open(path)
	if err != nil {
		return 0, fmt.Errorf("network namespace %s: %w", path, err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return st.Ino, nil
}

// Own is the inode of the namespace that fresh threads of this process are in.
func Own() (uint64, error) {
	var st unix.Stat_t
	err := onThread(func() (error, bool) { return unix.Stat(threadNS, &st), false })
	if err != nil {
		return 0, fmt.Errorf("own network namespace: %w", err)
	}
	return st.Ino, nil
}

// List returns the paths of the pins in dir, sorted. A missing dir has none.
func List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var pins []string
	for _, e := range entries {
		if p := filepath.Join(dir, e.Name()); Pinned(p) {
			pins = append(pins, p)
		}
	}
	sort.Strings(pins)
	return pins, nil
}

// touch makes the file that the pin is mounted on.
func touch(path string) error {
	for range 2 {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
		switch {
		case err == nil:
			return f.Close()
		case errors.Is(err, fs.ErrExist):
			if Pinned(path) {
				return fmt.Errorf("network namespace %s: %w", path, fs.ErrExist)
			}
			return nil
		case errors.Is(err, fs.ErrNotExist):
			if err := Prepare(filepath.Dir(path)); err != nil {
				return err
			}
		default:
			return fmt.Errorf("pin network namespace: %w", err)
		}
	}
	return fmt.Errorf("pin network namespace %s: its folder keeps vanishing: %w", path, fs.ErrNotExist)
}

func pinThread(path string) error {
	if err := unix.Mount(threadNS, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pin network namespace at %s: %w", path, err)
	}
	return nil
}

// loopbackUp sets lo up in the calling thread's namespace (netdevice(7)).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
