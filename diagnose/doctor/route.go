package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/ipam"
)

// devices are the networks' bridges on this host: name to what is declared of it.
func (w *ward) devices(ctx context.Context) map[string]dataplane.Bridge {
	out := map[string]dataplane.Bridge{}
	if !w.known() {
		return out
	}
	objs, err := w.World.Declared.Objects(ctx)
	if err != nil {
		w.unseen("the networks' bridges: %v", err)
		return out
	}
	for _, o := range objs {
		switch b := o.(type) {
		case dataplane.Bridge:
			out[b.Name] = b
		case dataplane.Addr:
			if _, there := out[b.Link]; !there && b.NS == "" && b.Owner.Kind == dataplane.OwnerNetwork {
				out[b.Link] = dataplane.Bridge{Meta: b.Meta, Name: b.Link} // a borrowed one
			}
		}
	}
	return out
}

// uplinks are the links of the default routes, by family.
func uplinks(routes []reading.Route, four bool) []string {
	var out []string
	for _, r := range routes {
		if r.Dst.Bits() == 0 && r.Dst.Addr().Is4() == four && r.Link != "" && r.Link != "lo" && !slices.Contains(out, r.Link) && (r.Type == "" || r.Type == "unicast") {
			out = append(out, r.Link)
		}
	}
	slices.Sort(out)
	return out
}

// routes: one that came after a network and overlaps it takes its packets, or has its
// own taken (a VPN, another LAN).
func (w *ward) routes(ctx context.Context) {
	if !w.kernel() {
		w.unseen("routes: the kernel cannot be read")
		return
	}
	routes, err := w.World.Kernel.Routes(ctx, "")
	if err != nil {
		w.unseen("routes: %v", err)
		return
	}
	if !w.known() {
		return
	}
	ours := w.devices(ctx)
	var space ipam.Space
	for _, r := range routes {
		if !ipam.DefaultRoute(r.Dst) {
			space.Add(r.Dst, r.Link)
		}
	}
	for _, n := range w.World.Declared.Networks() {
		for _, p := range n.Pools {
			space.Add(p.Subnet, n.Name)
		}
	}
	for _, n := range w.World.Declared.Networks() {
		for _, p := range n.Pools {
			for _, r := range routes {
				if _, own := ours[r.Link]; own || ipam.DefaultRoute(r.Dst) || !r.Dst.Overlaps(p.Subnet) || r.Link == "lo" || r.Type == "local" || r.Type == "broadcast" || n.ConfigOnly {
					continue
				}
				w.overlap(n, p.Subnet, r, &space)
			}
		}
	}
	if w.none("route-overlap") {
		w.ok("routes", "no route of the host overlaps a network (%d routes, %d networks)", len(routes), len(w.World.Declared.Networks()))
	}
}

func (w *ward) overlap(n *cnm.Network, subnet netip.Prefix, r reading.Route, used *ipam.Space) {
	via := r.Link
	if via == "" {
		via = r.Type
	}
	s, why := Warning, fmt.Sprintf("The more specific route counts: containers on %s and the host do not reach the machines behind %s that have addresses of %s.", n.Name, via, subnet)
	if r.Dst.Bits() >= subnet.Bits() {
		s, why = Problem, fmt.Sprintf("Packets for containers on %s with addresses of %s leave by %s instead of reaching them.", n.Name, r.Dst, via)
	}
	cure := "linkspan network create --subnet FREE-SUBNET … (and connect the containers there)"
	if free, ok := freeBeside(used, subnet); ok {
		cure = fmt.Sprintf("linkspan network create --subnet %s %s-moved   # then: network connect and disconnect each container, network rm %s", free, n.Name, n.Name)
		if n.Predefined {
			cure = fmt.Sprintf("set \"bip\": \"%s/%d\" in /etc/linkspan/daemon.json, stop the containers of %s, and: systemctl reload linkspan", free.Addr().Next(), free.Bits(), n.Name)
		}
	}
	w.say(s, "route-overlap", fmt.Sprintf("route %s (%s) overlaps network %s (%s)", r.Dst, via, n.Name, subnet), why, cure)
}

// freeBeside proposes a subnet of the same size that no route of the host touches.
func freeBeside(used *ipam.Space, like netip.Prefix) (netip.Prefix, bool) {
	var bases []string
	if like.Addr().Is4() {
		bases = []string{"10.96.0.0/11", "172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8"}
	} else {
		bases = []string{"fd4c:5300::/32"}
	}
	for _, b := range bases {
		base := netip.MustParsePrefix(b)
		if like.Bits() < base.Bits() {
			continue
		}
		if p, ok := used.FirstFree(base, like.Bits(), nil); ok {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// sizes compares the MTU of networks, their bridges and the way out.
func (w *ward) sizes(ctx context.Context) {
	if !w.kernel() || !w.known() {
		return
	}
	links, err := w.World.Kernel.Interfaces(ctx, "")
	if err != nil {
		w.unseen("interfaces: %v", err)
		return
	}
	byName := map[string]reading.Interface{}
	for _, l := range links {
		byName[l.Name] = l
	}
	routes, err := w.World.Kernel.Routes(ctx, "")
	if err != nil {
		return // said by routes
	}
	least, by := 0, ""
	for _, u := range append(uplinks(routes, true), uplinks(routes, false)...) {
		if l, ok := byName[u]; ok && l.MTU > 0 && (least == 0 || l.MTU < least) {
			least, by = l.MTU, u
		}
	}
	if least == 0 {
		return // no way out
	}
	var larger []string
	devices := w.devices(ctx)
	for _, n := range w.World.Declared.Networks() {
		for _, d := range devices {
			l, there := byName[d.Name]
			if mtu := max(l.MTU, d.MTU); d.Owner.ID == n.ID && there && !n.Internal && mtu > least {
				larger = append(larger, fmt.Sprintf("%s (%d)", n.Name, mtu))
			}
		}
	}
	if len(larger) == 0 {
		w.ok("mtu", "no network has a larger MTU than the way out (%s: %d)", by, least)
		return
	}
	w.say(Warning, "mtu", fmt.Sprintf("the way out by %s has an MTU of %d, and these networks a larger one: %s", by, least, names(larger)),
		"Each large packet of a container is refused by this host first (ICMP \"fragmentation needed\"); where that is filtered, and for what does not heed it, connections hang after the first small packets. "+
			"The setting holds for the default bridge at once, and for networks made after it; those that are there are made anew.",
		fmt.Sprintf("set \"mtu\": %d in /etc/linkspan/daemon.json, and: systemctl reload linkspan", least))
}

// addresses that are twice on the host, or that duplicate address detection refused.
func (w *ward) addresses(ctx context.Context) {
	if !w.kernel() {
		return
	}
	links, err := w.World.Kernel.Interfaces(ctx, "")
	if err != nil {
		return // said by sizes
	}
	at := map[netip.Addr]string{}
	held := map[netip.Addr]string{} // containers'
	if w.known() {
		for _, s := range w.World.Declared.Sandboxes() {
			for _, e := range s.Endpoints {
				for _, a := range e.Addrs {
					held[a.Addr()] = "container " + s.OwnerName + " on network " + e.NetworkName
				}
			}
		}
	}
	ours := w.devices(ctx)
	for _, l := range links {
		for _, p := range l.Addrs {
			a := p.Addr()
			if a.IsLinkLocalUnicast() || a.IsLoopback() {
				continue
			}
			_, one := ours[l.Name]
			_, other := ours[at[a]]
			switch {
			case held[a] != "":
				w.say(Problem, "address-twice", fmt.Sprintf("%s is on the host's %s, and belongs to %s", a, l.Name, held[a]),
					"The host answers in place of the container.", fmt.Sprintf("ip addr del %s dev %s", p, l.Name))
			case at[a] != "" && (one || other):
				w.say(Problem, "address-twice", fmt.Sprintf("%s is on %s and on %s", a, at[a], l.Name),
					"Packets for the gateway of a network may be answered by the wrong side.", fmt.Sprintf("ip addr del %s dev %s", p, map[bool]string{true: at[a], false: l.Name}[one]))
			}
			at[a] = l.Name
		}
		if _, own := ours[l.Name]; own && l.Carrier {
			for _, a := range l.Tentative {
				w.say(Warning, "address-tentative", fmt.Sprintf("%s on %s is not in use: duplicate address detection has not let it through", a, l.Name),
					"Another node on that network may have the same address.", fmt.Sprintf("ip -6 addr show dev %s", l.Name))
			}
		}
	}
	if w.known() && w.none("address-twice", "address-tentative") {
		w.ok("addresses", "no address of a container or a gateway is there twice")
	}
}

// sixth: networks with IPv6 on a host that has no way out by it.
func (w *ward) sixth(ctx context.Context) {
	_, six := w.routed()
	if len(six) == 0 || !w.kernel() {
		return
	}
	routes, err := w.World.Kernel.Routes(ctx, "")
	if err != nil {
		return
	}
	if out := uplinks(routes, false); len(out) > 0 {
		w.ok("ipv6", "networks with IPv6 have a way out by it (%s)", names(out))
		return
	}
	w.say(Note, "ipv6-no-uplink", "networks with IPv6, on a host without a default route for it: "+names(six),
		"Containers reach each other by IPv6, and nothing outside. Programs that try IPv6 first see it refused at once and go on with IPv4.", "linkspan network create --ipv6=false …")
}
