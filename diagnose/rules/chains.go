package rules

import (
	"fmt"
	"net/netip"

	"linkspan/dataplane"
)

// chain collects rules.
type chain struct{ IptChain }

func newChain(name, policy string) *chain {
	return &chain{IptChain{Name: name, Policy: policy}}
}

func (c *chain) add(r ...IptRule) { c.Rules = append(c.Rules, r...) }

func table(name string, all ...*chain) IptTable {
	t := IptTable{Name: name}
	for _, c := range all {
		if c.Policy != "" || len(c.Rules) > 0 {
			t.Chains = append(t.Chains, c.IptChain)
		}
	}
	return t
}

func (t *translation) family() Family {
	f := Family{Command: "iptables"}
	if !t.v4 {
		f.Command = "ip6tables"
	}
	f.Tables = append(f.Tables, t.nat(), t.filter())
	if t.v4 && len(t.names) > 0 {
		f.Tables = append(f.Tables, t.raw())
	}
	return f
}

// raw is the page's chain of that name: containers keep off the host's loopback.
func (t *translation) raw() IptTable {
	pre := newChain("PREROUTING", "ACCEPT")
	loop := netip.MustParsePrefix("127.0.0.0/8")
	for _, n := range t.names {
		pre.add(IptRule{Dst: loop, In: n, Target: "DROP"}, IptRule{Src: loop, In: n, Target: "DROP"})
	}
	return table("raw", pre, newChain("OUTPUT", "ACCEPT"))
}

// nat is the page's prerouting, output and postrouting.
func (t *translation) nat() IptTable {
	pre, out, post, docker := newChain("PREROUTING", "ACCEPT"), newChain("OUTPUT", "ACCEPT"), newChain("POSTROUTING", "ACCEPT"), newChain("DOCKER", "")
	if len(t.publish) > 0 {
		jump := IptRule{Matches: []Match{local}, Target: "DOCKER"}
		if !t.v4 { // [::1] cannot be translated
			jump.Dst, jump.NotDst = netip.MustParsePrefix("::1/128"), true
		}
		pre.add(jump)
		out.add(jump)
	}
	for _, e := range t.publish {
		docker.add(dnat(e))
	}
	for _, n := range t.names {
		b := t.bridges[n]
		for _, m := range b.mesh { // to other hosts addresses are kept
			post.add(IptRule{Src: m.subnet, Dst: m.subnet, Out: n, NotOut: true, Target: "ACCEPT"})
		}
		for _, p := range b.masquerade {
			post.add(IptRule{Src: p, Out: n, NotOut: true, Target: "MASQUERADE"})
		}
		for _, s := range b.snat {
			post.add(IptRule{Src: s.from, Out: n, NotOut: true, Target: "SNAT", To: s.to})
		}
	}
	t.hairpins(post)
	return table("nat", pre, newChain("INPUT", "ACCEPT"), out, post, docker)
}

// dnat is one published port or range.
func dnat(e dataplane.Element) IptRule {
	f := e.Flow
	r := IptRule{Proto: f.Proto, Port: fmt.Sprint(f.Port), Target: "DNAT", To: f.To.String()}
	if f.PortEnd > f.Port { // the number is kept
		r.Port, r.To = fmt.Sprintf("%d:%d", f.Port, f.PortEnd), f.To.Addr().String()
	}
	if f.Addr.IsValid() && !f.Addr.IsUnspecified() {
		r.Dst = netip.PrefixFrom(f.Addr, f.Addr.BitLen())
	}
	return r
}

// inside is what a published port leads to, on the container's side.
func inside(e dataplane.Element) IptRule {
	f := e.Flow
	r := IptRule{Dst: netip.PrefixFrom(f.To.Addr(), f.To.Addr().BitLen()), Proto: f.Proto, Port: fmt.Sprint(f.To.Port())}
	if f.PortEnd > f.Port {
		r.Port = fmt.Sprintf("%d:%d", f.Port, f.PortEnd)
	}
	return r
}

// hairpins are the page's chain "returning": who comes back to its own bridge through a
// published port, and the host that does so from its loopback, get the host's address.
// (That clients on the wire behind a borrowed bridge do as well cannot be said here:
// iptables knows no incoming interface in POSTROUTING.)
func (t *translation) hairpins(post *chain) {
	seen := map[string]bool{}
	on := map[string]bool{}
	for _, e := range t.publish {
		r := inside(e)
		r.Src, r.Target = r.Dst, "MASQUERADE"
		on[t.addresses[r.Dst.Addr()]] = true
		if key := r.line(""); !seen[key] {
			seen[key] = true
			post.add(r)
		}
	}
	for _, n := range t.names {
		if !on[n] {
			continue
		}
		if t.v4 {
			post.add(IptRule{Src: netip.MustParsePrefix("127.0.0.0/8"), Out: n, Matches: []Match{translated}, Target: "MASQUERADE"})
		}
		for _, p := range t.bridges[n].subnets() {
			post.add(IptRule{Src: p, Out: n, Matches: []Match{translated}, Target: "MASQUERADE"})
		}
	}
}

// subnets of a bridge are those that are translated, or else its endpoints.
func (b *bridge) subnets() (out []netip.Prefix) {
	out = append(out, b.masquerade...)
	for _, s := range b.snat {
		if !s.from.IsSingleIP() {
			out = append(out, s.from)
		}
	}
	if len(out) == 0 {
		for _, a := range b.endpoints {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}

// filter is the page's forward and what it jumps to, and from inward what is about the
// host itself.
func (t *translation) filter() IptTable {
	policy := "ACCEPT"
	if t.guarded {
		policy = "DROP"
	}
	in, fwd, docker := newChain("INPUT", "ACCEPT"), newChain("FORWARD", policy), newChain("DOCKER", "")
	one, two := newChain("DOCKER-ISOLATION-STAGE-1", ""), newChain("DOCKER-ISOLATION-STAGE-2", "")
	t.host(in)
	t.isolation(one, two)
	if len(t.names) > 0 {
		fwd.add(IptRule{Matches: []Match{established}, Target: "ACCEPT"})
	}
	for _, n := range t.names {
		if b := t.bridges[n]; b.icc || b.flat && b.borrowed {
			fwd.add(IptRule{In: n, Out: n, Target: "ACCEPT"})
		}
	}
	fwd.add(t.holes...)
	t.neighbours(fwd)
	t.meshes(fwd)
	if len(one.Rules) > 0 {
		fwd.add(IptRule{Target: one.Name})
	}
	for _, n := range t.names {
		for _, r := range t.bridges[n].to() {
			r.Target = docker.Name
			fwd.add(r)
		}
		t.docker(docker, t.bridges[n])
	}
	for _, n := range t.names {
		for _, r := range t.bridges[n].from() {
			if r.Target = "ACCEPT"; !t.bridges[n].borrowed {
				r.Out, r.NotOut = n, true
			}
			if t.bridges[n].egress {
				fwd.add(r)
			}
		}
	}
	return table("filter", in, fwd, newChain("OUTPUT", "ACCEPT"), docker, one, two)
}

// meshes lets containers of one network on several hosts reach each other: those of an
// encrypted one by the device that encrypts only. (Which tunnelled packets a host takes
// is not said here: iptables has no sets of ports and VNIs.)
func (t *translation) meshes(fwd *chain) {
	for _, n := range t.names {
		for _, m := range t.bridges[n].mesh {
			in := IptRule{Src: m.subnet, Dst: m.subnet, In: n, NotIn: true, Out: n, Target: "ACCEPT"}
			out := IptRule{Src: m.subnet, Dst: m.subnet, In: n, Out: n, NotOut: true, Target: "ACCEPT"}
			if m.sealed {
				for _, dev := range t.secure {
					fwd.add(IptRule{Src: m.subnet, Dst: m.subnet, In: dev, Out: n, Target: "ACCEPT"},
						IptRule{Src: m.subnet, Dst: m.subnet, In: n, Out: dev, Target: "ACCEPT"})
				}
				in.Target, out.Target = "DROP", "DROP"
			}
			fwd.add(in, out)
		}
	}
}

// neighbours lets IPv6's ARP (RFC 4861) pass where containers do not reach each other.
func (t *translation) neighbours(fwd *chain) {
	for _, n := range t.names {
		if b := t.bridges[n]; !t.v4 && !b.icc && !b.borrowed {
			for _, kind := range []string{"135", "136"} { // solicitation, advertisement
				fwd.add(IptRule{In: n, Proto: "ipv6-icmp", Matches: []Match{{"-m icmp6 --icmpv6-type " + kind, "ipv6-icmptype " + kind}}, Target: "ACCEPT"})
			}
		}
	}
}

// to and from match what leads to a bridge's containers and what comes from them: on a
// borrowed bridge only they are ours to judge.
func (b *bridge) to() (out []IptRule) {
	if !b.borrowed {
		return []IptRule{{Out: b.name}}
	}
	for _, a := range b.endpoints {
		out = append(out, IptRule{Dst: netip.PrefixFrom(a, a.BitLen()), Out: b.name})
	}
	return out
}

func (b *bridge) from() (out []IptRule) {
	if !b.borrowed {
		return []IptRule{{In: b.name}}
	}
	for _, a := range b.endpoints {
		out = append(out, IptRule{Src: netip.PrefixFrom(a, a.BitLen()), In: b.name})
	}
	return out
}

// host keeps containers of internal networks from the host's other addresses.
func (t *translation) host(in *chain) {
	for _, n := range t.names {
		b := t.bridges[n]
		if !b.internal {
			continue
		}
		if !t.v4 {
			in.add(IptRule{Dst: netip.MustParsePrefix("fe80::/10"), In: n, Target: "ACCEPT"})
		}
		for _, a := range b.gateways {
			in.add(IptRule{Dst: netip.PrefixFrom(a, a.BitLen()), In: n, Target: "ACCEPT"})
		}
		in.add(IptRule{In: n, Matches: []Match{local}, Target: "DROP"})
	}
}

// isolation keeps networks apart, and what is internal inside.
func (t *translation) isolation(one, two *chain) {
	for _, n := range t.names {
		if b := t.bridges[n]; !b.egress {
			for _, r := range b.from() {
				r.Target = "DROP"
				one.add(r)
			}
		}
	}
	var closed []string // whom no one reaches by a container's own address
	for _, n := range t.names {
		if b := t.bridges[n]; !b.open && !b.routed && !b.direct && len(b.trusted) == 0 && !b.borrowed && len(t.marks) == 0 {
			closed = append(closed, n)
		}
	}
	if len(t.names) < 2 || len(closed) == 0 {
		return
	}
	for _, n := range t.names {
		if b := t.bridges[n]; b.egress && !b.borrowed {
			one.add(IptRule{In: n, Out: n, NotOut: true, Target: two.Name})
		}
	}
	for _, n := range closed {
		two.add(IptRule{Out: n, Matches: []Match{untouched}, Target: "DROP"})
	}
}

// docker is to_container for one bridge.
func (t *translation) docker(c *chain, b *bridge) {
	seen := map[string]bool{}
	add := func(r IptRule) {
		if key := r.line(""); !seen[key] {
			seen[key] = true
			c.add(r)
		}
	}
	for _, e := range t.publish {
		if r := inside(e); t.addresses[r.Dst.Addr()] == b.name {
			r.Out, r.Matches, r.Target = b.name, []Match{translated}, "ACCEPT"
			if b.icc { // what stays on the bridge was accepted before
				r.In, r.NotIn = b.name, true
			}
			add(r)
		}
	}
	for _, m := range t.marks {
		add(IptRule{Out: b.name, Matches: []Match{m}, Target: "ACCEPT"})
	}
	if b.open {
		add(IptRule{Out: b.name, Target: "ACCEPT"})
	}
	if b.routed {
		ping := "icmp"
		if !t.v4 {
			ping = "ipv6-icmp"
		}
		add(IptRule{Out: b.name, Proto: ping, Target: "ACCEPT"})
	}
	for _, r := range b.ports {
		if b.routed || b.direct {
			add(r)
		}
		for _, link := range b.trusted {
			r.In = link
			add(r)
		}
	}
	if b.open {
		return
	}
	last := IptRule{Out: b.name, Target: "DROP"}
	if b.icc && !b.borrowed {
		last.In, last.NotIn = b.name, true
	}
	add(last)
}
