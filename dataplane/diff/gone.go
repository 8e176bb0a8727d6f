package diff

import (
	"strings"

	"linkspan/dataplane"
)

// place is a link in a namespace: ns is a pin path, or empty for the daemon's.
type place struct{ ns, link string }

// gone knows which namespaces, links and tables go (or are made anew), and so
// what goes with them without being asked.
type gone struct {
	namespaces map[string]bool
	links      map[place]bool
	tables     map[[2]string]bool
}

func newGone(objs []dataplane.Object) *gone {
	g := &gone{map[string]bool{}, map[place]bool{}, map[[2]string]bool{}}
	for _, o := range objs {
		g.add(o)
	}
	return g
}

func (g *gone) add(o dataplane.Object) {
	switch o := o.(type) {
	case dataplane.Namespace:
		g.namespaces[o.Path] = true
	case dataplane.Bridge:
		g.links[place{"", o.Name}] = true
	case dataplane.Veth:
		g.links[place{"", o.Name}] = true
		if o.PeerNS != "" {
			g.links[place{o.PeerNS, o.PeerName}] = true
		}
	case dataplane.VXLAN:
		g.links[place{"", o.Name}] = true
	case dataplane.WireGuard:
		g.links[place{"", o.Name}] = true
	case dataplane.Page:
		g.tables[[2]string{o.Family, o.Table}] = true
	}
}

// implied says that o vanishes with something in g. A veth does too when its
// namespace goes, but only some time later (up to 70 ms), while its name must be
// free at once: it keeps its own delete.
func (g *gone) implied(o dataplane.Object) bool {
	if e, ok := o.(dataplane.Element); ok {
		return g.tables[[2]string{e.Family, e.Table}]
	}
	p, ok := on(o)
	return ok && (g.links[p] || p.ns != "" && g.namespaces[p.ns])
}

// on returns the link that an object hangs on; ok is false when it hangs on none.
// A sysctl or redirect of a whole namespace hangs on that namespace: its link is
// empty.
func on(o dataplane.Object) (p place, ok bool) {
	switch o := o.(type) {
	case dataplane.Addr:
		return place{o.NS, o.Link}, true
	case dataplane.Up:
		return place{o.NS, o.Link}, true
	case dataplane.Route:
		return place{o.NS, o.Link}, !o.Unreachable || o.NS != ""
	case dataplane.FDB:
		return place{"", o.Dev}, true
	case dataplane.Neighbour:
		return place{"", o.Link}, true
	case dataplane.Sysctl:
		link := sysctlLink(o.Name)
		return place{o.NS, link}, link != "" || o.NS != ""
	case dataplane.Redirect:
		return place{o.NS, ""}, true
	}
	return place{}, false
}

// sysctlLink is the interface in names like net/ipv4/conf/eth0/forwarding. Names
// use slashes, so that a dot in an interface's name is no separator
// (sysctl(8)).
func sysctlLink(name string) string {
	w := strings.Split(name, "/")
	if len(w) == 5 && w[0] == "net" && (w[2] == "conf" || w[2] == "neigh") && w[3] != "all" && w[3] != "default" {
		return w[3]
	}
	return ""
}
