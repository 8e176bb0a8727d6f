package explain

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
)

func (m *maker) network(ctx context.Context, n *cnm.Network) error {
	m.out.Kind, m.out.ID, m.out.Name = KindNetwork, n.ID, n.Name
	words := []string{"network " + n.Name + ": driver " + n.Driver}
	for _, w := range []struct {
		is   bool
		text string
	}{{n.Internal, "internal"}, {n.IPv6, "IPv6"}, {n.ConfigOnly, "configuration only"}, {n.Borrowed, "on a bridge that was there before"}} {
		if w.is {
			words = append(words, w.text)
		}
	}
	m.out.Title = strings.Join(words, ", ")
	m.fact("id", short(n.ID))
	for _, p := range n.Pools {
		v := p.Subnet.String()
		if p.Gateway.IsValid() {
			v += ", gateway " + p.Gateway.String()
		}
		if p.Range.IsValid() {
			v += ", addresses given out from " + p.Range.String()
		}
		m.fact("subnet", v)
	}
	for _, k := range slices.Sorted(maps.Keys(n.Options)) {
		m.fact("option", k+"="+n.Options[k])
	}
	m.members(n)
	switch {
	case n.ConfigOnly:
		m.note("it only lends its settings to other networks (--config-from): nothing was made for it")
	case n.Driver == "host":
		m.note("containers on it are in the host's own network stack: nothing was made for it")
	case len(n.Pools) == 0:
		m.note("containers on it have no interface but their loopback: nothing was made for it")
	}
	var switches, page []dataplane.Object
	for _, o := range m.pick(ownedBy(dataplane.OwnerNetwork, n.ID)) {
		if _, ok := o.(dataplane.Element); ok {
			page = append(page, o)
		} else {
			switches = append(switches, o)
		}
	}
	for _, g := range []struct {
		title string
		objs  []dataplane.Object
	}{{"the switch of network " + n.Name, switches}, {"network " + n.Name + " on the firewall's page", page}} {
		items, err := m.items(ctx, g.objs)
		if err != nil {
			return err
		}
		m.group(g.title, items...)
	}
	return nil
}

// members tells who is on a network, and who would be.
func (m *maker) members(n *cnm.Network) {
	var on []string
	lives := map[string]bool{}
	for _, s := range m.src.World.Declared.Sandboxes() {
		for _, e := range s.Endpoints {
			if e.NetworkID == n.ID {
				on = append(on, strings.TrimSpace(fmt.Sprintf("%s  %s %s", s.OwnerName, e.IfName, prefixes(e.Addrs))))
				lives[s.OwnerName] = true
			}
		}
	}
	for _, c := range m.src.World.Declared.Containers() {
		if slices.Contains(c.Networks, n.Name) && !lives[c.Name] && !strings.HasPrefix(c.Mode, "container:") {
			on = append(on, c.Name+"  "+c.State)
		}
	}
	sort.Strings(on)
	for _, s := range on {
		m.fact("container", s)
	}
}

// host explains what is made for the host as a whole.
func (m *maker) host(ctx context.Context) error {
	m.out.Kind, m.out.Name, m.out.Title = KindHost, "host", "the host: what is there as long as Linkspan is"
	items, err := m.items(ctx, m.pick(func(o dataplane.Object) bool { return o.About().Owner.Kind == dataplane.OwnerHost }))
	if err != nil {
		return err
	}
	m.group("the host", items...)
	return nil
}
