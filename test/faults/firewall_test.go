package faults

import "fmt"

// wall is a table of someone else's with one chain and one rule.
func wall(family, kind, rule string) string {
	return fmt.Sprintf(`nft "table %s wall { chain c { type %s; %s; }; }"`, family, kind, rule)
}

// firewallFaults are those of firewalls on the host that are not ours.
func firewallFaults() []fault {
	const noWall = "for f in ip ip6 inet bridge netdev; do nft delete table $f wall 2>/dev/null; done"
	// Tables of iptables-nft stay, empty.
	const noIptables = "iptables-nft -P FORWARD ACCEPT; iptables-nft -F; iptables-nft -X; nft delete table ip filter"
	published := func(name, broken string, says ...string) fault {
		return fault{name: name, broken: broken, undo: noWall, a: "outside", b: "$H:8080", code: "host-firewall", says: says}
	}
	return []fault{
		published("forward", wall("ip", "filter hook forward priority 10", "tcp dport 80 drop"), "wall"),
		published("prerouting", wall("ip", "filter hook prerouting priority -300", "tcp dport 8080 drop"), "wall"),
		published("postrouting", wall("inet", "filter hook postrouting priority 0", "ip daddr $ip_bob drop"), "wall"),
		published("policy drop", wall("inet", "filter hook forward priority 0; policy drop", "ct state established accept"), "wall"),
		published("the answer's way", wall("ip", "filter hook forward priority 10", "ip saddr $ip_bob tcp sport 80 drop"), "wall"),
		published("a set", `nft "table ip wall { set bad { type ipv4_addr; elements = { 192.0.2.1, $M }; }; chain c { type filter hook forward priority 5; ip saddr @bad counter drop; }; }"`, "wall").of("outside:$M"),
		published("a map and a chain", "nft 'table inet wall { chain web { reject with tcp reset; }; chain c { type filter hook forward priority 5; tcp dport vmap { 22 : accept, 80 : jump web }; }; }'", "wall"),
		published("firewalld", "nft 'table inet firewalld { chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept; ct state established,related accept; iifname \"lo\" accept; reject with icmpx admin-prohibited; }; }'", "firewalld").
			with("nft delete table inet firewalld"),
		published("untracked", wall("ip", "filter hook prerouting priority -300", "tcp dport 8080 notrack"), "wall").as("host-firewall|foreign-nat"),
		published("elsewhere", wall("ip", "nat hook prerouting priority -110", "tcp dport 8080 dnat to 10.71.0.99:80"), "wall").as("foreign-nat"),
		{name: "input", broken: wall("inet", "filter hook input priority 0", "tcp dport 90 drop"), undo: noWall, a: "ann", b: "host:90", try: "tcp/10.71.0.1:90",
			code: "host-firewall", says: []string{"wall"}},
		{name: "input from outside", broken: wall("inet", "filter hook input priority 0; policy drop", "ct state established,related accept"), undo: noWall,
			a: "outside", b: "$H:90", code: "host-firewall", says: []string{"wall"}},
		{name: "output", broken: wall("ip", "filter hook output priority 0", "ip daddr 10.71.0.0/24 drop"), undo: noWall, a: "host", b: "bob:80", try: "tcp/$ip_bob:80",
			code: "host-firewall", says: []string{"wall"}},
		{name: "leaving", broken: wall("ip", "filter hook forward priority 10", "iifname brn oifname wan0 drop"), undo: noWall, a: "ann", b: "$M:80",
			code: "host-firewall", says: []string{"wall"}},
		{name: "dead transparent proxy", broken: wall("ip", "nat hook prerouting priority -110", "iifname brn tcp dport 80 redirect to :3128"), undo: noWall, a: "ann", b: "$M:80",
			code: "foreign-nat", says: []string{"wall"}},
		{name: "bridge family", broken: wall("bridge", "filter hook forward priority 0", "ip daddr $ip_bob drop"), undo: noWall, a: "ann", b: "bob:80",
			code: "host-firewall", says: []string{"wall"}},
		{name: "netdev ingress", broken: wall("netdev", "filter hook ingress device $veth_ann priority 0", "ip daddr $ip_bob drop"), undo: noWall, a: "ann", b: "bob:80",
			code: "host-firewall", says: []string{"wall"}},
		{name: "dockerd's FORWARD policy", broken: "iptables-nft -P FORWARD DROP", undo: noIptables, a: "ann", b: "$M:80",
			code: "host-firewall", says: []string{"FORWARD"}, cure: []string{"iptables"}},
		{name: "ufw", undo: noIptables, a: "ann", b: "$M:80",
			broken: `iptables-nft -N ufw-before-forward; iptables-nft -N ufw-user-forward; iptables-nft -N ufw-reject-forward
				iptables-nft -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
				iptables-nft -A ufw-before-forward -j ufw-user-forward
				iptables-nft -A ufw-reject-forward -j REJECT
				iptables-nft -A FORWARD -j ufw-before-forward; iptables-nft -A FORWARD -j ufw-reject-forward; iptables-nft -P FORWARD DROP`,
			code: "host-firewall", says: []string{"ufw-reject-forward"}, cure: []string{"iptables"}},
		{name: "iptables-legacy", broken: "iptables-legacy -I FORWARD -i brn -j DROP", undo: "iptables-legacy -D FORWARD -i brn -j DROP", a: "ann", b: "$M:80",
			code: "host-firewall", says: []string{"FORWARD"}},
		{name: "iptables-legacy policy", broken: "iptables-legacy -P FORWARD DROP", undo: "iptables-legacy -P FORWARD ACCEPT", a: "outside", b: "$H:8080",
			code: "host-firewall", says: []string{"FORWARD"}},
		{name: "IPv6", broken: wall("ip6", "filter hook forward priority 10", "tcp dport 80 drop"), undo: noWall,
			a: "outside", b: "[$H6]:8095", code: "host-firewall", says: []string{"wall"}},
		{name: "tc", broken: "tc qdisc add dev $veth_ann clsact; tc filter add dev $veth_ann ingress u32 match u32 0 0 action mirred egress redirect dev lo", undo: "tc qdisc del dev $veth_ann clsact",
			a: "ann", b: "bob:80", code: "unknown", says: []string{"$veth_ann", "tc"}, byHand: "tc qdisc del dev $veth_ann clsact", cannot: "the filters of tc are not read"},
	}
}

// with adds to the undo, as makes the code another one.
func (f fault) with(undo string) fault { f.undo += ";" + undo; return f }
func (f fault) of(a string) fault      { f.a = a; return f }
func (f fault) as(code string) fault   { f.code = code; return f }
