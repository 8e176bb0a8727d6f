package why

import (
	"fmt"
	"net/netip"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
)

// noRoute finds out why there is no route, or one that refuses.
func (w *walk) noRoute(at place, p packet, r reading.RouteAnswer, in string) *cause {
	if c := w.localnet(at, p); c != nil {
		return c
	}
	if in != "" && !strings.Contains(r.Err, "cross-device") {
		if c := w.unforwarded(at, p); c != nil {
			return c
		}
	}
	if c := w.bare(at, p); c != nil {
		return c
	}
	if x := w.elsewhere(p.dst); x != nil && at.host() {
		return w.lostAcross(p, x)
	}
	if bad := w.refusing(at, p); bad != nil && strings.HasPrefix(bad.Type, "rule ") {
		fam := "ip"
		if p.dst.Is6() {
			fam = "ip -6"
		}
		return because(NoRoute, "%s policy rule %d refuses what goes to %s (%s).", at.of(), bad.Metric, p.dst, strings.TrimPrefix(bad.Type, "rule ")).
			mend("%s", at.cmd(fmt.Sprintf("%s rule del pref %d", fam, bad.Metric)))
	} else if bad != nil {
		return because(NoRoute, "%s route %s refuses what goes to %s (%s).", at.of(), routeText(*bad), p.dst, bad.Type).
			mend("%s", at.cmd(routeCmd(*bad, "del")))
	}
	if in != "" && strings.Contains(r.Err, "cross-device") {
		return w.reversePath(at, p)
	}
	switch r.Type {
	case "prohibit", "blackhole", "unreachable":
		return because(NoRoute, "a rule or route of %s refuses what goes to %s (%s).", w.stack(at), p.dst, r.Type).
			advise("look for it: %s and %s", at.cmd("ip rule"), at.cmd("ip route show table all"))
	}
	if w.declared != nil {
		return w.declared
	}
	if at.sandbox != nil {
		if c := w.lostRoute(at, p); c != nil {
			return c
		}
	}
	c := because(NoRoute, "%s has no route to %s.", w.stack(at), p.dst)
	if n := w.containing(p.dst); n != nil && at.host() {
		return w.hostLost(n, p)
	}
	return c.advise("give it one: %s", at.cmd(fmt.Sprintf("ip route add %s via GATEWAY", p.dst)))
}

// stack is a network stack in a sentence.
func (w *walk) stack(at place) string {
	if at.host() {
		return "the host"
	}
	return at.name
}

// bare looks whether what the route would need is missing: the interface up, its
// addresses.
func (w *walk) bare(at place, p packet) *cause {
	if at.sandbox == nil {
		n := w.containing(p.dst)
		if n == nil {
			return nil
		}
		return w.bridgeSound(n, p.dst.Is4())
	}
	for i := range at.sandbox.Endpoints {
		e := &at.sandbox.Endpoints[i]
		if e.IfName == "" || !familyOf(e, p.dst.Is4()).IsValid() || !w.relevant(e, p.dst) {
			continue
		}
		if c := w.endpointSound(at, e, p.dst.Is4()); c != nil {
			return c
		}
	}
	return nil
}

// relevant says that an endpoint leads to the destination: its network has it, or the
// default route.
func (w *walk) relevant(e *cnm.Endpoint, dst netip.Addr) bool {
	for _, a := range e.Addrs {
		if a.Contains(dst) {
			return true
		}
	}
	return e.Gateway(dst.Is4()).IsValid()
}

// endpointSound holds the inside of an endpoint to what is declared: nil when the
// interface is there, up, and has its address of the family.
func (w *walk) endpointSound(at place, e *cnm.Endpoint, v4 bool) *cause {
	l, err := w.live.link(at.ns, e.IfName)
	if err != nil {
		return nil
	}
	if l == nil {
		return because(LinkMissing, "%s interface %s (on network %s) is gone.", at.of(), e.IfName, e.NetworkName).mend("linkspan reconcile")
	}
	if !l.Up {
		return because(LinkDown, "%s interface %s is down.", at.of(), e.IfName).mend("%s", w.upAgain(at, e, v4))
	}
	for _, want := range e.Addrs {
		if want.Addr().Is4() != v4 {
			continue
		}
		want = w.inside(at, e, want)
		var other []string
		there := false
		for _, p := range l.Addrs {
			there = there || p == want
			if p.Addr().Is4() == v4 {
				other = append(other, p.String())
			}
		}
		if there {
			continue
		}
		has := "no " + map[bool]string{true: "IPv4", false: "IPv6"}[v4] + " address"
		if len(other) > 0 {
			has = strings.Join(other, ", ")
		}
		cure := at.cmd("ip addr replace " + want.String() + " dev " + e.IfName + nodad(want.Addr()))
		for _, o := range other {
			if strings.HasPrefix(o, want.Addr().String()+"/") {
				cure = at.cmd("ip addr del "+o+" dev "+e.IfName) + " && " + cure
			}
		}
		if again := w.routeAgain(at, e, v4); again != "" {
			cure += " && " + again
		}
		c := because(AddressMissing, "%s interface %s has lost its address %s: it has %s.", at.of(), e.IfName, want, has)
		if off, _ := w.live.sysctl(at.ns, "net/ipv6/conf/"+e.IfName+"/disable_ipv6"); !v4 && off == "1" {
			c.sentence = fmt.Sprintf("IPv6 is turned off on %s interface %s (disable_ipv6=1): its address %s is gone.", at.of(), e.IfName, want)
			cure = at.cmd("sysctl -w net.ipv6.conf."+strings.ReplaceAll(e.IfName, ".", "/")+".disable_ipv6=0") + " && " + cure
		}
		return c.mend("%s", cure)
	}
	return nil
}

// inside is an endpoint's address as it should be inside: on a routed network it stands
// alone, whatever the subnet is.
func (w *walk) inside(at place, e *cnm.Endpoint, a netip.Prefix) netip.Prefix {
	for _, bits := range []int{a.Bits(), a.Addr().BitLen()} {
		for _, o := range w.objects {
			if d, ok := o.(dataplane.Addr); ok && d.NS == at.ns && d.Link == e.IfName && d.Prefix == netip.PrefixFrom(a.Addr(), bits) {
				return d.Prefix
			}
		}
	}
	return a
}

// behindGateway says that an endpoint reaches its own network through the gateway.
func (w *walk) behindGateway(e *cnm.Endpoint) bool {
	n := w.world.NetworkByID(e.NetworkID)
	return n != nil && n.Driver == "routed"
}

// upAgain brings an interface up with what the kernel took when it went down: routes,
// and IPv6's addresses.
func (w *walk) upAgain(at place, e *cnm.Endpoint, v4 bool) string {
	cure := at.cmd("ip link set " + e.IfName + " up")
	if six := e.Addr6(); six.IsValid() {
		cure += " && " + at.cmd("ip addr replace "+six.String()+" dev "+e.IfName+nodad(six.Addr()))
	}
	for _, f := range []bool{true, false} {
		if again := w.routeAgain(at, e, f); again != "" {
			cure += " && " + again
		}
	}
	return cure
}

// nodad leaves out the second in which IPv6 looks whether an address is taken.
func nodad(a netip.Addr) string {
	if a.Is6() {
		return " nodad"
	}
	return ""
}

// routeAgain makes an endpoint's declared default route; "" when it is not the carrier.
func (w *walk) routeAgain(at place, e *cnm.Endpoint, v4 bool) string {
	g := e.Gateway(v4)
	if !g.IsValid() {
		return ""
	}
	fam := "ip"
	if !v4 {
		fam = "ip -6"
	}
	return at.cmd(fmt.Sprintf("%s route replace default via %s dev %s", fam, g, e.IfName))
}

// lostRoute finds a declared route that is gone from a sandbox.
func (w *walk) lostRoute(at place, p packet) *cause {
	for i := range at.sandbox.Endpoints {
		e := &at.sandbox.Endpoints[i]
		for _, a := range e.Addrs {
			if !a.Contains(p.dst) {
				continue
			}
			c := because(NoRoute, "%s has no route to %s: that of its own subnet %s on %s is gone.", at.name, p.dst, a.Masked(), e.IfName).
				mend("%s", at.cmd(fmt.Sprintf("ip route replace %s dev %s src %s", a.Masked(), e.IfName, a.Addr())))
			if again := w.routeAgain(at, e, a.Addr().Is4()); again != "" {
				c.cure += " && " + again
			}
			return c
		}
	}
	for _, o := range w.objects {
		r, ok := o.(dataplane.Route)
		if !ok || r.NS != at.ns || r.Dst.Addr().Is4() != p.dst.Is4() || !r.Dst.Contains(p.dst) {
			continue
		}
		create, _ := r.Commands()
		dst := r.Dst.String()
		if r.Dst.Bits() == 0 {
			dst = "default"
		}
		return because(NoRoute, "%s has no route to %s: its %s route via %s on %s is gone.", at.name, p.dst, dst, r.Via, r.Link).mend("%s", joined(create))
	}
	return nil
}

// refusing is the route that refuses a destination, if one of the tables has it.
func (w *walk) refusing(at place, p packet) *reading.Route {
	all, err := w.live.routes(at.ns)
	if err != nil {
		return nil
	}
	var best *reading.Route
	for i, r := range all {
		if !r.Dst.IsValid() || r.Dst.Addr().Is4() != p.dst.Is4() || !r.Dst.Contains(p.dst) {
			continue
		}
		switch r.Type {
		case "rule prohibit", "rule blackhole", "rule unreachable":
			if r.Src.IsValid() && p.src.IsValid() && r.Src != p.src || r.Link != "" && r.Link != p.in {
				continue
			}
			return &all[i]
		case "blackhole", "unreachable", "prohibit", "throw":
			// The kernel's own guards of IPv6 are always there, with the highest metric.
			if best == nil && (r.Dst.Bits() > 0 || r.Link != "lo") || best != nil && r.Dst.Bits() > best.Dst.Bits() {
				best = &all[i]
			}
		}
	}
	return best
}

func routeText(r reading.Route) string {
	dst := r.Dst.String()
	if r.Dst.Bits() == 0 {
		dst = "default"
	}
	if r.Type != "unicast" {
		dst = r.Type + " " + dst
	}
	if r.Gateway.IsValid() {
		dst += " via " + r.Gateway.String()
	}
	if r.Link != "" && r.Type == "unicast" {
		dst += " dev " + r.Link
	}
	if r.Table != 0 && r.Table != 254 {
		dst += fmt.Sprintf(" table %d", r.Table)
	}
	return dst
}

func routeCmd(r reading.Route, verb string) string {
	fam := "ip"
	if r.Dst.Addr().Is6() {
		fam = "ip -6"
	}
	cmd := fam + " route " + verb + " " + routeText(r)
	if r.Metric != 0 {
		cmd += fmt.Sprintf(" metric %d", r.Metric)
	}
	return cmd
}

// containing is the network whose subnet has an address.
func (w *walk) containing(a netip.Addr) *cnm.Network {
	for _, n := range w.world.Declared.Networks() {
		for _, p := range n.Pools {
			if p.Subnet.Contains(a) {
				return n
			}
		}
	}
	return nil
}

// bridgeSound holds a network's bridge to what is declared.
func (w *walk) bridgeSound(n *cnm.Network, v4 bool) *cause {
	br := device(n)
	l, err := w.live.link("", br)
	switch {
	case err != nil:
		return nil
	case l == nil:
		return because(LinkMissing, "the bridge %s of network %s is gone.", br, n.Name).mend("linkspan reconcile")
	case !l.Up && n.Borrowed:
		return because(LinkDown, "the bridge %s of network %s is down.", br, n.Name).mend("ip link set %s up", br)
	case !l.Up:
		return because(LinkDown, "the bridge %s of network %s is down.", br, n.Name).mend("linkspan reconcile")
	}
	for _, o := range w.objects {
		a, ok := o.(dataplane.Addr)
		if !ok || a.NS != "" || a.Link != br || a.Prefix.Addr().Is4() != v4 {
			continue
		}
		there := false
		for _, p := range l.Addrs {
			there = there || p == a.Prefix
		}
		if !there {
			return because(AddressMissing, "the bridge %s of network %s has lost its address %s.", br, n.Name, a.Prefix).mend("linkspan reconcile")
		}
	}
	return nil
}
