package faults

// reachFaults are those of what was declared: networks, their options, what is
// published.
func reachFaults() []fault {
	const direct = "machine ip route add 10.72.0.0/24 via $H"
	const noDirect = "machine ip route del 10.72.0.0/24"
	return []fault{
		{name: "wrong network", a: "ann", b: "cat:80", try: "tcp/$ip_cat:80", tryCured: "tcp/cat:80",
			undo: "docker network disconnect n cat; docker network disconnect m ann",
			code: "no-shared-network", says: []string{"ann", "cat"}, cure: []string{"network connect"}},
		{name: "default bridge to a network", a: "eve", b: "bob:80", try: "tcp/$ip_bob:80", tryCured: "tcp/bob:80",
			undo: "docker network disconnect n eve; docker network disconnect bridge bob",
			code: "no-shared-network", says: []string{"eve", "bob"}, cure: []string{"network connect"}},
		{name: "disconnected", setup: "run xav --network n", broken: "docker network disconnect n xav", a: "xav", b: "bob:80",
			code: "no-shared-network", says: []string{"xav"}, cure: []string{"network connect"}},
		{name: "icc off", setup: "net shut -o com.docker.network.bridge.enable_icc=false; run xav --network shut; run yan --network shut",
			a: "xav", b: "yan:80", tryCured: "tcp/yan.xav-yan:80",
			code: "icc-off", says: []string{"shut"}, cure: []string{"network"}},
		{name: "internal to outside", setup: "net inner --internal; run xav --network inner",
			a: "xav", b: "$M:80", code: "internal", says: []string{"inner"}, cure: []string{"network connect"}},
		{name: "internal with a route of its own", setup: "net inner --internal --subnet 10.74.0.0/24; run xav --network inner; inside xav ip route add default via 10.74.0.1",
			a: "xav", b: "$M:80", code: "internal", says: []string{"inner"}, cure: []string{"network connect"}},
		{name: "internal to a published port", setup: "net inner --internal; run xav --network inner",
			a: "xav", b: "$H:8080", code: "internal", says: []string{"inner"}, cure: []string{"network connect"}},
		{name: "internal from outside", setup: "net inner --internal; run xav --network inner -p 8089:80",
			a: "outside", b: "$H:8089", code: "internal", says: []string{"inner"}, cure: []string{"network connect"}},
		{name: "isolated from the host", setup: "net iso --internal -o com.docker.network.bridge.gateway_mode_ipv4=isolated; run xav --network iso",
			a: "host", b: "xav:80", try: "tcp/$ip_xav_iso:80", tryCured: "tcp/$ip_xav:80",
			code: "isolated", says: []string{"iso"}, cure: []string{"network connect"}},
		{name: "unpublished", setup: "run xav --network m", a: "outside", b: "xav:80", try: "tcp/$H:80", tryCured: "tcp/$H:8088",
			code: "unpublished", says: []string{"xav", "80"}, byHand: "docker rm -f xav; run xav --network m -p 8088:80"},
		{name: "unpublished, by its own address", setup: "run xav --network m;" + direct, undo: noDirect,
			a: "outside", b: "$ip_xav:80", tryCured: "tcp/$H:8088",
			code: "unpublished", says: []string{"xav", "80"}, byHand: "docker rm -f xav; run xav --network m -p 8088:80"},
		{name: "another port is published", a: "outside", b: "bob:90", try: "tcp/$H:91", tryCured: "tcp/$H:8080", code: "unpublished", says: []string{"bob", "90"}, byHand: "true"},
		{name: "routed, unpublished", setup: "net r --subnet 10.73.0.0/24 -o com.docker.network.bridge.gateway_mode_ipv4=routed; run xav --network r -p 80; machine ip route add 10.73.0.0/24 via $H",
			undo: "machine ip route del 10.73.0.0/24", a: "outside", b: "$ip_xav:90", tryCured: "tcp/$ip_xav:80",
			code: "unpublished", says: []string{"xav", "90"}, byHand: "true"},
		{name: "no masquerading", setup: "net bare --subnet 10.78.0.0/24 -o com.docker.network.bridge.enable_ip_masquerade=false; run xav --network bare",
			a: "xav", b: "$M:80", code: "unknown", says: []string{"bare"}, byHand: "machine ip route add 10.78.0.0/24 via $H", undo: "machine ip route del 10.78.0.0/24",
			cannot: "whether a machine outside has a route back is not to be seen from here"},
		{name: "IPv4 only, to an IPv6 address", undo: "docker network disconnect six ann",
			a: "ann", b: "[$M6]:80", code: "no-address-family", says: []string{"ann"}, byHand: "docker network connect six ann"},
	}
}
