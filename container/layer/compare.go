// Package layer finds what a container changed in its root file system, and
// packs that as a layer of an image.
//
// Directories are walked by descriptors below the two roots, one name at a time
// and without following links, as in package archive: the container may run.
package layer

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"

	apicontainer "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// Trees are what is compared.
type Trees struct {
	// Lower is the root of the image; nil: it is empty.
	Lower *os.File
	// Merged is the container's root, without mounts.
	Merged *os.File
	// Upper is the writable layer's directory, when it is an overlay's: what is not
	// in it has not changed. Empty: everything is looked at.
	Upper string
	// Places are paths that the engine makes to mount something there: they are no
	// change, as long as they are empty and were not in the image.
	Places []string
}

// Change is one change; Path begins with a slash.
type Change = apicontainer.FilesystemChange

// Compare lists the changes, by path. A directory has changed if something in it
// has, as Docker sees it.
func Compare(t Trees) ([]Change, error) {
	w := &walk{t: t, places: map[string]bool{}, above: map[string]bool{}}
	for _, p := range t.Places {
		p = path.Clean(p)
		w.places[p] = true
		for d := path.Dir(p); d != "/"; d = path.Dir(d) {
			w.above[d] = true
		}
	}
	if err := w.dirs(t.Lower, t.Merged, t.Upper, "/"); err != nil {
		return nil, err
	}
	slices.SortFunc(w.changes, func(a, b Change) int {
		switch {
		case a.Path < b.Path:
			return -1
		case a.Path > b.Path:
			return 1
		}
		return 0
	})
	return w.changes, nil
}

type walk struct {
	t       Trees
	places  map[string]bool
	above   map[string]bool // directories on the way to places
	changes []Change
}

func (w *walk) note(kind apicontainer.ChangeType, p string) {
	w.changes = append(w.changes, Change{Kind: kind, Path: p})
}

// dirs compares two directories, of which the lower may not be there.
func (w *walk) dirs(lower, merged *os.File, upper, at string) error {
	before, err := names(lower)
	if err != nil {
		return err
	}
	after, err := names(merged)
	if err != nil {
		return err
	}
	touched, all, err := overlaid(upper)
	if err != nil {
		return err
	}
	if all {
		upper, touched = "", nil
		for n := range before {
			touched = append(touched, n)
		}
		for n := range after {
			if !before[n] {
				touched = append(touched, n)
			}
		}
	}
	for _, n := range touched {
		p := path.Join(at, n)
		up := ""
		if upper != "" {
			up = path.Join(upper, n)
		}
		switch {
		case before[n] && !after[n]:
			w.note(apicontainer.ChangeDelete, p)
		case before[n]:
			err = w.both(lower, merged, n, up, p)
		case after[n]:
			err = w.added(merged, n, p)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // gone while we looked
			return err
		}
	}
	return nil
}

// both is for a name that is there before and after.
func (w *walk) both(lower, merged *os.File, name, upper, p string) error {
	a, b := node{}, node{}
	if err := a.open(lower, name); err != nil {
		return err
	}
	defer a.f.Close()
	if err := b.open(merged, name); err != nil {
		return err
	}
	defer b.f.Close()
	n := len(w.changes)
	differ := a.differs(&b)
	switch {
	case a.isDir() && b.isDir():
		if err := w.dirs(a.f, b.f, upper, p); err != nil {
			return err
		}
	case b.isDir():
		if err := w.dirs(nil, b.f, "", p); err != nil {
			return err
		}
	}
	if differ || len(w.changes) > n {
		w.note(apicontainer.ChangeModify, p)
	}
	return nil
}

func (w *walk) added(merged *os.File, name, p string) error {
	b := node{}
	if err := b.open(merged, name); err != nil {
		return err
	}
	defer b.f.Close()
	n := len(w.changes)
	if b.isDir() {
		if err := w.dirs(nil, b.f, "", p); err != nil {
			return err
		}
		if len(w.changes) == n && (w.places[p] || w.above[p]) {
			return nil
		}
	} else if w.places[p] && b.st.Size == 0 {
		return nil
	}
	w.note(apicontainer.ChangeAdd, p)
	return nil
}

// overlaid lists the names in a directory of an overlay's upper layer. all says
// that it is not only these that may have changed: there is no upper layer, or the
// directory hides the one below it (overlayfs.rst, "Opaque directories"), or
// shows another one ("redirect_dir").
func overlaid(upper string) (list []string, all bool, err error) {
	if upper == "" {
		return nil, true, nil
	}
	for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque", "trusted.overlay.redirect", "user.overlay.redirect"} {
		buf := make([]byte, 4096)
		if n, err := unix.Lgetxattr(upper, attr, buf); err == nil && n > 0 {
			return nil, true, nil
		}
	}
	d, err := os.Open(upper)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil // nothing was changed here
	}
	if err != nil {
		return nil, false, err
	}
	defer d.Close()
	list, err = d.Readdirnames(-1)
	return list, false, err
}

// names lists a directory; nil is an empty one.
func names(dir *os.File) (map[string]bool, error) {
	out := map[string]bool{}
	if dir == nil {
		return out, nil
	}
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	d := os.NewFile(uintptr(fd), dir.Name())
	defer d.Close()
	list, err := d.Readdirnames(-1)
	for _, n := range list {
		out[n] = true
	}
	return out, err
}

// node is one file, opened as itself (O_PATH).
type node struct {
	f  *os.File
	st unix.Stat_t
}

func (n *node) open(dir *os.File, name string) (err error) {
	if n.f, err = openAt(dir, name); err != nil {
		return err
	}
	if err = unix.Fstat(int(n.f.Fd()), &n.st); err != nil {
		n.f.Close()
	}
	return err
}

func openAt(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (n *node) isDir() bool { return n.st.Mode&unix.S_IFMT == unix.S_IFDIR }

// differs says whether a file was changed, by what a copy into the upper layer
// keeps: a file that was opened for writing and not written to is the same.
func (n *node) differs(m *node) bool {
	a, b := &n.st, &m.st
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev {
		return true
	}
	if n.isDir() {
		return false
	}
	return a.Mtim != b.Mtim || a.Size != b.Size || !bytes.Equal(capability(n.f), capability(m.f))
}
