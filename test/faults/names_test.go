package faults

// nameFaults are those of names: who is asked, and who is known where. A tries the name
// with its own files and resolver.
func nameFaults() []fault {
	return []fault{
		{name: "typo", a: "ann", b: "bbo:80", tryCured: "tcp/bob:80", code: "no-such-name", says: []string{"bbo"}, byHand: "true"},
		{name: "name on another network", setup: "run xav --network m --network-alias database", a: "ann", b: "database:80",
			undo: "docker network disconnect m ann", code: "dns-name-elsewhere", says: []string{"database", "m"}, cure: []string{"network connect"}},
		{name: "another resolver", setup: "run xav --network n", broken: "echo nameserver 192.0.2.53 >$(root xav)/etc/resolv.conf", a: "xav", b: "bob:80",
			code: "dns-wrong", says: []string{"192.0.2.53"}},
		{name: "no resolver", setup: "run xav --network n", broken: ": >$(root xav)/etc/resolv.conf", a: "xav", b: "bob:80",
			code: "dns-wrong", says: []string{"resolv.conf"}},
		{name: "old line in hosts", setup: "run xav --network n", broken: "echo 10.71.0.99 bob >>$(root xav)/etc/hosts", a: "xav", b: "bob:80",
			code: "dns-wrong", says: []string{"10.71.0.99"}},
		{name: "the way to the resolver", setup: "run xav --network n", a: "xav", b: "bob:80",
			broken: "inside xav nft flush ruleset", code: "dns-wrong", says: []string{"xav"}},
		{name: "the resolver is walled off", setup: "run xav --network n", a: "xav", b: "bob:80",
			broken: "inside xav nft 'table ip wall { chain out { type filter hook output priority -300; ip daddr 127.0.0.11 drop; }; }'",
			code:   "dns-wrong|container-firewall", says: []string{"wall"}},
	}
}
