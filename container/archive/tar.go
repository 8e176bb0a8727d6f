package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Tar writes what is at a path below root to w. Entries begin with the path's
// last part.
func Tar(root *os.File, p string, w io.Writer) error {
	l := locate(p)
	f, err := l.open(root)
	if err != nil {
		return err
	}
	defer f.Close()
	var top unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &top); err != nil {
		return err
	}
	t := &tarrer{tw: tar.NewWriter(w), links: map[inode]string{}, rootDev: top.Dev}
	if err := t.add(f, l.name(), l.abs); err != nil {
		return err
	}
	return t.tw.Close()
}

// Root writes all that is below root to w, the root itself left out: what
// `docker export` gives.
func Root(root *os.File, w io.Writer) error {
	var top unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &top); err != nil {
		return err
	}
	t := &tarrer{tw: tar.NewWriter(w), links: map[inode]string{}, rootDev: top.Dev, bare: true}
	if err := t.children(root, "", "/"); err != nil {
		return err
	}
	return t.tw.Close()
}

// Layer writes the archive of an image's layer, entry by entry, parents first.
type Layer struct{ t tarrer }

// NewLayer begins one.
func NewLayer(w io.Writer) *Layer {
	return &Layer{tarrer{tw: tar.NewWriter(w), links: map[inode]string{}, single: true}}
}

// Add writes one file, opened with O_PATH, or a directory without what is in it.
func (l *Layer) Add(f *os.File, name string) error {
	return l.t.add(f, strings.TrimPrefix(name, "/"), name)
}

// Whiteout says that what the layers below have under that name is gone
// (image-spec, "Whiteouts").
func (l *Layer) Whiteout(name string) error {
	dir, base := path.Split(strings.TrimPrefix(name, "/"))
	return l.t.tw.WriteHeader(&tar.Header{Name: dir + ".wh." + base, Typeflag: tar.TypeReg, Format: tar.FormatPAX})
}

// Close ends the archive.
func (l *Layer) Close() error { return l.t.tw.Close() }

type inode struct{ dev, ino uint64 }

type tarrer struct {
	tw      *tar.Writer
	links   map[inode]string
	rootDev uint64
	// single: no directory is entered.
	single bool
	// bare: entries of the root begin without a slash.
	bare bool
}

// add writes one file, and all below it. f is opened with O_PATH; place is
// where it is in the container.
func (t *tarrer) add(f *os.File, name, place string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	h, ok, err := header(f, &st, name)
	if err != nil || !ok {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := t.tw.WriteHeader(h); err != nil {
			return err
		}
		if t.single || t.foreign(f, &st, place) {
			return nil
		}
		return t.children(f, name, place)
	case tar.TypeReg:
		return t.regular(f, &st, h)
	}
	return t.tw.WriteHeader(h)
}

// header describes a file. Sockets cannot be archived: ok is false.
func header(f *os.File, st *unix.Stat_t, name string) (h *tar.Header, ok bool, err error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if fi.Mode()&fs.ModeSocket != 0 {
		return nil, false, nil
	}
	target := ""
	if fi.Mode()&fs.ModeSymlink != 0 {
		// An empty path reads the link that the descriptor itself is (readlink(2)).
		if target, err = readlinkAt(f, ""); err != nil {
			return nil, false, err
		}
	}
	if h, err = tar.FileInfoHeader(plain{fi}, target); err != nil {
		return nil, false, err
	}
	h.Format = tar.FormatPAX
	h.Name = name
	h.Uid, h.Gid = int(st.Uid), int(st.Gid)
	h.ModTime = fi.ModTime()
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	if b := capability(f); b != nil {
		h.PAXRecords = map[string]string{capRecord: string(b)}
	}
	return h, true, nil
}

// plain hides Sys, so that FileInfoHeader does not look users up on the host,
// whose names mean nothing in the container.
type plain struct{ fs.FileInfo }

func (plain) Sys() any { return nil }

const (
	capAttr   = "security.capability"
	capRecord = "SCHILY.xattr." + capAttr
)

// capability reads a file's capabilities, the one attribute that Docker copies.
func capability(f *os.File) []byte {
	buf := make([]byte, 256)
	// O_PATH descriptors refuse fgetxattr; their name in /proc does not.
	n, err := unix.Getxattr(procName(f), capAttr, buf)
	if err != nil || n <= 0 {
		return nil
	}
	return buf[:n]
}

// procName is a path that leads to exactly the file of a descriptor.
func procName(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func (t *tarrer) regular(f *os.File, st *unix.Stat_t, h *tar.Header) error {
	if st.Nlink > 1 {
		i := inode{st.Dev, st.Ino}
		if first, seen := t.links[i]; seen {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return t.tw.WriteHeader(h)
		}
		t.links[i] = h.Name
	}
	r, err := os.OpenFile(procName(f), unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := t.tw.WriteHeader(h); err != nil {
		return err
	}
	// A file that grows meanwhile is cut at the size announced, one that shrinks
	// is filled with zeros, as GNU tar does.
	n, err := io.CopyN(t.tw, r, h.Size)
	if errors.Is(err, io.EOF) {
		_, err = io.CopyN(t.tw, zeros{}, h.Size-n)
	}
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func (t *tarrer) children(f *os.File, name, place string) error {
	d, err := os.OpenFile(procName(f), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		c, err := openAt(d, n, unix.O_PATH|unix.O_NOFOLLOW)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since
		}
		if err != nil {
			return err
		}
		inside := name + "/" + n
		if name == "" && t.bare {
			inside = n
		}
		err = t.add(c, inside, strings.TrimSuffix(place, "/")+"/"+n)
		c.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// foreign tells the kernel's own file systems in a running container, and its
// /dev: they are no files of the container's, and Docker copies none of them.
func (t *tarrer) foreign(f *os.File, st *unix.Stat_t, place string) bool {
	if st.Dev == t.rootDev {
		return false
	}
	if place == "/dev" {
		return true
	}
	var s unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &s) != nil {
		return false
	}
	switch s.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC,
		unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC, 0x19800202: // mqueue, ipc/mqueue.c
		return true
	}
	return false
}
