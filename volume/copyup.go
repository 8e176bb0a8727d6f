package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// CopyUp implements [Service].
func (s *Store) CopyUp(ctx context.Context, src, name string) error {
	v, err := s.Get(ctx, name)
	if err != nil {
		return err
	}
	s.fillMu.Lock()
	defer s.fillMu.Unlock()
	marker := filepath.Join(s.dir(name), populating)
	_, cut := os.Lstat(marker)
	if cut != nil { // no copy was cut short: only an empty volume is filled
		if empty, err := isEmpty(v.Mountpoint); err != nil || !empty {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(src, &st); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	} else if err != nil {
		return disk(err, "volume %s: the image's folder %s", name, src)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	if err := s.step("volume.mark", func() error { return os.WriteFile(marker, nil, 0o600) }); err != nil {
		return disk(err, "volume %s", name)
	}
	c := copier{ctx: ctx, links: map[[2]uint64]string{}}
	if err := s.step("volume.copy", func() error { return c.dir(src, v.Mountpoint, &st) }); err != nil {
		return disk(err, "volume %s: copying the image's files of %s into it", name, src)
	}
	return s.step("volume.unmark", func() error { return os.Remove(marker) })
}

func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

// copier copies a tree with owner, mode, times, extended attributes, symlinks,
// hard links and device nodes. It follows no symlink.
type copier struct {
	ctx context.Context
	// links are the copies of files that have more than one name, by device and
	// inode of the original.
	links map[[2]uint64]string
}

// dir copies what is in src into dst, which exists or is made, and then gives
// dst the attributes of src (times last: each new entry changes them).
func (c *copier) dir(src, dst string, st *unix.Stat_t) error {
	if err := os.Mkdir(dst, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.entry(filepath.Join(src, e.Name()), filepath.Join(dst, e.Name())); err != nil {
			return err
		}
	}
	return attributes(src, dst, st)
}

func (c *copier) entry(src, dst string) error {
	var st unix.Stat_t
	if err := unix.Lstat(src, &st); err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return c.dir(src, dst, &st)
	}
	// What a copy that was cut short left here.
	if err := os.Remove(dst); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	inode := [2]uint64{st.Dev, st.Ino}
	if first, ok := c.links[inode]; ok {
		return os.Link(first, dst)
	}
	var err error
	switch kind {
	case unix.S_IFREG:
		err = file(src, dst)
	case unix.S_IFLNK:
		var target string
		if target, err = os.Readlink(src); err == nil {
			err = os.Symlink(target, dst)
		}
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO:
		err = unix.Mknod(dst, st.Mode, int(st.Rdev))
	default:
		return nil // a socket is of no use without the process behind it
	}
	if err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	if st.Nlink > 1 {
		c.links[inode] = dst
	}
	return attributes(src, dst, &st)
}

func file(src, dst string) error {
	in, err := os.OpenFile(src, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	// Between two files io.Copy uses copy_file_range(2).
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// attributes gives dst owner, extended attributes, mode and times of src, in
// this order: chown takes set-id bits and file capabilities away (chown(2)).
func attributes(src, dst string, st *unix.Stat_t) error {
	if err := unix.Lchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("%s: owner: %w", dst, err)
	}
	if err := xattrs(src, dst); err != nil {
		return fmt.Errorf("%s: extended attributes: %w", dst, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK { // a symlink has no mode of its own
		if err := unix.Chmod(dst, st.Mode&0o7777); err != nil {
			return fmt.Errorf("%s: mode: %w", dst, err)
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, dst, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("%s: times: %w", dst, err)
	}
	return nil
}

func xattrs(src, dst string) error {
	names, err := listXattr(src)
	if err != nil || len(names) == 0 {
		return err
	}
	for _, name := range names {
		// overlayfs keeps its own notes here; a security label is given by the
		// place where the copy lies.
		if strings.HasPrefix(name, "trusted.overlay.") || name == "security.selinux" {
			continue
		}
		value, err := getXattr(src, name)
		if err == nil {
			err = unix.Lsetxattr(dst, name, value, 0)
		}
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENODATA) {
			continue // the volume's file system has none, or it is gone meanwhile
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func listXattr(path string) ([]string, error) {
	b, err := sized(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), nil
}

func getXattr(path, name string) ([]byte, error) {
	return sized(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
}

// sized calls get with a buffer that is large enough; the size can grow between
// asking for it and reading (ERANGE).
func sized(get func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := get(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		if n, err = get(b); !errors.Is(err, unix.ERANGE) {
			return b[:max(n, 0)], err
		}
	}
}
