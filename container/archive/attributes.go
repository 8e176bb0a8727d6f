package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// attributes sets owner, mode, capabilities and times of what was just made.
func (u *untarrer) attributes(parent *os.File, base string, h *tar.Header) error {
	if h.Typeflag == tar.TypeLink || h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	fd := int(parent.Fd())
	uid, gid := h.Uid, h.Gid
	if u.o.Owner != nil {
		uid, gid = u.o.Owner.UID, u.o.Owner.GID
	}
	// The owner first: chown(2) takes set-user-ID bits and capabilities away.
	if err := unix.Fchownat(fd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "chown", Path: h.Name, Err: err}
	}
	if h.Typeflag == tar.TypeSymlink {
		return utimes(parent, base, h)
	}
	// There is no fchmodat that follows no link before Linux 6.6; through a
	// descriptor of the file itself there is nothing to follow.
	f, err := openAt(parent, base, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Mode()&os.ModeSymlink != 0 {
		return cnm.Conflict("%s was replaced while it was being unpacked", h.Name)
	}
	if err := unix.Chmod(procName(f), uint32(h.Mode&0o7777)); err != nil {
		return &os.PathError{Op: "chmod", Path: h.Name, Err: err}
	}
	if c, ok := h.PAXRecords[capRecord]; ok {
		if err := unix.Setxattr(procName(f), capAttr, []byte(c), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return &os.PathError{Op: "setxattr", Path: h.Name, Err: err}
		}
	}
	if h.Typeflag == tar.TypeDir {
		u.times = append(u.times, h)
		return nil
	}
	return utimes(parent, base, h)
}

func utimes(parent *os.File, base string, h *tar.Header) error {
	at := h.AccessTime
	if at.Before(h.ModTime) {
		at = h.ModTime
	}
	ts := []unix.Timespec{timespec(at), timespec(h.ModTime)}
	return unix.UtimesNanoAt(int(parent.Fd()), base, ts, unix.AT_SYMLINK_NOFOLLOW)
}

func timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	return ts
}

// finish sets the times of directories, the innermost first.
func (u *untarrer) finish() error {
	for i := len(u.times) - 1; i >= 0; i-- {
		h := u.times[i]
		dir, base := path.Split(u.within(h.Name))
		parent, err := u.open(dir)
		if err != nil {
			return err
		}
		if err := utimes(parent, base, h); err != nil && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "utimes", Path: h.Name, Err: err}
		}
	}
	return nil
}

// decompress recognises what Docker takes by its first bytes.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 32<<10)
	magic, _ := b.Peek(6)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, cnm.Invalid("reading the archive: %w", err)
		}
		return z, nil
	case bytes.HasPrefix(magic, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(b)), nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b)
		if err != nil {
			return nil, cnm.Invalid("reading the archive: %w", err)
		}
		return z.IOReadCloser(), nil
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return nil, cnm.Unsupported("an xz-compressed archive is not read yet: send it plain, or as gzip, bzip2 or zstd")
	}
	return io.NopCloser(b), nil
}
