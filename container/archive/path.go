// Package archive copies files into and out of a container's root file system
// as tar streams. It works on descriptors below the root alone (openat2,
// *at calls that follow nothing), since the container may be running and
// moving links about at the same time.
package archive

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"linkspan/container/rootfs"
)

// location is a path in the container, split so that the last part is not
// followed when it is a link, unless the person wrote a slash behind it.
type location struct {
	// abs is absolute and clean but for a trailing "/" or "/.", which mean the
	// directory itself and its content.
	abs       string
	dir, base string
}

func locate(p string) location {
	abs := path.Clean("/" + p)
	switch {
	case abs == "/":
	case strings.HasSuffix(p, "/."):
		abs += "/."
	case strings.HasSuffix(p, "/"):
		abs += "/"
	}
	dir, base := path.Split(abs)
	return location{abs: abs, dir: dir, base: base}
}

// name is what archive entries of the location begin with: for "/" nothing, so
// that entries begin with a slash, as Docker's do.
func (l location) name() string {
	switch {
	case l.abs == "/":
		return ""
	case l.base == ".":
		return "." // "DIR/." is the content of DIR
	}
	return path.Base(l.abs)
}

// open opens the location itself (O_PATH), a link as a link.
func (l location) open(root *os.File) (*os.File, error) {
	dir, err := rootfs.OpenIn(root, l.dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil || l.base == "" || l.base == "." {
		return dir, err
	}
	defer dir.Close()
	return openAt(dir, l.base, unix.O_PATH|unix.O_NOFOLLOW)
}

func openAt(dir *os.File, name string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_CLOEXEC, 0)
		if err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

// maxLinks is the kernel's own limit of links in one path (path_resolution(7)).
const maxLinks = 40

// evaluate follows every link of p as text. What does not exist is kept as it
// is. The result is for showing and for asking again: nothing is opened by it.
func evaluate(root *os.File, p string) (string, error) {
	todo := strings.Split(p, "/")
	done := "/"
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		target, err := readlink(root, done, part)
		if err != nil || target == "" {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "follow", Path: p, Err: unix.ELOOP}
		}
		if path.IsAbs(target) {
			done = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return done, nil
}

// readlink returns "" for what is no link.
func readlink(root *os.File, dir, name string) (string, error) {
	d, err := rootfs.OpenIn(root, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", err
	}
	defer d.Close()
	return readlinkAt(d, name)
}

func readlinkAt(d *os.File, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(d.Fd()), name, buf)
	if errors.Is(err, unix.EINVAL) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
