package netns

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Prepare makes dir ready to hold pins: it exists, and mounts below it propagate
// to mount namespaces that are copied from ours later (a containerd or shim in a
// unit with its own mounts). Without that, such a copy keeps a pin mounted that
// we removed, and the namespace never dies (mount_namespaces(7), "SHARED
// SUBTREES"). Where the surrounding mount is shared already, nothing is mounted.
func Prepare(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("prepare folder for network namespaces: %w", err)
	}
	// Two that prepare at once must not both mount.
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("prepare folder for network namespaces: %w", err)
	}
	defer d.Close()
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("prepare folder for network namespaces %s: lock: %w", dir, err)
	}
	shared, self, err := propagation(dir)
	if err != nil {
		return err
	}
	if shared {
		return nil
	}
	if !self {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("prepare folder for network namespaces %s: %w", dir, err)
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts below %s: %w", dir, err)
	}
	return nil
}

// maxStacked bounds how many mounts on top of each other Dismantle takes off.
const maxStacked = 16

// Dismantle undoes Prepare: it removes the pins in dir, dir's own mount and dir
// itself. A missing dir is success; a dir with other files in it stays.
func Dismantle(dir string) error {
	var errs []error
	for range maxStacked {
		pins, err := List(dir)
		if err != nil {
			return err
		}
		for _, p := range pins {
			errs = append(errs, Remove(p))
		}
		if _, self, err := propagation(dir); err != nil || !self {
			break
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", dir, err))
			break
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		errs = append(errs, fmt.Errorf("remove folder for network namespaces: %w", err))
	}
	return errors.Join(errs...)
}

// propagation finds the mount that dir lies on: whether it is shared, and
// whether it is dir's own.
func propagation(dir string) (shared, self bool, err error) {
	if dir, err = resolve(dir); err != nil {
		return false, false, err
	}
	m, err := mountOf("/proc/thread-self/mountinfo", dir)
	return m.peers("shared:") != "", m.point == dir, err
}

// Visible says whether the pins in dir, as Prepare left it, are seen by the machine's
// first process. They are not when we run in a mount namespace of our own whose mounts
// stay there: then they are gone with us, and whoever comes next does not find them.
func Visible(dir string) (bool, error) {
	dir, err := resolve(dir)
	if err != nil {
		return false, err
	}
	return visible(dir, "/proc/thread-self/mountinfo", "/proc/1/mountinfo")
}

// visible compares peer groups: what is mounted in ours appears in its peers and in
// those that follow it (mount_namespaces(7)).
func visible(dir, ours, theirs string) (bool, error) {
	m, err := mountOf(ours, dir)
	if err != nil {
		return false, err
	}
	group := m.peers("shared:")
	if group == "" {
		return false, nil
	}
	t, err := mountOf(theirs, dir)
	return group == t.peers("shared:") || group == t.peers("master:"), err
}

// mount is a line of mountinfo: where it is mounted and its optional fields.
type mount struct {
	point    string
	optional []string
}

// peers is the group of an optional field; "": it has none.
func (m mount) peers(field string) string {
	for _, o := range m.optional {
		if group, ok := strings.CutPrefix(o, field); ok {
			return group
		}
	}
	return ""
}

func resolve(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return "", fmt.Errorf("folder for network namespaces: %w", err)
	}
	return dir, nil
}

// mountOf finds the mount that dir lies on (proc(5), mountinfo: field 5 is the mount
// point, then optional fields up to "-").
func mountOf(mountinfo, dir string) (m mount, err error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return m, fmt.Errorf("read mounts: %w", err)
	}
	defer f.Close()
	best := -1
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		w := strings.Fields(sc.Text())
		if len(w) < 7 {
			continue
		}
		point := unescape(w[4])
		// Later lines lie on top of earlier ones with the same mount point.
		if !within(dir, point) || len(point) < best {
			continue
		}
		best, m = len(point), mount{point: point}
		for _, opt := range w[6:] {
			if opt == "-" {
				break
			}
			m.optional = append(m.optional, opt)
		}
	}
	if err := sc.Err(); err != nil {
		return m, fmt.Errorf("read mounts: %w", err)
	}
	return m, nil
}

func within(dir, point string) bool {
	return point == "/" || dir == point || strings.HasPrefix(dir, point+"/")
}

// unescape decodes the octal escapes that mountinfo uses for space, tab, newline
// and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
