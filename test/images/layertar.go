package images

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// packLayer writes the folder as a compressed layer and tells its digests.
func packLayer(folder, target string) (info layerInfo, err error) {
	f, err := os.Create(target)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	compressed := &digester{w: f, h: sha256.New()}
	buffered := bufio.NewWriterSize(compressed, 1<<20)
	// Speed over size: the tests read these files more often than they cross
	// a wire, and that wire is loopback.
	zip, err := gzip.NewWriterLevel(buffered, gzip.BestSpeed)
	if err != nil {
		return info, err
	}
	plain := &digester{w: zip, h: sha256.New()}
	if err := writeLayer(folder, plain); err != nil {
		return info, err
	}
	if err := errors.Join(zip.Close(), buffered.Flush()); err != nil {
		return info, err
	}
	return layerInfo{Digest: compressed.digest(), DiffID: plain.digest(), Size: compressed.n, Created: time.Now().UTC().Truncate(time.Second)}, nil
}

type digester struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (d *digester) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	d.h.Write(p[:n])
	d.n += int64(n)
	return n, err
}

func (d *digester) digest() string { return "sha256:" + hex.EncodeToString(d.h.Sum(nil)) }

// inode tells hard links: two names, one file.
type inode struct{ dev, ino uint64 }

// writeLayer turns overlayfs's upper folder into an image layer: a character
// device 0/0 (overlayfs.rst, "whiteouts and opaque directories") becomes an
// empty ".wh.NAME", an opaque folder gets ".wh..wh..opq" (image-spec layer.md).
func writeLayer(folder string, to io.Writer) error {
	tw := tar.NewWriter(to)
	links := map[inode]string{}
	// WalkDir goes in lexical order: the same folder makes the same bytes.
	err := filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == folder {
			return err
		}
		rel, err := filepath.Rel(folder, name)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return writeEntry(tw, name, rel, info, links)
	})
	return errors.Join(err, tw.Close())
}

func writeEntry(tw *tar.Writer, name, rel string, info fs.FileInfo, links map[inode]string) error {
	st := info.Sys().(*syscall.Stat_t)
	if info.Mode()&fs.ModeSocket != 0 {
		return nil // nobody listens on it any more
	}
	if info.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0 {
		return whiteout(tw, filepath.Join(filepath.Dir(rel), ".wh."+filepath.Base(rel)))
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(name); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name = rel
	if info.IsDir() {
		header.Name += "/"
	}
	header.Uname, header.Gname = "", ""
	header.ModTime = header.ModTime.Truncate(time.Second)
	header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
	header.Format = tar.FormatPAX

	attributes, err := xattrs(name, info)
	if err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	opaque := false
	for key, value := range attributes {
		switch {
		case key == "trusted.overlay.opaque":
			opaque = value == "y"
		case strings.HasPrefix(key, "trusted."): // overlayfs's own
		default:
			if header.PAXRecords == nil {
				header.PAXRecords = map[string]string{}
			}
			header.PAXRecords["SCHILY.xattr."+key] = value
		}
	}
	if info.Mode().IsRegular() && st.Nlink > 1 {
		id := inode{uint64(st.Dev), st.Ino}
		if first, ok := links[id]; ok {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
		} else {
			links[id] = rel
		}
	}
	if err := tw.WriteHeader(header); err != nil {
		return err
	}
	if opaque {
		if err := whiteout(tw, filepath.Join(rel, ".wh..wh..opq")); err != nil {
			return err
		}
	}
	if header.Typeflag != tar.TypeReg {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(tw, f)
	return err
}

func whiteout(tw *tar.Writer, name string) error {
	return tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Format: tar.FormatPAX})
}

// xattrs reads the extended attributes of files and folders (a symlink has
// none that a layer carries). File capabilities, such as ping's, are one.
func xattrs(name string, info fs.FileInfo) (map[string]string, error) {
	if !info.Mode().IsRegular() && !info.IsDir() {
		return nil, nil
	}
	names := make([]byte, 4096)
	n, err := syscall.Listxattr(name, names)
	if errors.Is(err, syscall.ENOTSUP) || n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, key := range strings.Split(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		value := make([]byte, 4096)
		m, err := syscall.Getxattr(name, key, value)
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", key, err)
		}
		out[key] = string(value[:m])
	}
	return out, nil
}
