package diff

import "linkspan/dataplane"

type computer struct {
	desired, observed *dataplane.State
	declared          bool  // observed is what was declared before, insides included
	fresh             *gone // what is made (anew): everything on it has to be made again
	dying             *gone // what is deleted: everything on it goes along
	inside            map[string]bool
	redirects         map[string]bool // sandboxes whose redirect is made as well
	steps             []step
	drift             []dataplane.Object
}

func newComputer(desired, observed *dataplane.State, declared bool, inside []string) *computer {
	c := &computer{declared: declared, desired: desired, observed: observed, fresh: newGone(nil), dying: newGone(nil), inside: map[string]bool{}, redirects: map[string]bool{}}
	for _, ns := range inside {
		c.inside[ns] = true
	}
	// Namespaces first: whether a veth is fresh depends on them.
	var links []dataplane.Object
	desired.Each(func(key string, o dataplane.Object) {
		switch o := o.(type) {
		case dataplane.Namespace:
			if _, ok := observed.Get(key); !ok {
				c.fresh.add(o)
			}
		case dataplane.Bridge, dataplane.Veth, dataplane.VXLAN, dataplane.WireGuard:
			links = append(links, o)
		}
	})
	for _, o := range links {
		if c.remake(o) {
			c.fresh.add(o)
		}
	}
	observed.Each(func(key string, o dataplane.Object) {
		if _, ok := desired.Get(key); !ok {
			c.dying.add(o)
		}
	})
	c.unfinished()
	return c
}

// unfinished finds the sandboxes in which a kill came between the steps of a change:
// a wire whose host end is down was being made, one that nobody wants was being
// removed. What is inside of these is put right: it was not someone in there who
// changed it.
func (c *computer) unfinished() {
	c.desired.Each(func(key string, o dataplane.Object) {
		switch o := o.(type) {
		case dataplane.Veth:
			c.redirects[o.PeerNS] = c.redirects[o.PeerNS] || c.fresh.links[place{"", o.Name}]
		case dataplane.Up:
			have, there := c.observed.Get(dataplane.Veth{Name: o.Link}.Key())
			v, wire := have.(dataplane.Veth)
			if _, up := c.observed.Get(key); o.Wire && there && wire && !up {
				c.inside[v.PeerNS] = true
			}
		}
	})
	c.observed.Each(func(key string, o dataplane.Object) {
		v, ok := o.(dataplane.Veth)
		if _, wanted := c.desired.Get(key); ok && !wanted && v.PeerNS != "" {
			c.inside[v.PeerNS] = true
		}
	})
}

// remake says that a link must be made (again): it is missing, of another kind,
// held by a stranger, or its peer is not in the sandbox where it belongs.
func (c *computer) remake(want dataplane.Object) bool {
	have, ok := c.observed.Get(want.Key())
	if !ok {
		return true
	}
	switch w := want.(type) {
	case dataplane.Bridge:
		_, same := have.(dataplane.Bridge)
		return !same
	case dataplane.Veth:
		h, same := have.(dataplane.Veth)
		return !same || h.PeerNS != w.PeerNS || c.fresh.namespaces[w.PeerNS] ||
			c.declared && (h.PeerName != w.PeerName || h.PeerMAC != w.PeerMAC)
	case dataplane.VXLAN:
		h, same := have.(dataplane.VXLAN)
		return !same || w.Remade(h)
	case dataplane.WireGuard:
		h, same := have.(dataplane.WireGuard)
		return !same || h.UserSpace != w.UserSpace
	}
	return false
}

// want plans for one wanted object.
func (c *computer) want(key string, o dataplane.Object) {
	have, exists := c.observed.Get(key)
	if p, ok := on(o); ok {
		switch {
		case c.fresh.links[p] || p.ns != "" && c.fresh.namespaces[p.ns]:
			c.do(making, dataplane.Create, o)
			return
		case p.ns != "" && !c.inside[p.ns] && !c.declared && !c.redirected(o):
			if !exists || have.Spec() != o.Spec() {
				c.drift = append(c.drift, o)
			}
			return
		}
	}
	switch {
	case !exists:
		c.do(making, dataplane.Create, o)
	case o.Phase() == dataplane.PhaseLink && c.remake(o):
		if _, stranger := have.(dataplane.Foreign); !stranger {
			c.do(freeing, dataplane.Delete, have)
		}
		c.do(making, dataplane.Create, o)
	case c.portOfFresh(o):
		c.do(making, dataplane.Change, o)
	case have.Spec() == o.Spec():
	case c.insideOnly(o, have):
		c.drift = append(c.drift, o)
	default:
		c.do(making, dataplane.Change, o)
	}
}

func (c *computer) redirected(o dataplane.Object) bool {
	r, ok := o.(dataplane.Redirect)
	return ok && c.redirects[r.NS]
}

// portOfFresh: a bridge that is made anew has no ports, whatever was observed.
func (c *computer) portOfFresh(o dataplane.Object) bool {
	master := ""
	switch o := o.(type) {
	case dataplane.Veth:
		master = o.Master
	case dataplane.VXLAN:
		master = o.Master
	}
	return master != "" && c.fresh.links[place{"", master}]
}

// insideOnly: the two veths differ only in what the sandbox's owner may change,
// the peer's name and MAC.
func (c *computer) insideOnly(want, have dataplane.Object) bool {
	w, ok := want.(dataplane.Veth)
	h, also := have.(dataplane.Veth)
	if !ok || !also || c.inside[w.PeerNS] || c.declared {
		return false
	}
	h.PeerName, h.PeerMAC = w.PeerName, w.PeerMAC
	return h.Spec() == w.Spec()
}

// drop plans for one observed object that nobody wants.
func (c *computer) drop(o dataplane.Object) {
	switch o.(type) {
	case dataplane.Sysctl, dataplane.Offload, dataplane.Foreign:
		return
	}
	if dataplane.InSandbox(o) != "" && !c.declared || c.fresh.implied(o) || c.dying.implied(o) {
		return
	}
	s := clearing
	if c.frees(o) {
		s = freeing
		// An element is deleted right before its phase's creates: the same transaction.
		if o.Phase() == dataplane.PhaseElement || o.Phase() == dataplane.PhaseGuardElement {
			s = making
		}
	}
	c.do(s, dataplane.Delete, o)
}

// frees says that a wanted object which is yet to be made needs o gone first.
func (c *computer) frees(o dataplane.Object) bool {
	switch e := o.(type) {
	case dataplane.Element:
		if e.Last == nil {
			return false // thousands of ports: their keys collide only with themselves
		}
	case dataplane.FDB, dataplane.Neighbour:
		return false // and so do these
	}
	for _, s := range c.steps {
		if s.op.Verb != dataplane.Delete && collide(o, s.op.Object) {
			return true
		}
	}
	return false
}

// collide: the kernel cannot hold both, or the one would take the other along.
func collide(old, wanted dataplane.Object) bool {
	switch o := old.(type) {
	case dataplane.Addr:
		// A second IPv4 address of the same subnet is a secondary, and goes with its
		// primary unless promote_secondaries is on (kernel: ip-sysctl.rst); the same
		// IPv6 address with another length is EEXIST.
		w, ok := wanted.(dataplane.Addr)
		return ok && w.NS == o.NS && w.Link == o.Link && w.Prefix.Overlaps(o.Prefix)
	case dataplane.Route:
		// One table holds one route per destination and metric, whatever its link: the
		// create replaces it, so that there is no moment without a way out, and the
		// delete of the old one then finds nothing.
		return false
	case dataplane.Veth:
		w, ok := wanted.(dataplane.Veth)
		return ok && w.PeerNS == o.PeerNS && w.PeerName == o.PeerName
	case dataplane.VXLAN:
		// One number is of one device (vxlan_config_validate: EEXIST).
		w, ok := wanted.(dataplane.VXLAN)
		return ok && w.VNI == o.VNI && w.UDPPort() == o.UDPPort()
	case dataplane.Element:
		w, ok := wanted.(dataplane.Element)
		return ok && w.Overlaps(o)
	}
	return false
}

func (c *computer) do(s stage, v dataplane.Verb, o dataplane.Object) {
	c.steps = append(c.steps, newStep(s, v, o))
}
