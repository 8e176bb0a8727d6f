package faults

// addressFaults are those of addresses, and of how they are resolved to hardware.
func addressFaults() []fault {
	const nobody = "02:00:00:00:00:99"
	return []fault{
		{name: "gone", broken: "inside bob ip addr del $ip_bob/24 dev eth0", undo: "inside bob ip addr replace $ip_bob/24 dev eth0; inside bob ip route replace default via 10.71.0.1",
			a: "ann", b: "bob:80", code: "address-missing", says: []string{"$ip_bob"}, cure: []string{"$ip_bob/24"}},
		{name: "another one", broken: "inside bob ip addr del $ip_bob/24 dev eth0; inside bob ip addr add 10.71.0.88/24 dev eth0",
			undo: "inside bob ip addr del 10.71.0.88/24 dev eth0; inside bob ip addr replace $ip_bob/24 dev eth0; inside bob ip route replace default via 10.71.0.1",
			a:    "ann", b: "bob:80", code: "address-missing", says: []string{"$ip_bob"}, cure: []string{"$ip_bob/24"}},
		{name: "gone, who asks", broken: "inside ann ip addr del $ip_ann/24 dev eth0", undo: "inside ann ip addr replace $ip_ann/24 dev eth0; inside ann ip route replace default via 10.71.0.1",
			a: "ann", b: "bob:80", code: "address-missing", says: []string{"$ip_ann"}},
		{name: "wrong mask", broken: "inside ann ip addr del $ip_ann/24 dev eth0; inside ann ip addr add $ip_ann/32 dev eth0",
			undo: "inside ann ip addr replace $ip_ann/24 dev eth0; inside ann ip addr del $ip_ann/32 dev eth0; inside ann ip route replace default via 10.71.0.1",
			a:    "ann", b: "bob:80", code: "address-missing|no-route", says: []string{"ann"}},
		{name: "two owners", setup: "make xav --network n pause", a: "ann", b: "bob:80", after: "inside ann ip neigh flush all",
			// As after x answered first.
			broken: "inside xav ip addr add $ip_bob/24 dev eth0; inside ann ip neigh replace $ip_bob lladdr $mac_xav dev eth0 nud stale",
			undo:   "inside xav ip addr del $ip_bob/24 dev eth0; ip neigh flush dev brn; inside ann ip neigh flush all",
			code:   "address-conflict", says: []string{"$ip_bob", "xav"}},
		{name: "the host has it too", broken: "ip addr add $ip_bob/32 dev lo", undo: "ip addr del $ip_bob/32 dev lo",
			a: "host", b: "bob:80", try: "tcp/$ip_bob:80", code: "address-conflict|wrong-route", says: []string{"$ip_bob", "lo"}},
		{name: "duplicate hardware address", setup: "make xav --network n pause", a: "ann", b: "bob:80", after: "inside bob ping -c 1 -W 1 10.71.0.1",
			broken: `inside xav ip link set eth0 address $mac_bob
				nsenter --net=/proc/$pid_xav/ns/net ping -i .05 10.71.0.1 </dev/null >/dev/null 2>&1 & echo $! >$PIDFILE
				until_ok sh -c "bridge fdb show br brn | grep '^$mac_bob dev $veth_xav '"`, undo: "kill $(cat $PIDFILE); rm $PIDFILE",
			code: "address-conflict|fdb-wrong", says: []string{"xav"}},
		// Not sticky, it would follow the next packet of bob (br_fdb_update, net/bridge/br_fdb.c).
		{name: "an entry of a person in the bridge", broken: "bridge fdb replace $mac_bob dev $veth_ann master static sticky", undo: "bridge fdb del $mac_bob dev $veth_ann master",
			a: "host", b: "bob:80", try: "tcp/$ip_bob:80", code: "fdb-wrong", says: []string{"brn"}, after: "inside bob ping -c 1 -W 1 10.71.0.1"},
		{name: "IPv6 address refused as a duplicate", setup: "make xav --network six pause; inside xav ip addr add $ip6_gil/64 dev eth0 nodad",
			broken: "inside gil ip addr del $ip6_gil/64 dev eth0; inside gil ip addr add $ip6_gil/64 dev eth0; until_ok sh -c \"nsenter --net=/proc/$pid_gil/ns/net ip addr show dev eth0 | grep -q dadfailed\"; inside hal ip neigh flush all",
			undo:   "inside xav ip addr del $ip6_gil/64 dev eth0; inside gil ip addr del $ip6_gil/64 dev eth0; inside gil ip addr add $ip6_gil/64 dev eth0 nodad; inside hal ip neigh flush all; ip neigh flush dev brsix",
			a:      "hal", b: "[$ip6_gil]:80", code: "address-conflict", says: []string{"$ip6_gil", "xav"}},
		{name: "stale in A", broken: "inside ann ip neigh replace $ip_bob lladdr " + nobody + " dev eth0 nud permanent", undo: "inside ann ip neigh del $ip_bob dev eth0",
			a: "ann", b: "bob:80", code: "stale-neighbour", says: []string{nobody}, cure: []string{"neigh del"}},
		{name: "stale in B", broken: "inside bob ip neigh replace $ip_ann lladdr " + nobody + " dev eth0 nud permanent", undo: "inside bob ip neigh del $ip_ann dev eth0",
			a: "ann", b: "bob:80", code: "stale-neighbour", says: []string{nobody}, cure: []string{"neigh del"}},
		{name: "stale on the host", broken: "ip neigh replace $ip_bob lladdr " + nobody + " dev brn nud permanent", undo: "ip neigh del $ip_bob dev brn",
			a: "outside", b: "$H:8080", code: "stale-neighbour", says: []string{nobody}, cure: []string{"neigh del"}},
		{name: "stale gateway", broken: "inside ann ip neigh replace 10.71.0.1 lladdr " + nobody + " dev eth0 nud permanent", undo: "inside ann ip neigh del 10.71.0.1 dev eth0",
			a: "ann", b: "$M:80", code: "stale-neighbour", says: []string{nobody}, cure: []string{"neigh del"}},
		{name: "stale by IPv6", broken: "inside hal ip neigh replace $ip6_gil lladdr " + nobody + " dev eth0 nud permanent", undo: "inside hal ip neigh del $ip6_gil dev eth0",
			a: "hal", b: "[$ip6_gil]:80", code: "stale-neighbour", says: []string{nobody}, cure: []string{"neigh del"}},
	}
}
