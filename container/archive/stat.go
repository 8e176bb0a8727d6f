package archive

import (
	"io/fs"
	"os"
	"path"
	"time"
)

// Stat is what a path is.
type Stat struct {
	Name  string
	Size  int64
	Mode  os.FileMode
	Mtime time.Time
	// LinkTarget is where a link leads, absolute in the container, all links on
	// the way followed.
	LinkTarget string
}

// StatPath looks at a path below root. The error of a missing one is
// fs.ErrNotExist.
func StatPath(root *os.File, p string) (*Stat, error) {
	l := locate(p)
	f, err := l.open(root)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s := &Stat{Name: path.Base(l.abs), Size: st.Size(), Mode: st.Mode(), Mtime: st.ModTime()}
	if st.Mode()&fs.ModeSymlink != 0 {
		if s.LinkTarget, err = evaluate(root, l.abs); err != nil {
			return nil, err
		}
	}
	return s, nil
}
