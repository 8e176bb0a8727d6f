package graph

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/diagnose"
)

// Of draws the world as it is now. Without a kernel to ask there are no uplinks, and
// no states of devices.
func Of(ctx context.Context, w *diagnose.World) (*Graph, error) {
	objs, err := w.Declared.Objects(ctx)
	if err != nil {
		return nil, err
	}
	g := &Graph{Host: Host{Uplinks: []Uplink{}}, Networks: []Network{}, Containers: []Container{}}
	g.Host.Name, _ = os.Hostname()
	var links map[string]reading.Interface
	if w.Kernel != nil {
		all, err := w.Kernel.Interfaces(ctx, "")
		if err != nil {
			return nil, fmt.Errorf("the host's interfaces: %w", err)
		}
		links = map[string]reading.Interface{}
		for _, l := range all {
			links[l.Name] = l
		}
		routes, err := w.Kernel.Routes(ctx, "")
		if err != nil {
			return nil, fmt.Errorf("the host's routes: %w", err)
		}
		g.Host.Uplinks = append(g.Host.Uplinks, uplinks(all, routes, objs)...)
	}
	g.networks(w.Declared.Networks(), objs, links)
	g.containers(w, links)
	return g, nil
}

// devices are the bridges that networks stand on, by the network's id.
func devices(objs []dataplane.Object) map[string]string {
	at := map[string]string{}
	for _, o := range objs {
		own := o.About().Owner
		if own.Kind != dataplane.OwnerNetwork {
			continue
		}
		switch o := o.(type) {
		case dataplane.Bridge:
			at[own.ID] = o.Name
		case dataplane.Element:
			if o.Set == "borrowed" {
				at[own.ID] = strings.Trim(o.KeyText, `"`)
			}
		}
	}
	return at
}

func (g *Graph) networks(all []*cnm.Network, objs []dataplane.Object, links map[string]reading.Interface) {
	at, reach := devices(objs), reached(objs)
	for _, n := range all {
		out := Network{ID: n.ID, Name: n.Name, Driver: n.Driver, Device: at[n.ID]}
		for _, p := range n.Pools {
			out.Pools = append(out.Pools, Pool{Subnet: p.Subnet, Gateway: p.Gateway})
		}
		if out.Device != "" {
			out.State = state(links, out.Device)
			if !reach[out.Device] {
				out.Notes = append(out.Notes, "containers do not reach each other")
			}
		}
		for _, note := range []struct {
			is   bool
			text string
		}{{n.Internal, "internal"}, {n.Borrowed, "borrowed bridge"}, {n.ConfigOnly, "configuration only"}} {
			if note.is {
				out.Notes = append(out.Notes, note.text)
			}
		}
		g.Networks = append(g.Networks, out)
	}
	slices.SortStableFunc(g.Networks, func(a, b Network) int {
		return cmp.Or(cmp.Compare(bare(a), bare(b)), cmp.Compare(a.Name, b.Name))
	})
}

func bare(n Network) int {
	if len(n.Pools) == 0 {
		return 1
	}
	return 0
}

// reached are the bridges whose containers reach each other.
func reached(objs []dataplane.Object) map[string]bool {
	on := map[string]bool{}
	for _, o := range objs {
		if e, ok := o.(dataplane.Element); ok && e.Set == "icc" {
			bridge, _, _ := strings.Cut(e.KeyText, " . ")
			on[strings.Trim(bridge, `"`)] = true
		}
	}
	return on
}

func (g *Graph) containers(w *diagnose.World, links map[string]reading.Interface) {
	names := map[string]string{}
	all := w.Declared.Containers()
	for _, c := range all {
		names[c.ID] = c.Name
	}
	for _, c := range all {
		out := Container{ID: c.ID, Name: c.Name, Image: c.Image, State: c.State, Health: c.Health, ExitCode: c.ExitCode}
		s, lives := w.Sandbox(c.ID)
		if !lives {
			out.Wanted = c.Networks
			g.Containers = append(g.Containers, out)
			continue
		}
		out.Sandbox, out.Host = s.ID, s.Host
		if s.Owner != c.ID {
			if out.With = names[s.Owner]; out.With == "" {
				out.With = s.OwnerName
			}
		} else {
			for _, p := range s.Ports {
				out.Ports = append(out.Ports, Port{Proto: p.Proto, HostIP: p.HostIP, HostPort: p.HostPort, HostEnd: p.HostPortEnd, Port: p.Port})
			}
			for _, e := range s.Endpoints {
				out.Endpoints = append(out.Endpoints, endpoint(e, links))
			}
		}
		g.Containers = append(g.Containers, out)
	}
	slices.SortFunc(g.Containers, func(a, b Container) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
}

func endpoint(e cnm.Endpoint, links map[string]reading.Interface) Endpoint {
	out := Endpoint{ID: e.ID, Network: e.NetworkID, Name: e.NetworkName, IfName: e.IfName, HostIf: e.HostIf, MAC: e.MAC,
		Addrs: e.Addrs, Default: len(e.Gateways) > 0}
	if e.HostIf != "" {
		out.State = state(links, e.HostIf)
	}
	return out
}

// state of a link of the host; "" when the kernel was not asked.
func state(links map[string]reading.Interface, name string) string {
	if links == nil {
		return ""
	}
	l, ok := links[name]
	switch {
	case !ok:
		return "missing"
	case !l.Up:
		return "down"
	case !l.Carrier:
		return "no carrier"
	}
	return "up"
}

// engineGroups are the IFLA_GROUPs of links that a Linkspan made, by their high byte:
// living ones and doomed ones (see dataplane/linux).
func engineGroup(g uint32) bool { return g>>24 == 0x4c || g>>24 == 0x4d }

// uplinks are the host's own interfaces: not loopback, not ours, and of the ends of
// others' wires only those with an address.
func uplinks(all []reading.Interface, routes []reading.Route, objs []dataplane.Object) (out []Uplink) {
	ours := map[string]bool{"lo": true}
	for _, o := range objs {
		switch o := o.(type) {
		case dataplane.Bridge:
			ours[o.Name] = true
		case dataplane.Veth:
			ours[o.Name] = true
		}
	}
	for _, d := range devices(objs) { // borrowed ones stand for their networks
		ours[d] = true
	}
	via := map[string][]netip.Addr{}
	for _, r := range routes {
		if r.Dst.Bits() == 0 && r.Gateway.IsValid() && r.Link != "" && !slices.Contains(via[r.Link], r.Gateway) {
			via[r.Link] = append(via[r.Link], r.Gateway)
		}
	}
	links := map[string]reading.Interface{}
	for _, l := range all {
		links[l.Name] = l
	}
	for _, l := range all {
		if ours[l.Name] || engineGroup(l.Group) || l.Kind == "veth" && len(seen(l.Addrs)) == 0 {
			continue
		}
		slices.SortFunc(via[l.Name], netip.Addr.Compare)
		out = append(out, Uplink{Name: l.Name, Kind: l.Kind, MAC: l.MAC, MTU: l.MTU, Addrs: seen(l.Addrs), Gateways: via[l.Name], State: state(links, l.Name)})
	}
	slices.SortFunc(out, func(a, b Uplink) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// seen leaves link-local IPv6 addresses away: every interface has one.
func seen(all []netip.Prefix) (out []netip.Prefix) {
	for _, a := range all {
		if !a.Addr().IsLinkLocalUnicast() {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return out
}
