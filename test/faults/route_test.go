package faults

// routeFaults are those of routes and of the policy rules that choose among them.
func routeFaults() []fault {
	const far = "machine ip addr add 10.55.0.9/32 dev lo"
	const noFar = "machine ip addr del 10.55.0.9/32 dev lo; ip route del 10.55.0.9"
	return []fault{
		{name: "no default route", broken: "inside ann ip route del default", undo: "inside ann ip route replace default via 10.71.0.1",
			a: "ann", b: "$M:80", code: "no-route", says: []string{"ann"}, cure: []string{"default via 10.71.0.1"}},
		{name: "no default route in B", broken: "inside bob ip route del default", undo: "inside bob ip route replace default via 10.71.0.1",
			a: "outside", b: "$H:8080", code: "no-route", says: []string{"bob"}, cure: []string{"default via 10.71.0.1"}},
		{name: "no routes", broken: "inside ann ip route flush table main", undo: "inside ann ip route replace 10.71.0.0/24 dev eth0 src $ip_ann; inside ann ip route replace default via 10.71.0.1",
			a: "ann", b: "bob:80", code: "no-route", says: []string{"ann"}},
		{name: "wrong gateway", broken: "inside ann ip route replace default via 10.71.0.99", undo: "inside ann ip route replace default via 10.71.0.1",
			a: "ann", b: "$M:80", code: "gateway-unreachable|wrong-route", says: []string{"10.71.0.99"}},
		{name: "blackhole in A", broken: "inside ann ip route add blackhole $ip_bob", undo: "inside ann ip route del $ip_bob", a: "ann", b: "bob:80", code: "no-route", says: []string{"blackhole"}, cure: []string{"route del"}},
		{name: "unreachable in A", broken: "inside ann ip route add unreachable 10.71.0.0/25", undo: "inside ann ip route del 10.71.0.0/25", a: "ann", b: "bob:80", code: "no-route", says: []string{"unreachable"}, cure: []string{"route del"}},
		{name: "prohibit in B", broken: "inside bob ip route add prohibit $ip_ann", undo: "inside bob ip route del $ip_ann", a: "ann", b: "bob:80", code: "no-route", says: []string{"prohibit"}, cure: []string{"route del"}},
		{name: "out of another interface", broken: "inside ann ip route add $ip_bob dev lo", undo: "inside ann ip route del $ip_bob", a: "ann", b: "bob:80", code: "wrong-route", says: []string{"lo"}, cure: []string{"route del"}},
		{name: "a policy rule in A", broken: "inside ann ip route add unreachable default table 77; inside ann ip rule add to $ip_bob lookup 77", undo: "inside ann ip rule del to $ip_bob lookup 77; inside ann ip route flush table 77",
			a: "ann", b: "bob:80", code: "no-route", says: []string{"77"}},
		{name: "a source that has no way back", broken: "inside ann ip addr add 10.99.9.9/32 dev eth0; inside ann ip route change 10.71.0.0/24 dev eth0 src 10.99.9.9",
			undo: "inside ann ip route change 10.71.0.0/24 dev eth0 src $ip_ann; inside ann ip addr del 10.99.9.9/32 dev eth0",
			a:    "ann", b: "bob:80", code: "no-route|wrong-route", says: []string{"10.99.9.9"}},
		{name: "the host leads it away", broken: "ip route add $ip_bob dev wan0", undo: "ip route del $ip_bob", a: "outside", b: "$H:8080", code: "wrong-route", says: []string{"wan0"}, cure: []string{"route del"}},
		{name: "a VPN took the subnet", broken: "ip route add 10.71.0.0/25 via $M", undo: "ip route del 10.71.0.0/25", a: "host", b: "bob:80", try: "tcp/$ip_bob:80", code: "wrong-route", says: []string{"10.71.0.0/25"}, cure: []string{"route del"}},
		{name: "blackhole on the host", broken: "ip route add blackhole $ip_bob", undo: "ip route del $ip_bob", a: "outside", b: "$H:8080", code: "no-route", says: []string{"blackhole"}, cure: []string{"route del"}},
		{name: "a policy rule on the host", broken: "ip route add unreachable default table 99; ip rule add pref 99 to 10.71.0.0/24 lookup 99", undo: "ip rule del pref 99; ip route flush table 99",
			a: "outside", b: "$H:8080", code: "no-route", says: []string{"99"}},
		{name: "no way back outside", setup: far, a: "outside:10.55.0.9", b: "$H:8080", undo: noFar, code: "no-route", says: []string{"10.55.0.9"}, byHand: "ip route add 10.55.0.9 via $M"},
		{name: "the host has no way", setup: far, a: "ann", b: "10.55.0.9:80", undo: noFar, code: "no-route", says: []string{"10.55.0.9"}, byHand: "ip route add 10.55.0.9 via $M"},
		{name: "an old entry of conntrack", a: "outside:$M", b: "$H:8080/udp", from: "$M:4000",
			broken: "conntrack -D -p udp --orig-port-src 4000; conntrack -I -p udp -s $M -d $H --sport 4000 --dport 8080 --timeout 600 -u UNSET", undo: "conntrack -D -p udp --orig-port-src 4000",
			code: "conntrack-stale", says: []string{"8080"}, cure: []string{"conntrack -D"}},
	}
}
