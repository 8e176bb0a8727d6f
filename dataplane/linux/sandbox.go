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
	nft   *nfConn // opened when asked for: few calls need it
	links map[string]*link
}

func (s *sandbox) close() {
	s.rt.close()
	if s.nft != nil {
		s.nft.Close()
	}
	s.ns.Close()
}

// nf is the sandbox's own nf_tables socket.
func (s *sandbox) nf() (*nfConn, error) {
	if s.nft != nil {
		return s.nft, nil
	}
	err := netns.DoFD(int(s.ns.Fd()), func() (err error) { s.nft, err = newNF(); return err })
	return s.nft, err
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
	s := a.k.back.takeSpare()
	var err error
	if s != nil {
		err = netns.Pin(s.ns, o.Path)
	} else {
		s, err = newSandbox(func(fn func() error) (*os.File, error) { return nil, netns.CreateWith(o.Path, fn) })
	}
	switch {
	case err == nil:
		a.inside[o.Path] = s
		return nil
	case s != nil:
		s.close()
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // a pin in our folder is ours: as wanted
	}
	return err
}

// newSandbox makes a namespace by create, which runs its function inside: entering
// again would cost as much as a link.
func newSandbox(create func(func() error) (*os.File, error)) (*sandbox, error) {
	s := &sandbox{links: map[string]*link{}}
	ns, err := create(func() (err error) {
		if s.rt, err = newRTNL(); err != nil {
			return err
		}
		s.ns, err = netns.Current()
		return err
	})
	if ns != nil {
		ns.Close() // s has one of its own
	}
	if err != nil {
		if s.ns != nil {
			s.ns.Close()
		}
		if s.rt != nil {
			s.rt.close()
		}
		return nil, err
	}
	return s, nil
}

// A namespace is made ahead of the container that gets it: making one takes half
// as long as all the rest of an attachment, and 30 ms while the kernel takes another
// one down. Only descriptors hold it, so nothing stays of it when the process is
// killed. Its loopback is up and it is otherwise as the kernel makes it.

// takeSpare gives the namespace that was made ahead, or nil, and has the next one made.
func (b *background) takeSpare() (s *sandbox) {
	b.give(func() bool {
		s, b.spare = b.spare, nil
		return true
	})
	return s
}

// makeSpare makes one, unless there is one. Without it a container's start makes
// its own, and says why that fails.
func (b *background) makeSpare() {
	b.mu.Lock()
	have := b.spare != nil
	b.mu.Unlock()
	if have {
		return
	}
	s, err := newSandbox(netns.Unpinned)
	if err != nil {
		b.k.log.Debug("no network namespace could be made ahead", "err", err)
		return
	}
	b.mu.Lock()
	b.spare = s
	b.mu.Unlock()
}
