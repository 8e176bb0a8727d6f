package dataplane

import "strings"

// Touch is news of a kernel: what of ours somebody else may have changed. It names
// where to look, not what is wrong: only an observation tells that. The zero Touch is
// no news.
type Touch struct {
	// All says that nobody knows: look at everything.
	All bool
	// Links are interfaces of the host that carry our mark, or did, by name; with what
	// is on them.
	Links map[string]bool
	// Page is our table: its rules, chains and sets, and so all elements.
	Page bool
	// Sets are those of our table in which elements came or went.
	Sets map[string]bool
	// Routes are those of ours that are on no link (Route.Unreachable).
	Routes bool
	// Sysctls are parameters of the host, by their path below /proc/sys.
	Sysctls map[string]bool
	// By is who did it, as far as the kernel says: "nft (pid 4711)".
	By string
}

// Empty says that there is no news.
func (t *Touch) Empty() bool {
	return !t.All && !t.Page && !t.Routes && len(t.Links)+len(t.Sets)+len(t.Sysctls) == 0
}

// Add puts more news in.
func (t *Touch) Add(o Touch) {
	t.All, t.Page, t.Routes = t.All || o.All, t.Page || o.Page, t.Routes || o.Routes
	merge(&t.Links, o.Links)
	merge(&t.Sets, o.Sets)
	merge(&t.Sysctls, o.Sysctls)
	switch {
	case o.By == "" || strings.Contains(t.By, o.By):
	case t.By == "":
		t.By = o.By
	default:
		t.By += ", " + o.By
	}
}

func merge(into *map[string]bool, more map[string]bool) {
	for k := range more {
		if *into == nil {
			*into = map[string]bool{}
		}
		(*into)[k] = true
	}
}

// Has says whether an object of the host lies where the news is. What is inside of a
// sandbox never does: what its people change there is theirs.
func (t *Touch) Has(o Object) bool {
	if t.All {
		return InSandbox(o) == ""
	}
	if link := linkOf(o); link != "" {
		return t.Links[link]
	}
	switch o := o.(type) {
	case Route:
		return o.NS == "" && o.Unreachable && t.Routes
	case Sysctl:
		return o.NS == "" && (t.Sysctls[o.Name] || t.Links[SysctlLink(o.Name)])
	case Page:
		return t.Page
	case Element:
		return t.Page || t.Sets[o.Set]
	}
	return false
}

// linkOf is the interface of the host that an object is, or is on; "" for the others.
func linkOf(o Object) string {
	if InSandbox(o) != "" {
		return ""
	}
	switch o := o.(type) {
	case Bridge:
		return o.Name
	case Veth:
		return o.Name
	case Foreign:
		return o.Name
	case VXLAN:
		return o.Name
	case WireGuard:
		return o.Name
	case FDB:
		return o.Dev
	case Neighbour:
		return o.Link
	case Offload:
		return o.Link
	case Addr:
		return o.Link
	case Up:
		return o.Link
	case Route:
		if !o.Unreachable {
			return o.Link
		}
	}
	return ""
}

// SysctlLink is the interface in names like net/ipv4/conf/eth0/forwarding; "" where
// the name has none. Names use slashes, so that a dot in an interface's name is no
// separator (sysctl(8)).
func SysctlLink(name string) string {
	w := strings.Split(name, "/")
	if len(w) == 5 && w[0] == "net" && (w[2] == "conf" || w[2] == "neigh") && w[3] != "all" && w[3] != "default" {
		return w[3]
	}
	return ""
}

// TouchOf is where one object lies.
func TouchOf(o Object) (t Touch) {
	if link := linkOf(o); link != "" {
		t.Links = map[string]bool{link: true}
		return t
	}
	switch o := o.(type) {
	case Route:
		t.Routes = o.NS == "" && o.Unreachable
	case Sysctl:
		if o.NS == "" {
			t.Sysctls = map[string]bool{o.Name: true}
		}
	case Page:
		t.Page = true
	case Element:
		t.Sets = map[string]bool{o.Set: true}
	}
	return t
}
