package linux

import (
	"context"
	"strings"

	"linkspan/dataplane"
	"linkspan/netns"
)

// ObserveTouched returns what there is where the news is, and nothing else: objects
// that nobody wants included, the insides of sandboxes left out. want are the wanted
// objects of the same places. Of a veth only its host end is looked at: when its other
// end is in the sandbox where it belongs, it is taken to be as wanted there.
func (k *Kernel) ObserveTouched(ctx context.Context, t dataplane.Touch, want []dataplane.Object) (*dataplane.State, error) {
	s := dataplane.NewState()
	var ask []dataplane.Object
	veths := map[string]dataplane.Veth{}
	wanted := map[string]bool{}
	for _, o := range want {
		switch o := o.(type) {
		case dataplane.Sysctl:
			if o.NS == "" {
				ask = append(ask, o)
			}
		case dataplane.Veth:
			veths[o.Name], wanted[o.Name] = o, true
		case dataplane.Bridge:
			wanted[o.Name] = true
		case dataplane.VXLAN:
			wanted[o.Name] = true
		case dataplane.WireGuard:
			wanted[o.Name] = true
		case dataplane.Offload:
			ask = append(ask, o)
		}
	}
	if len(t.Links) > 0 || t.Routes {
		if err := k.touchedLinks(s, t, veths, wanted); err != nil {
			return nil, err
		}
	}
	if len(ask) > 0 {
		named, err := k.ObserveKeys(ctx, ask)
		if err != nil {
			return nil, err
		}
		s.Add(named.All()...)
	}
	for _, family := range []string{"inet", "bridge"} {
		ref := tableRef{family, k.cfg.Table}
		objs, err := k.touchedTable(ref, t)
		if err != nil {
			return nil, err
		}
		s.Add(objs...)
	}
	return s, nil
}

func (k *Kernel) touchedLinks(s *dataplane.State, t dataplane.Touch, veths map[string]dataplane.Veth, wanted map[string]bool) error {
	host, err := newView("", k.rt)
	if err == nil {
		err = host.layers()
	}
	if err != nil {
		return err
	}
	for name := range t.Links {
		l := host.byName[name]
		if l == nil || l.group == k.doom || !k.mine(l) && !wanted[name] {
			continue
		}
		o := k.linkObject(host, l, nil)
		if have, ok := o.(dataplane.Veth); ok && k.inPlace(l, veths[name].PeerNS) {
			w := veths[name]
			have.PeerNS, have.PeerName, have.PeerMAC = w.PeerNS, w.PeerName, w.PeerMAC
			o = have
		} else if ok && !wanted[name] {
			o = k.strayVeth(have, l, veths)
		}
		s.Add(o)
	}
	here := func(l *link) bool { return k.mine(l) && t.Links[l.name] }
	if err := host.entries(here); err != nil {
		return err
	}
	s.Add(host.objects(here)...)
	s.Add(k.markedRoutes(host, t.Routes, func(l *link) bool { return t.Links[l.name] })...)
	return nil
}

// strayVeth finds the other end of a veth that nobody wants, in one of the sandboxes
// concerned: it may hold the name that a wanted one needs there (somebody renamed its
// host end).
func (k *Kernel) strayVeth(o dataplane.Veth, l *link, veths map[string]dataplane.Veth) dataplane.Veth {
	for _, w := range veths {
		if !k.inPlace(l, w.PeerNS) {
			continue
		}
		s, err := openSandbox(w.PeerNS)
		if err != nil {
			continue
		}
		if p, err := s.rt.linkByIndex(l.peer); err == nil && p != nil {
			o.PeerNS, o.PeerName = w.PeerNS, p.name
		}
		s.close()
	}
	return o
}

// inPlace says that the other end of a veth lies in the namespace pinned at path.
func (k *Kernel) inPlace(l *link, path string) bool {
	if path == "" || l.peerNS < 0 {
		return false
	}
	f, err := netns.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return k.rt.nsid(int(f.Fd())) == l.peerNS
}

func (k *Kernel) touchedTable(ref tableRef, t dataplane.Touch) (out []dataplane.Object, err error) {
	if t.Page {
		return k.tableObjects(ref)
	}
	if len(t.Sets) == 0 {
		return nil, nil
	}
	sets, err := k.nft.sets(ref)
	if err != nil {
		return nil, err
	}
	for name := range t.Sets {
		s, ok := sets[name]
		if !ok || !s.holdsElements() || strings.HasPrefix(name, "__") {
			continue
		}
		els, err := k.setObjects(ref, s)
		if err != nil {
			return nil, err
		}
		for _, e := range els {
			out = append(out, e)
		}
	}
	return out, nil
}
