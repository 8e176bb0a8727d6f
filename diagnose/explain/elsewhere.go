package explain

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/diagnose"
)

// elsewhere explains a container of another host, by name, id or address: the path to it,
// and all that leads there from this one. done says that there is one.
func (m *maker) elsewhere(ctx context.Context, s string) (done bool, err error) {
	w := m.src.World
	if w.Mesh == nil {
		return false, nil
	}
	all := w.ElsewhereNamed(s)
	if a, err := netip.ParseAddr(s); err == nil {
		if x := w.ElsewhereAt(a.Unmap()); x != nil {
			m.note(fmt.Sprintf("%s is its address on %s", a, x.Network.Name))
			all = w.ElsewhereNamed(x.Remote.Container)
		}
	}
	if len(all) == 0 {
		return false, nil
	}
	x := &all[0]
	m.out.Kind, m.out.ID, m.out.Name = KindContainer, x.Remote.Container, x.Called()
	m.out.Title = fmt.Sprintf("container %s on host %s (%s), as this host reaches it", x.Called(), x.Peer.Name, x.Peer.Addr)
	m.fact("id", short(x.Remote.Container))
	if !x.Peer.Alive {
		m.note(fmt.Sprintf("host %s is not heard of: it is down, or cut off", x.Peer.Name))
	}
	m.note(fmt.Sprintf("what was made for it on host %s is told there: linkspan explain %s", x.Peer.Name, x.Called()))
	for i := range all {
		x := &all[i]
		path := fmt.Sprintf("%s, packets of up to %d bytes: %s", strings.TrimSpace(string(x.Path.Kind)+" by "+x.Path.Dev), x.Path.MTU, x.Path.Reason)
		if x.Path.Kind == cnm.PathNone {
			path = "none: " + x.Path.Reason
		}
		m.fact("on "+x.Network.Name, prefixes(x.Remote.Addrs))
		m.fact("path", path)
		items, err := m.items(ctx, m.pick(func(o dataplane.Object) bool { return leadsTo(o, x) }))
		if err != nil {
			return true, err
		}
		m.group("what leads there on network "+x.Network.Name, items...)
	}
	return true, nil
}

// leadsTo says whether an object of this host leads to an endpoint of another one.
func leadsTo(o dataplane.Object, x *diagnose.Elsewhere) bool {
	has := func(a netip.Addr) bool {
		return slices.ContainsFunc(x.Remote.Addrs, func(p netip.Prefix) bool { return p.Addr() == a })
	}
	switch o := o.(type) {
	case dataplane.Neighbour:
		return has(o.Addr)
	case dataplane.FDB:
		return strings.EqualFold(o.MAC, x.Remote.MAC) && x.Remote.MAC != ""
	case dataplane.Route:
		return o.NS == "" && !o.Unreachable && o.Link != "" && slices.ContainsFunc(x.Remote.Addrs, func(p netip.Prefix) bool {
			return o.Dst.Bits() > 0 && o.Dst.Contains(p.Addr()) && (o.Via.IsValid() || o.Link == x.Path.Dev)
		})
	case dataplane.VXLAN:
		return x.Path.Kind == cnm.PathVXLAN && o.Name == x.Path.Dev || o.About().Owner.ID == x.Network.ID
	case dataplane.WireGuard:
		return x.Path.Kind == cnm.PathWireGuard
	}
	return false
}
