package doctor

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
	"linkspan/dataplane/ruleset"
)

// firewalls: tables of others that drop what Linkspan lets through. Each table with a
// chain at the hook has its own say: accept ends one of them, drop ends the packet.
func (w *ward) firewalls(ctx context.Context) {
	if !w.kernel() {
		w.unseen("firewalls: the kernel cannot be read")
		return
	}
	rs, err := w.World.Kernel.Ruleset(ctx, "")
	if err != nil {
		w.unseen("firewalls: %v", err)
		return
	}
	var others []string
	legacy, modern := false, false
	for _, t := range rs.Tables {
		if strings.HasPrefix(t.Name, "linkspan_") || t.Dormant || !slices.ContainsFunc(t.Chains, func(c *ruleset.Chain) bool { return c.Hook != "" }) {
			continue
		}
		rules := 0
		for _, c := range t.Chains {
			rules += len(c.Rules)
		}
		legacy = legacy || t.Legacy && rules > 0
		modern = modern || !t.Legacy && rules > 0 && (t.Family == "ip" || t.Family == "ip6") && (t.Name == "filter" || t.Name == "nat")
		others = append(others, tableName(t))
	}
	if legacy && modern {
		w.say(Warning, "iptables-both", "rules of iptables-legacy and of iptables-nft are both in use", "Either command shows only its own, and a packet has to pass both.",
			"iptables-legacy-save   # then move what is needed over, and: iptables-legacy -F")
	}
	if w.known() {
		w.ways(ctx, rs)
	}
	switch {
	case w.none("firewall-drops", "firewall-unclear", "iptables-both") && len(others) > 0:
		w.ok("firewalls", "firewalls of others let containers through (%s)", names(others))
	case len(others) == 0:
		w.ok("firewalls", "there is no other firewall in this network namespace")
	}
}

func tableName(t *ruleset.Table) string {
	if t.Legacy {
		return "iptables-legacy " + t.Name
	}
	return t.Family + " " + t.Name
}

// outsider stands for the rest of the world: an address that is nobody's (RFC 5737,
// RFC 3849).
var outsider = map[bool]netip.Addr{true: netip.MustParseAddr("203.0.113.7"), false: netip.MustParseAddr("2001:db8::7")}

// ways follows, for each network, a packet on its way out and one for a published
// port, through the rules for what is forwarded.
func (w *ward) ways(ctx context.Context, rs *ruleset.Ruleset) {
	links, err := w.World.Kernel.Interfaces(ctx, "")
	if err != nil {
		return // said by sizes
	}
	routes, err := w.World.Kernel.Routes(ctx, "")
	if err != nil {
		return // said by routes
	}
	env := environment(links)
	var found drops
	defer func() { found.say(w) }()
	devices := w.devices(ctx)
	for _, n := range w.World.Declared.Networks() {
		if n.Internal || n.ConfigOnly {
			continue
		}
		for _, dev := range slices.Sorted(maps.Keys(devices)) {
			if devices[dev].Owner.ID != n.ID {
				continue
			}
			for _, four := range []bool{true, false} {
				out, pool := uplinks(routes, four), n.Pool4()
				if !four {
					pool = n.Pool6()
				}
				if pool == nil || len(out) == 0 || !four && !n.IPv6 {
					continue
				}
				inside := pool.Gateway.Next()
				w.way(&found, rs, env, ruleset.Packet{In: dev, Out: out[0], Src: inside, Dst: outsider[four], Proto: "tcp", DstPort: 443}, dev, "from network "+n.Name+" to the outside")
				if addr, port, ok := w.publishedOn(n, four); ok {
					to := netip.AddrPortFrom(addr, port.Port)
					from := netip.AddrPortFrom(outsider[four], 40000)
					w.way(&found, rs, env, ruleset.Packet{In: out[0], Out: dev, Src: from.Addr(), SrcPort: from.Port(), Dst: addr, DstPort: port.Port, Proto: port.Proto,
						CT: &ruleset.Conntrack{DNAT: true, Original: ruleset.Tuple{Src: from, Dst: netip.AddrPortFrom(outsider[four].Next(), port.HostPort)}, Reply: ruleset.Tuple{Src: to, Dst: from}}},
						dev, fmt.Sprintf("for published ports of network %s (%s)", n.Name, portText(port)))
				}
			}
		}
	}
}

// drops are rules of others that drop ours: each once, with all that it drops and all
// that opens it.
type drops []*dropped

type dropped struct {
	rule        string
	what, cures []string
}

func (d *drops) add(rule, what, cure string) {
	i := slices.IndexFunc(*d, func(o *dropped) bool { return o.rule == rule })
	if i < 0 {
		i = len(*d)
		*d = append(*d, &dropped{rule: rule})
	}
	o := (*d)[i]
	if !slices.Contains(o.what, what) {
		o.what = append(o.what, what)
	}
	if !slices.Contains(o.cures, cure) {
		o.cures = append(o.cures, cure)
	}
}

func (d drops) say(w *ward) {
	for _, o := range d {
		w.say(Problem, "firewall-drops", fmt.Sprintf("packets %s are dropped by another firewall: %s", few(o.what, 4), o.rule),
			"Linkspan's own rules let them through, but a firewall of another program has the last word.", strings.Join(o.cures, " && "))
	}
}

// way follows one packet.
func (w *ward) way(found *drops, rs *ruleset.Ruleset, env ruleset.Env, p ruleset.Packet, dev, what string) {
	t := rs.Walk(p, "forward", env)
	switch {
	case t.Passed() || t.Rule != nil && t.Rule.Table == w.World.Table:
	case t.Verdict == ruleset.Unclear:
		w.say(Note, "firewall-unclear", fmt.Sprintf("whether packets %s pass is not clear: %s", what, t.Reason), "A rule of another firewall is of a kind that is not understood here.", "linkspan why --probe …")
	case t.Rule != nil:
		found.add(t.Rule.String(), what, openUp(rs, *t.Rule, dev, p.Out == dev))
	}
}

// openUp is the command that lets a bridge's packets through in whoever's table it is.
func openUp(rs *ruleset.Ruleset, h ruleset.Hit, dev string, in bool) string {
	flag, match := "-i", "iifname"
	if in {
		flag, match = "-o", "oifname"
	}
	program := map[string]string{"ip6": "ip6tables"}[h.Family]
	if program == "" {
		program = "iptables"
	}
	if h.Legacy {
		program += "-legacy"
	}
	has := func(chain string) bool {
		t := rs.Table(h.Family, h.Table)
		return t != nil && t.Chain(chain) != nil
	}
	switch {
	case h.Table == "firewalld":
		return "firewall-cmd --permanent --zone=trusted --add-interface=" + dev + " && firewall-cmd --reload"
	case strings.HasPrefix(h.Chain, "ufw") || has("ufw-user-forward") || has("ufw6-user-forward"):
		return fmt.Sprintf("ufw route allow %s on %s", map[bool]string{true: "out", false: "in"}[in], dev)
	case h.Table == "filter" && (h.Family == "ip" || h.Family == "ip6"):
		chain := "FORWARD"
		if has("DOCKER-USER") {
			chain = "DOCKER-USER"
		}
		return fmt.Sprintf("%s -I %s %s %s -j ACCEPT", program, chain, flag, dev)
	}
	return fmt.Sprintf("nft insert rule %s %s %s %s %s accept", h.Family, h.Table, h.Chain, match, dev)
}

// publishedOn finds a port that is published to a container on the network.
func (w *ward) publishedOn(n *cnm.Network, four bool) (netip.Addr, cnm.PublishedPort, bool) {
	for _, s := range w.World.Declared.Sandboxes() {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if e.NetworkID != n.ID || !e.Gateway(four).IsValid() {
				continue
			}
			a := e.Addr6()
			if four {
				a = e.Addr4()
			}
			for _, p := range s.Ports {
				if a.IsValid() && (!p.HostIP.IsValid() || p.HostIP.IsUnspecified() || !p.HostIP.IsLoopback()) && (!p.HostIP.IsValid() || p.HostIP.Is4() == four) {
					return a.Addr(), p, true
				}
			}
		}
	}
	return netip.Addr{}, cnm.PublishedPort{}, false
}

// environment is what rules can ask besides the packet.
func environment(links []reading.Interface) ruleset.Env {
	byName := map[string]ruleset.Link{}
	local := map[netip.Addr]bool{}
	for _, l := range links {
		byName[l.Name] = ruleset.Link{Index: l.Index, Kind: l.Kind, Group: l.Group, Type: 1, Addrs: l.Addrs}
		for _, a := range l.Addrs {
			local[a.Addr()] = true
		}
	}
	return ruleset.Env{
		Link: func(name string) (ruleset.Link, bool) { l, ok := byName[name]; return l, ok },
		AddrType: func(a netip.Addr, _ string) string {
			switch {
			case local[a] || a.IsLoopback():
				return "local"
			case a.IsMulticast():
				return "multicast"
			}
			return "unicast"
		},
	}
}
