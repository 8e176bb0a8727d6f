package rootfs

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// Bare opens the root file system of a container's process without anything
// that is mounted on it: neither volumes nor what the engine puts there. id is
// as in Running.
func Bare(pid int, id string) (*View, error) {
	dir, err := process(pid, id)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), "ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, gone(id, err)
	}
	space := os.NewFile(uintptr(fd), "mount namespace of "+id)
	defer space.Close()
	var v *View
	onThrowawayThread(func() { v, err = cloneRoot(space) })
	return v, err
}

// cloneRoot copies the root mount, alone, of a mount namespace: open_tree(2) takes
// only mounts of the namespace it is called in.
func cloneRoot(space *os.File) (*View, error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, fmt.Errorf("a root of its own: %w", err)
	}
	if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("enter the container's mount namespace: %w", err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("copy the container's root mount: %w", err)
	}
	return &View{root: os.NewFile(uintptr(fd), "root without mounts")}, nil
}

// Lower are the mounts of what is below a container's writable layer; none if
// there is nothing below. upper is the host's path of that layer.
func Lower(layers []mount.Mount) (lower []mount.Mount, upper string, err error) {
	if len(layers) != 1 {
		return nil, "", unlayered("of %d mounts", len(layers))
	}
	m := layers[0]
	if m.Type == "bind" {
		// The overlay snapshotter's answer for an image without layers.
		return nil, m.Source, nil
	}
	if m.Type != "overlay" {
		return nil, "", unlayered("of type %s", m.Type)
	}
	var dirs []string
	var rest []string
	for _, o := range m.Options {
		switch k, v, _ := strings.Cut(o, "="); k {
		case "upperdir":
			upper = v
		case "lowerdir":
			dirs = strings.Split(v, ":")
		case "workdir", "index", "volatile", "rw", "ro":
		default:
			rest = append(rest, o)
		}
	}
	switch {
	case upper == "" || len(dirs) == 0:
		return nil, "", unlayered("without an upper directory")
	case len(dirs) == 1:
		// An overlay needs two.
		return []mount.Mount{{Type: "bind", Source: dirs[0], Options: []string{"rbind", "ro"}}}, upper, nil
	}
	m.Options = slices.Concat(rest, []string{"lowerdir=" + strings.Join(dirs, ":"), "ro"})
	return []mount.Mount{m}, upper, nil
}

func unlayered(format string, args ...any) error {
	return cnm.Unsupported("not yet: the writable layer of a container on a root file system %s cannot be told apart from its image; the overlayfs snapshotter is what works", fmt.Sprintf(format, args...))
}
