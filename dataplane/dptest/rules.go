package dptest

import (
	"fmt"
	"net/netip"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// put creates or changes an object by the rules of the real kernel: what it
// hangs on must be there, strangers' names are conflicts, and existing objects of
// ours are brought to what is wanted.
func (k *Kernel) put(v dataplane.Verb, o dataplane.Object) error {
	switch o := o.(type) {
	case dataplane.Namespace:
		if _, ok := k.objs[o.Key()]; !ok { // a new namespace has its loopback up
			k.store(dataplane.Up{NS: o.Path, Link: "lo"})
		}
	case dataplane.Bridge:
		if err := k.nameFree(v, o.Name, o.Key()); err != nil {
			return err
		}
	case dataplane.Veth:
		return k.putVeth(v, o)
	case dataplane.VXLAN:
		return k.putVXLAN(v, o)
	case dataplane.WireGuard:
		if err := k.nameFree(v, o.Name, o.Key()); err != nil {
			return err
		}
		if o.UserSpace && !k.facts.tuns[o.Name] {
			return fmt.Errorf("the keeper has not made the TUN device %s yet, or closed it: no such device", o.Name)
		}
	case dataplane.FDB:
		if err := k.putFDB(o); err != nil {
			return err
		}
	case dataplane.Neighbour:
		if err := k.linkThere("", o.Link); err != nil {
			return err
		}
	case dataplane.Offload:
		return k.putOffload(o)
	case dataplane.Addr:
		if err := k.linkThere(o.NS, o.Link); err != nil {
			return err
		}
	case dataplane.Up:
		if err := k.linkThere(o.NS, o.Link); err != nil {
			return err
		}
	case dataplane.Route:
		if o.Unreachable {
			break
		}
		_, foreign := k.strange[o.Link]
		if foreign = foreign && o.NS == ""; !foreign { // others' links carry routes of ours
			if err := k.linkThere(o.NS, o.Link); err != nil {
				return err
			}
		}
		if o.Via.IsValid() && !o.OnLink && !foreign && !k.onLink(o.NS, o.Link, o.Via) {
			return fmt.Errorf("gateway %s is not on a network of %s: network is unreachable", o.Via, o.Link)
		}
		for key, other := range k.objs { // one destination, one route: the new one replaces
			if r, ok := other.(dataplane.Route); ok && !r.Unreachable && r.NS == o.NS && r.Dst == o.Dst {
				delete(k.objs, key)
			}
		}
	case dataplane.Sysctl:
		return k.putSysctl(o)
	case dataplane.Redirect:
		if _, ok := k.objs[dataplane.Namespace{Path: o.NS}.Key()]; !ok {
			return fmt.Errorf("open network namespace: %s: no such file or directory", o.NS)
		}
	case dataplane.Element:
		if _, ok := k.objs[dataplane.Page{Family: o.Family, Table: o.Table}.Key()]; !ok {
			return fmt.Errorf("table %s %s or its set %s is not there: no such file or directory", o.Family, o.Table, o.Set)
		}
		for key, other := range k.objs {
			if e, ok := other.(dataplane.Element); o.Last != nil && ok && key != o.Key() && e.Overlaps(o) {
				return fmt.Errorf("set %s holds a part of %s already: file exists", o.Set, o.KeyText)
			}
		}
	case dataplane.Page:
	default:
		return cnm.Unsupported("this kernel has no objects of type %T", o)
	}
	k.store(o)
	return nil
}

func (k *Kernel) store(o dataplane.Object) { k.objs[o.Key()] = o }

func (k *Kernel) nameFree(v dataplane.Verb, name, key string) error {
	if what, ok := k.strange[name]; ok {
		return cnm.Conflict("%s exists and is not ours (%s): rename or delete it, or choose another name", name, what)
	}
	if _, ok := k.objs[key]; !ok && v == dataplane.Change {
		return fmt.Errorf("there is no link %s", name)
	}
	return nil
}

func (k *Kernel) putVeth(v dataplane.Verb, o dataplane.Veth) error {
	if v == dataplane.Create {
		if err := k.nameFree(v, o.Name, o.Key()); err != nil {
			return err
		}
	}
	if err := k.masterThere(o); err != nil {
		return err
	}
	if _, ok := k.objs[dataplane.Namespace{Path: o.PeerNS}.Key()]; !ok {
		return fmt.Errorf("open network namespace: %s: no such file or directory", o.PeerNS)
	}
	for _, other := range k.objs {
		if p, ok := other.(dataplane.Veth); ok && p.Name != o.Name && p.PeerNS == o.PeerNS && p.PeerName == o.PeerName {
			return cnm.Conflict("%s exists already in sandbox %s", o.PeerName, o.PeerNS)
		}
	}
	if have, ok := k.objs[o.Key()]; ok {
		if h, same := have.(dataplane.Veth); !same || h.PeerNS != o.PeerNS {
			k.remove(have)
		} else { // what is inside the sandbox stays as it is
			o.PeerName, o.PeerMAC = h.PeerName, h.PeerMAC
		}
	}
	k.store(o)
	return nil
}

func (k *Kernel) masterThere(o dataplane.Veth) error {
	what, strange := k.strange[o.Master]
	_, bridge := k.objs["link "+o.Master].(dataplane.Bridge)
	switch {
	case o.Master == "" || bridge && !o.Borrowed:
		return nil
	case o.Borrowed && strange && strings.HasPrefix(what, "bridge"):
		return nil
	case strange:
		return cnm.Conflict("%s exists and is not ours (%s)", o.Master, what)
	}
	return fmt.Errorf("its bridge %s does not exist", o.Master)
}

func (k *Kernel) putSysctl(o dataplane.Sysctl) error {
	if l := sysctlLink(o.Name); l != "" {
		if _, foreign := k.strange[l]; foreign && o.Shared && o.NS == "" {
		} else if err := k.linkThere(o.NS, l); err != nil {
			if o.Optional && o.NS == "" {
				return nil
			}
			return fmt.Errorf("this kernel, or this link, has no parameter %s", o.Name)
		}
	}
	prior := "0"
	if have, ok := k.objs[o.Key()].(dataplane.Sysctl); ok {
		prior = have.Value
	}
	if prior != o.Value && o.Shared && k.OnShared != nil {
		if err := k.OnShared(o.Name, prior); err != nil {
			return fmt.Errorf("its value %q could not be recorded, so it stays: %w", prior, err)
		}
	}
	k.store(o)
	return nil
}

// linkThere says whether something can hang on the link.
func (k *Kernel) linkThere(ns, link string) error {
	if ns == "" {
		if what, ok := k.strange[link]; ok {
			return cnm.Conflict("%s exists and is not ours (%s)", link, what)
		}
		if _, ok := k.objs["link "+link]; ok {
			return nil
		}
		return fmt.Errorf("there is no link %s", link)
	}
	if _, ok := k.objs[dataplane.Namespace{Path: ns}.Key()]; !ok {
		return fmt.Errorf("open network namespace: %s: no such file or directory", ns)
	}
	for _, o := range k.objs {
		if v, ok := o.(dataplane.Veth); link == "lo" || ok && v.PeerNS == ns && v.PeerName == link {
			return nil
		}
	}
	return fmt.Errorf("there is no link %s in sandbox %s", link, ns)
}

func (k *Kernel) onLink(ns, link string, via netip.Addr) bool {
	if via.IsLinkLocalUnicast() {
		return true
	}
	for _, o := range k.objs {
		switch o := o.(type) {
		case dataplane.Addr:
			if o.NS == ns && o.Link == link && o.Prefix.Contains(via) {
				return true
			}
		case dataplane.Route:
			if o.NS == ns && o.Link == link && !o.Via.IsValid() && o.Dst.Contains(via) {
				return true
			}
		}
	}
	return false
}

// remove takes an object out, and what goes with it.
func (k *Kernel) remove(o dataplane.Object) {
	delete(k.objs, o.Key())
	switch o := o.(type) {
	case dataplane.Namespace:
		for key, other := range k.objs {
			if v, ok := other.(dataplane.Veth); ok && v.PeerNS == o.Path {
				k.remove(v)
			} else if dataplane.InSandbox(other) == o.Path {
				delete(k.objs, key)
			}
		}
	case dataplane.Bridge:
		k.dropOn("", o.Name)
		for key, other := range k.objs {
			if v, ok := other.(dataplane.Veth); ok && v.Master == o.Name {
				v.Master, v.Hairpin, v.Isolated = "", false, false
				k.objs[key] = v
			}
			if v, ok := other.(dataplane.VXLAN); ok && v.Master == o.Name {
				v.Master = ""
				k.objs[key] = v
				k.dropWays(v.Name)
			}
		}
	case dataplane.VXLAN:
		k.dropOn("", o.Name)
	case dataplane.WireGuard:
		k.dropOn("", o.Name)
	case dataplane.Veth:
		k.dropOn("", o.Name)
		k.dropOn(o.PeerNS, o.PeerName)
	case dataplane.Page:
		for key, other := range k.objs {
			if e, ok := other.(dataplane.Element); ok && e.Family == o.Family && e.Table == o.Table {
				delete(k.objs, key)
			}
		}
	}
}

func (k *Kernel) dropOn(ns, link string) {
	for key, o := range k.objs {
		n, l := "", ""
		switch o := o.(type) {
		case dataplane.Addr:
			n, l = o.NS, o.Link
		case dataplane.Up:
			n, l = o.NS, o.Link
		case dataplane.Route:
			n, l = o.NS, o.Link
		case dataplane.FDB:
			l = o.Dev
		case dataplane.Neighbour:
			l = o.Link
		case dataplane.Sysctl:
			n, l = o.NS, sysctlLink(o.Name)
		}
		if l != "" && n == ns && l == link {
			delete(k.objs, key)
		}
	}
}

// bare is the object as observed: without owner and reason.
func bare(o dataplane.Object) dataplane.Object {
	switch o := o.(type) {
	case dataplane.Namespace:
		o.Meta = dataplane.Meta{}
		return o
	case dataplane.Bridge:
		o.Meta = dataplane.Meta{}
		return o
	case dataplane.Veth:
		o.Meta = dataplane.Meta{}
		return o
	case dataplane.Addr:
		o.Meta = dataplane.Meta{}
		return o
	case dataplane.Up:
		o.Meta = dataplane.Meta{}
		return o
	case dataplane.Route:
		o.Meta = dataplane.Meta{}
		return o
	case dataplane.Sysctl:
		o.Meta = dataplane.Meta{}
		return o
	case dataplane.Page:
		o.Meta = dataplane.Meta{}
		return o
	case dataplane.Element:
		o.Meta = dataplane.Meta{}
		return o
	case dataplane.Redirect:
		o.Meta = dataplane.Meta{}
		return o
	case dataplane.VXLAN:
		o.Meta = dataplane.Meta{}
		return o
	case dataplane.WireGuard:
		o.Meta = dataplane.Meta{}
		return o
	case dataplane.FDB:
		o.Meta = dataplane.Meta{}
		return o
	case dataplane.Neighbour:
		o.Meta = dataplane.Meta{}
		return o
	case dataplane.Offload:
		o.Meta = dataplane.Meta{}
		return o
	}
	return o
}

func linkName(o dataplane.Object) string {
	switch o := o.(type) {
	case dataplane.Bridge:
		return o.Name
	case dataplane.Veth:
		return o.Name
	case dataplane.VXLAN:
		return o.Name
	case dataplane.WireGuard:
		return o.Name
	}
	return ""
}

func sysctlLink(name string) string {
	w := strings.Split(name, "/")
	if len(w) == 5 && w[0] == "net" && w[2] == "conf" && w[3] != "all" && w[3] != "default" {
		return w[3]
	}
	return ""
}
