package linux

import (
	"context"

	"linkspan/dataplane"
	"linkspan/netns"
)

// fewElements is up to where reading elements one by one by key is cheaper than
// listing their sets.
const fewElements = 64

// ObserveKeys returns those of the wanted objects that exist, as they are; see
// dataplane.Kernel.
func (k *Kernel) ObserveKeys(ctx context.Context, want []dataplane.Object) (*dataplane.State, error) {
	o := observer{k: k, views: map[string]*view{}, open: map[string]*sandbox{}}
	defer o.close()
	s := dataplane.NewState()
	hanging := map[string]*dataplane.State{} // what hangs on links, by namespace
	tables := map[tableRef]*dataplane.State{}
	elements := 0
	for _, w := range want {
		if _, ok := w.(dataplane.Element); ok {
			elements++
		}
	}
	settings := k.readSysctls(want)
	for _, w := range want {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var err error
		switch w := w.(type) {
		case dataplane.Namespace:
			if netns.Pinned(w.Path) {
				s.Add(w)
			}
		case dataplane.Bridge:
			err = o.link(s, w.Name, "")
		case dataplane.Veth:
			err = o.link(s, w.Name, w.PeerNS)
		case dataplane.VXLAN:
			err = o.link(s, w.Name, "")
		case dataplane.WireGuard:
			err = o.link(s, w.Name, "")
		case dataplane.Offload:
			var have *dataplane.Offload
			if have, err = k.readOffload(w); have != nil {
				s.Add(*have)
			}
		case dataplane.FDB, dataplane.Neighbour:
			err = o.hanging(s, hanging, "", w)
		case dataplane.Addr:
			err = o.hanging(s, hanging, w.NS, w)
		case dataplane.Up:
			err = o.hanging(s, hanging, w.NS, w)
		case dataplane.Route:
			if l := o.k.foreign(w); l != "" {
				o.k.borrowed.note(l)
			}
			err = o.hanging(s, hanging, w.NS, w)
		case dataplane.Redirect:
			err = o.redirect(s, w)
		case dataplane.Sysctl:
			if v, ok := settings[w.Key()]; ok || w.Optional {
				if !ok {
					v = w.Value // nothing to set, nothing to miss
				}
				have := w
				if have.Value = v; v == words(w.Value) {
					have.Value = w.Value
				}
				s.Add(have)
			}
		case dataplane.Page:
			var p *dataplane.Page
			if p, err = k.readPage(tableRef{w.Family, w.Table}); err == nil && p != nil {
				s.Add(*p)
			}
		case dataplane.Element:
			err = o.element(s, tables, w, elements <= fewElements)
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (o *observer) link(s *dataplane.State, name, peerNS string) error {
	host, err := o.host()
	if err != nil {
		return err
	}
	if peerNS != "" {
		if _, err := o.in(peerNS); err != nil {
			return err
		}
	}
	if l := host.byName[name]; l != nil && l.group != o.k.doom {
		s.Add(o.k.linkObject(host, l, o.peers))
	}
	return nil
}

// hanging finds an address, up flag or route. On the host only what hangs on
// links of ours is seen, as in Observe.
func (o *observer) hanging(s *dataplane.State, seen map[string]*dataplane.State, ns string, w dataplane.Object) error {
	all := seen[ns]
	if all == nil {
		v, err := o.in(ns)
		if err != nil {
			return err
		}
		all = dataplane.NewState()
		if v != nil && ns == "" {
			if err := v.entries(o.k.mine); err != nil {
				return err
			}
			all.Add(o.k.markedRoutes(v, true, anyLink)...)
		}
		if v != nil {
			all.Add(v.objects(func(l *link) bool { return ns != "" || o.k.mine(l) })...)
		}
		seen[ns] = all
	}
	if have, ok := all.Get(w.Key()); ok {
		s.Add(have)
	}
	return nil
}

func (o *observer) element(s *dataplane.State, tables map[tableRef]*dataplane.State, w dataplane.Element, few bool) error {
	t := tableRef{w.Family, w.Table}
	if few {
		raw, err := o.k.readElement(w)
		if err != nil || raw == nil {
			return err
		}
		have := w
		have.Meta = dataplane.Meta{}
		if string(raw.data) != string(w.Data) || raw.verdict != w.Verdict {
			sets, err := o.k.nft.sets(t)
			if err != nil {
				return err
			}
			have = sets[w.Set].object(t.family, t.name, *raw)
			have.KeyText = w.KeyText
		}
		s.Add(have)
		return nil
	}
	if tables[t] == nil {
		objs, err := o.k.tableObjects(t)
		if err != nil {
			return err
		}
		tables[t] = dataplane.NewState(objs...)
	}
	if have, ok := tables[t].Get(w.Key()); ok {
		s.Add(have)
	}
	return nil
}
