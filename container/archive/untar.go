package archive

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/container/rootfs"
)

// Options of Untar.
type Options struct {
	// NoOverwriteDirNonDir: a directory is not replaced by another kind of file,
	// nor the other way round.
	NoOverwriteDirNonDir bool
	// Owner, when set, is given to all files instead of the archive's.
	Owner *Owner
}

// Owner is a user and group.
type Owner struct{ UID, GID int }

// Untar unpacks a tar stream (plain, gzip, bzip2 or zstd) into the directory at
// p below root.
func Untar(root *os.File, p string, r io.Reader, o Options) error {
	// Not located: here the last link is followed too.
	dest := path.Clean("/" + p)
	d, err := rootfs.OpenIn(root, dest, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	st, err := d.Stat()
	d.Close()
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return cnm.Invalid("extraction point is not a directory: %s", dest)
	}
	plain, err := decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	u := &untarrer{root: root, dest: dest, o: o}
	defer u.close()
	tr := tar.NewReader(plain)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return cnm.Invalid("reading the archive: %w", err)
		}
		if err := u.entry(h, tr); err != nil {
			return err
		}
	}
}

type untarrer struct {
	root *os.File
	dest string
	o    Options
	// parent is the directory of the last entry: archives have runs of them.
	parent     *os.File
	parentName string
	// times are the directories' own, set last, since every file changes them.
	times []*tar.Header
}

func (u *untarrer) close() {
	if u.parent != nil {
		u.parent.Close()
	}
}

// within makes an entry's name absolute in the container. Textual cleaning
// confines ".." to the destination; links are the kernel's to confine.
func (u *untarrer) within(name string) string {
	return path.Join(u.dest, path.Clean("/"+name))
}

func (u *untarrer) entry(h *tar.Header, r io.Reader) error {
	full := u.within(h.Name)
	if full == u.dest {
		// The directory itself, which is there.
		return nil
	}
	dir, base := path.Split(full)
	parent, err := u.open(dir)
	if err != nil {
		return err
	}
	if err := u.clear(parent, base, h); err != nil {
		return err
	}
	if err := u.make(parent, base, h, r); err != nil {
		return &fs.PathError{Op: "unpack", Path: full, Err: err}
	}
	return u.attributes(parent, base, h)
}

func (u *untarrer) open(dir string) (*os.File, error) {
	if u.parent != nil && u.parentName == dir {
		return u.parent, nil
	}
	f, err := rootfs.MkdirAll(u.root, dir, 0o755)
	if err != nil {
		return nil, err
	}
	u.close()
	u.parent, u.parentName = f, dir
	return f, nil
}

// clear makes room for an entry.
func (u *untarrer) clear(parent *os.File, base string, h *tar.Header) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(parent.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	isDir, toDir := st.Mode&unix.S_IFMT == unix.S_IFDIR, h.Typeflag == tar.TypeDir
	if isDir && toDir {
		return nil
	}
	if u.o.NoOverwriteDirNonDir && isDir != toDir {
		if isDir {
			return cnm.Invalid("cannot overwrite directory %q with non-directory %q", u.within(h.Name), u.dest)
		}
		return cnm.Invalid("cannot overwrite non-directory %q with directory %q", u.within(h.Name), u.dest)
	}
	return removeAll(parent, base)
}

// removeAll removes a tree without following anything.
func removeAll(parent *os.File, base string) error {
	err := unix.Unlinkat(int(parent.Fd()), base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) {
		return &fs.PathError{Op: "remove", Path: base, Err: err}
	}
	d, err := openAt(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := removeAll(d, n); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(int(parent.Fd()), base, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "remove", Path: base, Err: err}
	}
	return nil
}

func (u *untarrer) make(parent *os.File, base string, h *tar.Header, r io.Reader) error {
	fd, perm := int(parent.Fd()), uint32(h.Mode&0o7777)
	switch h.Typeflag {
	case tar.TypeDir:
		err := unix.Mkdirat(fd, base, perm)
		if errors.Is(err, unix.EEXIST) {
			return nil
		}
		return err
	case tar.TypeReg:
		return writeFile(fd, base, perm, r)
	case tar.TypeSymlink:
		return unix.Symlinkat(h.Linkname, fd, base)
	case tar.TypeLink:
		return u.link(fd, base, h.Linkname)
	case tar.TypeFifo:
		return unix.Mknodat(fd, base, unix.S_IFIFO|perm, 0)
	case tar.TypeChar:
		return unix.Mknodat(fd, base, unix.S_IFCHR|perm, device(h))
	case tar.TypeBlock:
		return unix.Mknodat(fd, base, unix.S_IFBLK|perm, device(h))
	case tar.TypeXGlobalHeader:
		return nil
	}
	return cnm.Invalid("the archive has an entry of the unknown type %q", string(h.Typeflag))
}

func device(h *tar.Header) int {
	return int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
}

func writeFile(dir int, base string, perm uint32, r io.Reader) error {
	// Exclusive: what another process put there since is not followed.
	fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	_, err = io.Copy(f, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// link makes a hard link to another file of the same archive.
func (u *untarrer) link(dir int, base, target string) error {
	tdir, tbase := path.Split(u.within(strings.TrimPrefix(target, "/")))
	d, err := rootfs.OpenIn(u.root, tdir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Linkat(int(d.Fd()), tbase, dir, base, 0)
}
