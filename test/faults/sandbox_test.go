package faults

// sandboxFaults are those of firewalls and parameters inside containers: someone's own
// doing, reported and never undone.
func sandboxFaults() []fault {
	inside := func(name, where, family, kind, rule string, code string) fault {
		return fault{name: name, broken: "inside " + where + " " + wall(family, kind, rule), undo: "inside " + where + " nft delete table " + family + " wall",
			a: "ann", b: "bob:80", code: code, says: []string{where, "wall"}}
	}
	return []fault{
		inside("input", "bob", "inet", "filter hook input priority 0", "tcp dport 80 drop", "container-firewall"),
		inside("input refused", "bob", "ip", "filter hook input priority 0", "tcp dport 80 reject with tcp reset", "container-firewall"),
		inside("output", "ann", "ip", "filter hook output priority 0", "ip daddr $ip_bob drop", "container-firewall"),
		inside("the answer's way", "bob", "ip", "filter hook output priority 0", "tcp sport 80 drop", "container-firewall"),
		inside("policy", "bob", "inet", "filter hook input priority 0; policy drop", "iif lo accept", "container-firewall"),
		inside("to another port", "bob", "ip", "nat hook prerouting priority -100", "tcp dport 80 redirect to :81", "foreign-nat"),
		inside("to another address", "ann", "ip", "nat hook output priority -100", "ip daddr $ip_bob dnat to 10.71.0.99", "foreign-nat"),
		{name: "iptables-legacy", broken: "inside bob iptables-legacy -A INPUT -p tcp --dport 80 -j DROP", undo: "inside bob iptables-legacy -D INPUT -p tcp --dport 80 -j DROP",
			a: "ann", b: "bob:80", code: "container-firewall", says: []string{"bob", "INPUT"}},
		{name: "published", broken: "inside bob " + wall("inet", "filter hook input priority 0", "ip saddr != 10.71.0.0/24 drop"), undo: "inside bob nft delete table inet wall",
			a: "outside", b: "$H:8080", code: "container-firewall", says: []string{"bob", "wall"}},
		{name: "IPv6 disabled", broken: "inside gil sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1",
			undo: "inside gil sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0; inside gil ip addr replace $ip6_gil/64 dev eth0 nodad; inside gil ip -6 route replace default via fd76::1",
			a:    "hal", b: "[$ip6_gil]:80", code: "address-missing|no-address-family", says: []string{"gil"}},
		{name: "ARP ignored", broken: "inside bob sysctl -qw net.ipv4.conf.eth0.arp_ignore=8; inside ann ip neigh flush all", undo: "inside bob sysctl -qw net.ipv4.conf.eth0.arp_ignore=0",
			a: "ann", b: "bob:80", code: "neighbour-failed", says: []string{"bob"}},
		{name: "ARP dropped", broken: "inside bob " + wall("arp", "filter hook input priority 0", "drop") + "; inside ann ip neigh flush all", undo: "inside bob nft delete table arp wall",
			a: "ann", b: "bob:80", code: "container-firewall|neighbour-failed", says: []string{"bob", "wall"}},
		{name: "rp_filter", setup: "run xav --network n; docker network connect m xav", a: "ann", b: "$ip_xav_n:80",
			broken: "inside xav ip route add $ip_ann/32 dev eth1; inside xav sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
			code:   "rp-filter", says: []string{"xav"}, cure: []string{"rp_filter"}, after: "inside xav ip route del $ip_ann/32"},
	}
}
