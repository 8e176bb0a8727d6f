package why

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"sync"

	"linkspan/dataplane/reading"
)

// live is the kernel as one walk sees it: each table of each namespace is read once,
// when it is first looked at or ahead by warm, so that the walk's parts cannot
// contradict each other and take one reading's time.
type live struct {
	ctx context.Context
	k   reading.Reader

	mu   sync.Mutex
	once map[string]*read
}

// read is one table of one namespace.
type read struct {
	sync.Once
	v   any
	err error
}

func newLive(ctx context.Context, k reading.Reader) *live {
	return &live{ctx: ctx, k: k, once: map[string]*read{}}
}

func get[T any](l *live, key string, f func() (T, error)) (T, error) {
	l.mu.Lock()
	r := l.once[key]
	if r == nil {
		r = &read{}
		l.once[key] = r
	}
	l.mu.Unlock()
	r.Do(func() { r.v, r.err = f() })
	v, _ := r.v.(T)
	return v, r.err
}

func (l *live) links(ns string) ([]reading.Interface, error) {
	return get(l, "links "+ns, func() ([]reading.Interface, error) { return l.k.Interfaces(l.ctx, ns) })
}

func (l *live) neighbours(ns string) ([]reading.Neighbour, error) {
	return get(l, "neigh "+ns, func() ([]reading.Neighbour, error) { return l.k.Neighbours(l.ctx, ns) })
}

func (l *live) routes(ns string) ([]reading.Route, error) {
	return get(l, "routes "+ns, func() ([]reading.Route, error) { return l.k.Routes(l.ctx, ns) })
}

func (l *live) fdb(ns string) ([]reading.FDBEntry, error) {
	return get(l, "fdb "+ns, func() ([]reading.FDBEntry, error) { return l.k.FDB(l.ctx, ns) })
}

func (l *live) sockets(ns string) ([]reading.Socket, error) {
	return get(l, "sockets "+ns, func() ([]reading.Socket, error) { return l.k.Sockets(l.ctx, ns) })
}

func (l *live) route(ns string, q reading.RouteQuery) (reading.RouteAnswer, error) {
	return get(l, fmt.Sprint("route ", ns, q), func() (reading.RouteAnswer, error) { return l.k.Route(l.ctx, ns, q) })
}

// sysctl is "" where the kernel has none of that name.
func (l *live) sysctl(ns, name string) (string, error) {
	return get(l, "sysctl "+ns+" "+name, func() (string, error) {
		v, err := l.k.Sysctl(l.ctx, ns, name)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return strings.TrimSpace(v), err
	})
}

// warm reads at once what a walk through these namespaces looks at.
func (l *live) warm(namespaces ...string) {
	var wg sync.WaitGroup
	for _, ns := range namespaces {
		for _, f := range []func(){
			func() { l.links(ns) }, func() { l.neighbours(ns) }, func() { l.ruleset(ns) },
		} {
			wg.Go(f)
		}
		if ns != "" { // the host's are many, and seldom what it is about
			wg.Go(func() { l.sockets(ns) })
		}
	}
	wg.Go(func() { l.fdb("") })
	wg.Wait()
}

// link finds one by name.
func (l *live) link(ns, name string) (*reading.Interface, error) {
	all, err := l.links(ns)
	for i := range all {
		if all[i].Name == name {
			return &all[i], nil
		}
	}
	return nil, err
}

// holder is the link of a namespace that has an address.
func (l *live) holder(ns string, a netip.Addr) (*reading.Interface, error) {
	all, err := l.links(ns)
	for i := range all {
		for _, p := range all[i].Addrs {
			if p.Addr() == a {
				return &all[i], nil
			}
		}
	}
	return nil, err
}
