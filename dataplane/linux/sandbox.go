package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"linkspan/dataplane"
	"linkspan/netns"
)

// sandbox is a pinned namespace while one call works in it.
type sandbox struct {
	ns    *os.File
	rt    *rtnl
	links map[string]*link
}

func (s *sandbox) close() {
	s.rt.close()
	s.ns.Close()
}

func openSandbox(path string) (*sandbox, error) {
	f, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	s := &sandbox{ns: f, links: map[string]*link{}}
	err = netns.DoFD(int(f.Fd()), func() (err error) { s.rt, err = newRTNL(); return err })
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("sandbox %s: %w", path, err)
	}
	return s, nil
}

// sandbox opens each namespace once per Apply.
func (a *applier) sandbox(path string) (*sandbox, error) {
	if s := a.inside[path]; s != nil {
		return s, nil
	}
	s, err := openSandbox(path)
	if err == nil {
		a.inside[path] = s
	}
	return s, err
}

// forget closes what is open of a namespace, so that it can die.
func (a *applier) forget(path string) {
	if s := a.inside[path]; s != nil {
		s.close()
		delete(a.inside, path)
	}
}

func (a *applier) namespace(o dataplane.Namespace, del bool) error {
	if del {
		a.forget(o.Path)
		return netns.Remove(o.Path)
	}
	s := &sandbox{links: map[string]*link{}}
	// On the thread that is inside anyway: entering again costs as much as a link.
	err := netns.CreateWith(o.Path, func() (err error) {
		if s.ns, err = netns.Current(); err != nil {
			return err
		}
		s.rt, err = newRTNL()
		return err
	})
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil // a pin in our folder is ours: as wanted
	case err != nil:
		if s.ns != nil {
			s.ns.Close()
		}
		return err
	}
	a.inside[o.Path] = s
	return nil
}
