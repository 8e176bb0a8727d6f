package rules

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"linkspan/dataplane"
)

// translation reads the elements of one address family, and knows what the page's rules
// do with them.
type translation struct {
	v4        bool
	names     []string // of bridges, sorted
	bridges   map[string]*bridge
	publish   []dataplane.Element
	holes     []IptRule
	secure    []string // devices that encrypt
	guarded   bool     // what is neither from nor to a bridge of ours is not forwarded
	marks     []Match
	addresses map[netip.Addr]string // endpoints' bridges
}

// bridge is one of ours, or a borrowed one, as the sets tell of it.
type bridge struct {
	network                               string
	name                                  string
	borrowed, icc, egress, internal, flat bool
	open, routed, direct                  bool
	trusted                               []string
	gateways                              []netip.Addr
	endpoints                             []netip.Addr
	masquerade                            []netip.Prefix
	snat                                  []snat    // endpoints' own before subnets
	ports                                 []IptRule // what may be routed to, if anything is
	mesh                                  []meshed  // subnets that go on on other hosts
}

type meshed struct {
	subnet netip.Prefix
	sealed bool // encrypted, or dropped
}

type snat struct {
	from netip.Prefix
	to   string
}

var accepts = regexp.MustCompile(`meta mark and (0x[0-9a-f]+) == (0x[0-9a-f]+) accept`)

func newTranslation(objs []dataplane.Object, v4 bool) *translation {
	t := &translation{v4: v4, bridges: map[string]*bridge{}, addresses: map[netip.Addr]string{}}
	var els []dataplane.Element
	subnets := map[string]string{} // of whom a network's bridge is, by the network's id
	for _, o := range objs {
		switch o := o.(type) {
		case dataplane.Page:
			for _, m := range accepts.FindAllStringSubmatch(o.Text, -1) {
				mark := strings.TrimLeft(m[2][2:], "0") + "/0x" + strings.TrimLeft(m[1][2:], "0")
				t.marks = append(t.marks, Match{"-m mark --mark 0x" + mark, "mark match 0x" + mark})
			}
		case dataplane.Element:
			els = append(els, o)
			if o.Set == "bridges" || o.Set == "borrowed" {
				b := t.bridge(unquote(o.KeyText))
				b.borrowed = o.Set == "borrowed"
				subnets[o.About().Owner.ID] = b.name
				b.network = o.About().Owner.Name
			}
			if o.Set == t.set("endpoints") {
				a, dev := pair(o.KeyText)
				if addr, err := netip.ParseAddr(a); err == nil {
					b := t.bridge(dev)
					b.endpoints = append(b.endpoints, addr)
					t.addresses[addr] = dev
				}
			}
		}
	}
	for _, e := range els {
		t.element(e, subnets)
	}
	t.names = make([]string, 0, len(t.bridges))
	for n, b := range t.bridges {
		t.names = append(t.names, n)
		slices.SortFunc(b.endpoints, netip.Addr.Compare)
		slices.SortStableFunc(b.snat, func(x, y snat) int { return cmp.Compare(y.from.Bits(), x.from.Bits()) })
	}
	slices.SortFunc(t.names, func(a, b string) int { // docker0 first, as on every host; others by their networks' names
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(t.bridges[a].network, t.bridges[b].network), strings.Compare(a, b))
	})
	return t
}

func rank(name string) int {
	if name == "docker0" {
		return 0
	}
	return 1
}

func (t *translation) set(name string) string {
	if t.v4 {
		return name + "4"
	}
	return name + "6"
}

func (t *translation) bridge(name string) *bridge {
	if t.bridges[name] == nil {
		t.bridges[name] = &bridge{name: name}
	}
	return t.bridges[name]
}

// used says whether anything at all is of this family.
func (t *translation) used() bool {
	return len(t.publish) > 0 || len(t.addresses) > 0 || slices.ContainsFunc(t.names, func(n string) bool {
		b := t.bridges[n]
		return len(b.masquerade)+len(b.snat)+len(b.gateways)+len(b.mesh) > 0
	})
}

// element takes one in.
func (t *translation) element(e dataplane.Element, subnets map[string]string) {
	first, second := pair(e.KeyText)
	dev := func(name string) *bridge { return t.bridge(name) }
	// behind is the bridge that a subnet or an address is behind.
	behind := func() *bridge {
		if p, ok := prefix(e.KeyText); ok && t.addresses[p.Addr()] != "" && p.IsSingleIP() {
			return dev(t.addresses[p.Addr()])
		}
		return dev(subnets[e.About().Owner.ID])
	}
	switch e.Set {
	case "icc":
		dev(first).icc = true
	case "egress":
		dev(first).egress = true
	case "internal":
		dev(first).internal = true
	case "flat":
		dev(first).flat = true
	case "direct":
		dev(first).direct = true
	case "trusted":
		dev(second).trusted = append(dev(second).trusted, first)
	case t.set("inbound"):
		dev(first).open = dev(first).open || e.Verdict == dataplane.InboundOpen
		dev(first).routed = dev(first).routed || e.Verdict == dataplane.InboundRouted
	case t.set("gateways"):
		if a, err := netip.ParseAddr(first); err == nil {
			dev(second).gateways = append(dev(second).gateways, a)
		}
	case t.set("masquerade"):
		if p, ok := prefix(e.KeyText); ok {
			b := behind()
			b.masquerade = append(b.masquerade, p)
		}
	case t.set("snat"), t.set("snat") + "_endpoint":
		if p, ok := prefix(e.KeyText); ok {
			b := behind()
			b.snat = append(b.snat, snat{p, e.DataText})
		}
	case t.set("mesh"):
		if p, ok := prefix(first); ok {
			b := dev(subnets[e.About().Owner.ID])
			b.mesh = append(b.mesh, meshed{p, e.Verdict != "accept"})
		}
	case "secure":
		t.secure = append(t.secure, first)
	case t.set("holes"):
		t.hole(e)
	case t.set("open"), t.set("open") + "_64":
		t.routable(e)
	case "forward_guard":
		t.guarded = t.guarded || (e.KeyText == "ipv4") == t.v4
	default:
		if e.Flow != nil && e.Flow.To.Addr().Is4() == t.v4 {
			t.publish = append(t.publish, e)
		}
	}
}

func (t *translation) hole(e dataplane.Element) {
	f := strings.Split(e.KeyText, " . ")
	from, ok := prefix(f[0])
	to, ok2 := prefix(f[1])
	if ok && ok2 {
		t.holes = append(t.holes, IptRule{Src: from, Dst: to, In: t.addresses[from.Addr()], Out: t.addresses[to.Addr()], Proto: f[2], Port: f[3], Target: "ACCEPT"})
	}
}

// routable is a port that may be reached by the container's own address, where its
// bridge lets that in.
func (t *translation) routable(e dataplane.Element) {
	f := strings.Split(e.KeyText, " . ")
	to, ok := prefix(f[0])
	if !ok {
		return
	}
	r := IptRule{Dst: to, Out: t.addresses[to.Addr()], Proto: f[1], Port: f[2], Target: "ACCEPT"}
	if strings.HasSuffix(e.Set, "_64") {
		first := 0
		_, _ = fmt.Sscan(f[2], &first)
		r.Port = fmt.Sprintf("%d:%d", first, first+dataplane.OpenBlock-1)
	}
	b := t.bridge(r.Out)
	b.ports = append(b.ports, r)
}

// pair are the first two fields of a key.
func pair(key string) (first, second string) {
	first, rest, _ := strings.Cut(key, " . ")
	second, _, _ = strings.Cut(rest, " . ")
	return unquote(first), unquote(second)
}

// prefix reads an address or a subnet.
func prefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p, true
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}
