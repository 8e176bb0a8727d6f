package layer

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"

	apicontainer "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"linkspan/container/archive"
	"linkspan/container/rootfs"
)

// Write packs changes, as Compare lists them, as the tar of a layer.
func Write(changes []Change, merged *os.File, w io.Writer) error {
	l := archive.NewLayer(w)
	for _, c := range changes {
		if c.Kind == apicontainer.ChangeDelete {
			if err := l.Whiteout(c.Path); err != nil {
				return err
			}
			continue
		}
		err := add(l, merged, c.Path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // gone since
			return err
		}
	}
	return l.Close()
}

func add(l *archive.Layer, root *os.File, p string) error {
	dir, base := path.Split(p)
	d, err := rootfs.OpenIn(root, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	f, err := openAt(d, base)
	if err != nil {
		return err
	}
	defer f.Close()
	return l.Add(f, p)
}

// capability reads a file's capabilities, through /proc since an O_PATH
// descriptor refuses fgetxattr(2).
func capability(f *os.File) []byte {
	buf := make([]byte, 256)
	n, err := unix.Getxattr("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), "security.capability", buf)
	if err != nil || n <= 0 {
		return nil
	}
	return buf[:n]
}
