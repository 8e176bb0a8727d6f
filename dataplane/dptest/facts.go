package dptest

import (
	"context"
	"fmt"
	"strings"

	"linkspan/dataplane"
)

// facts are what a test says of the host and of traffic.
type facts struct {
	links  map[string]dataplane.HostLink
	routes []dataplane.HostRoute
	stats  map[string][]dataplane.LinkStats
	tuns   map[string]bool // devices that a keeper has made
}

// StrangerLink puts a link there that is not ours, with all that HostLink tells.
func (k *Kernel) StrangerLink(name string, l dataplane.HostLink) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.facts.links == nil {
		k.facts.links = map[string]dataplane.HostLink{}
	}
	l.Exists, l.Ours = true, false
	if l.What == "" {
		l.What = "device, group 0"
		if l.Bridge {
			l.What = "bridge, group 0"
		}
	}
	k.facts.links[name], k.strange[name] = l, l.What
}

// Tun has a keeper make a TUN device of that name, or, with false, close it.
func (k *Kernel) Tun(name string, there bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.facts.tuns == nil {
		k.facts.tuns = map[string]bool{}
	}
	k.facts.tuns[name] = there
	if o, ok := k.objs["link "+name]; ok && !there {
		k.news(o)
		k.remove(o)
	}
}

// SetHostRoutes says what prefixes the host uses.
func (k *Kernel) SetHostRoutes(rs ...dataplane.HostRoute) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.facts.routes = rs
}

// SetLinkStats says what was counted in a sandbox.
func (k *Kernel) SetLinkStats(ns string, st ...dataplane.LinkStats) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.facts.stats == nil {
		k.facts.stats = map[string][]dataplane.LinkStats{}
	}
	k.facts.stats[ns] = st
}

// HostLink is dataplane/linux's: strangers, and bridges of ours.
func (k *Kernel) HostLink(ctx context.Context, name string) (dataplane.HostLink, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l, ok := k.facts.links[name]; ok {
		return l, ctx.Err()
	}
	if what, ok := k.strange[name]; ok {
		return dataplane.HostLink{Exists: true, Bridge: strings.HasPrefix(what, "bridge"), What: what, MTU: 1500}, ctx.Err()
	}
	o, ok := k.objs["link "+name]
	if !ok {
		return dataplane.HostLink{}, ctx.Err()
	}
	_, bridge := o.(dataplane.Bridge)
	l := dataplane.HostLink{Exists: true, Ours: true, Bridge: bridge, MTU: 1500}
	for _, other := range k.objs {
		if a, ok := other.(dataplane.Addr); ok && a.NS == "" && a.Link == name {
			l.Addrs = append(l.Addrs, a.Prefix)
		}
	}
	return l, ctx.Err()
}

// HostRoutes is dataplane/linux's: what SetHostRoutes said.
func (k *Kernel) HostRoutes(ctx context.Context) ([]dataplane.HostRoute, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.facts.routes, ctx.Err()
}

// LinkStats is dataplane/linux's: what SetLinkStats said, else an interface for
// each wire, with zeros.
func (k *Kernel) LinkStats(ctx context.Context, ns string) ([]dataplane.LinkStats, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if st, ok := k.facts.stats[ns]; ok {
		return st, ctx.Err()
	}
	if _, ok := k.objs[dataplane.Namespace{Path: ns}.Key()]; !ok {
		return nil, fmt.Errorf("open network namespace: %s: no such file or directory", ns)
	}
	var out []dataplane.LinkStats
	for _, o := range k.objs {
		if v, ok := o.(dataplane.Veth); ok && v.PeerNS == ns {
			out = append(out, dataplane.LinkStats{Name: v.PeerName})
		}
	}
	return out, ctx.Err()
}
