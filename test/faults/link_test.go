package faults

// linkFaults are those of interfaces inside containers, and of what fits through.
func linkFaults() []fault {
	const noOffload = "inside ann ethtool -K eth0 tso off gso off; inside bob ethtool -K eth0 tso off gso off"
	const offload = "inside ann ethtool -K eth0 tso on gso on; inside bob ethtool -K eth0 tso on gso on"
	return []fault{
		{name: "down in B", broken: "inside bob ip link set eth0 down", undo: "inside bob ip link set eth0 up; inside bob ip route replace default via 10.71.0.1",
			a: "ann", b: "bob:80", code: "link-down", says: []string{"eth0", "bob"}, cure: []string{"eth0 up"}},
		{name: "down in A", broken: "inside ann ip link set eth0 down", undo: "inside ann ip link set eth0 up; inside ann ip route replace default via 10.71.0.1",
			a: "ann", b: "bob:80", code: "link-down", says: []string{"eth0", "ann"}, cure: []string{"eth0 up"}},
		{name: "down, published", broken: "inside bob ip link set eth0 down", undo: "inside bob ip link set eth0 up; inside bob ip route replace default via 10.71.0.1",
			a: "outside", b: "$H:8080", code: "link-down", says: []string{"eth0", "bob"}},
		{name: "ARP off", broken: "inside bob ip link set eth0 arp off; inside ann ip neigh flush all", undo: "inside bob ip link set eth0 arp on",
			a: "ann", b: "bob:80", code: "neighbour-failed", says: []string{"bob"}},
		// GSO packets pass for small ones (is_skb_forwardable, net/core/dev.c).
		{name: "MTU too large inside", setup: noOffload, broken: "inside ann ip link set eth0 mtu 9000; inside bob ip link set eth0 mtu 9000",
			undo: "inside ann ip link set eth0 mtu 1500; inside bob ip link set eth0 mtu 1500;" + offload,
			a:    "ann", b: "bob:80", try: "bulk/$ip_bob:80", code: "mtu", says: []string{"9000"}},
		{name: "MTU black hole", broken: "ip link set wan0 mtu 1400; " + wall("ip", "filter hook output priority 0", "icmp type destination-unreachable drop"),
			undo: "ip link set wan0 mtu 1500; nft delete table ip wall",
			a:    "ann", b: "$M:80", try: "bulk/$M:80", code: "mtu", says: []string{"1400"}},
	}
}
