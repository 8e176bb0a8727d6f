package linux

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"linkspan/dataplane"
	"linkspan/netns"
)

// Observe returns everything with this instance's mark; see dataplane.Kernel.
// Sysctls are not among it: the kernel does not say which were set. ObserveKeys
// reads those that are wanted.
func (k *Kernel) Observe(ctx context.Context, sandboxes []string) (*dataplane.State, error) {
	o := observer{k: k, views: map[string]*view{}, open: map[string]*sandbox{}}
	defer o.close()
	host, err := o.host()
	if err != nil {
		return nil, err
	}
	if err := host.layers(); err != nil {
		return nil, err
	}
	if err := host.entries(k.mine); err != nil {
		return nil, err
	}
	s := dataplane.NewState(host.objects(k.mine)...)
	s.Add(k.markedRoutes(host, true, anyLink)...)

	pins, err := netns.List(k.cfg.PinDir)
	if err != nil {
		return nil, err
	}
	for _, p := range pins {
		s.Add(dataplane.Namespace{Path: p})
	}
	// Peers are looked for in every pin, so that a veth's place is known.
	for _, p := range append(slices.Clone(sandboxes), pins...) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if _, err := o.inside(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, p := range sandboxes {
		v := o.views[p]
		if v == nil {
			continue // no such namespace, or the host's own
		}
		if err := v.layers(); err != nil {
			return nil, err
		}
		s.Add(v.objects(func(*link) bool { return true })...)
		if err := o.redirect(s, dataplane.Redirect{NS: p}); err != nil {
			return nil, err
		}
	}
	for _, l := range host.byIdx {
		if k.mine(l) {
			s.Add(k.linkObject(host, l, o.peers))
		}
	}
	for family := range families {
		objs, err := k.tableObjects(tableRef{family, k.cfg.Table})
		if err != nil {
			return nil, err
		}
		s.Add(objs...)
	}
	return s, nil
}

func (k *Kernel) mine(l *link) bool { return l.group == k.group }

// observer keeps the namespaces open that one observation looks into.
type observer struct {
	k     *Kernel
	open  map[string]*sandbox
	views map[string]*view
	peers []*view
}

func (o *observer) close() {
	for _, s := range o.open {
		s.close()
	}
}

func (o *observer) host() (*view, error) {
	if v := o.views[""]; v != nil {
		return v, nil
	}
	v, err := newView("", o.k.rt)
	if err == nil {
		o.views[""] = v
	}
	return v, err
}

// inside opens a sandbox once; nil without an error for a pin of the host's own
// namespace, which is no sandbox of ours to look into.
func (o *observer) inside(path string) (*view, error) {
	if v, ok := o.views[path]; ok {
		return v, nil
	}
	if ino, err := netns.Inode(path); err != nil || ino == o.k.inode {
		return nil, err
	}
	s, err := openSandbox(path)
	if err != nil {
		return nil, err
	}
	o.open[path] = s
	v, err := newView(path, s.rt)
	if err != nil {
		return nil, err
	}
	v.nsid = o.k.rt.nsid(int(s.ns.Fd()))
	o.views[path] = v
	o.peers = append(o.peers, v)
	return v, nil
}

// in returns the view of a namespace, with addresses and routes; nil when there
// is no such namespace.
func (o *observer) in(ns string) (v *view, err error) {
	if ns == "" {
		v, err = o.host()
	} else if v, err = o.inside(ns); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil || v == nil || v.addrs != nil {
		return v, err
	}
	return v, v.layers()
}
