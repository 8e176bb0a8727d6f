package rules

// scenario is one page: what a person typed, and what of it is shown.
type scenario struct {
	file, title, about string
	// lines are typed one after the other: docker's, or the host's own (everything that
	// does not begin with "docker").
	lines []string
	// undo are the host's own, afterwards.
	undo []string
	// whole shows everything that there is, not only what the lines made.
	whole bool
	// foreign is a table of somebody else's that is shown as well.
	foreign string
}

var scenarios = []scenario{
	{file: "default-bridge", title: "A fresh host: the default bridge", whole: true,
		about: "What is there before any container: the page, the host's forwarding, and the network that every\n`docker run` without --network uses."},
	{file: "container", title: "A container on the default bridge",
		about: "A network namespace, a wire to the bridge, an address and a default route. On the page one element\nsays where the address lives. Nothing is published: from outside nobody gets in.",
		lines: []string{"docker run -d --name web netprobe"}},
	{file: "published-port", title: "A published port",
		about: "One map element, whatever number of rules others would add: from any address of the host, and from\nthe host itself.",
		lines: []string{"docker run -d --name web -p 8080:9000 netprobe"}},
	{file: "published-on-an-address", title: "A port published on one address, and on loopback",
		about: "These are in the map with addresses. What is published on 127.0.0.1 is reached from the host alone.",
		lines: []string{"docker run -d --name web -p 192.168.99.31:8080:9000 -p 127.0.0.1:9090:9000/udp netprobe"}},
	{file: "published-range", title: "A published range",
		about: "The same numbers on both sides are one element of an interval map, however many they are. A shifted\nrange is one element for each port.",
		lines: []string{"docker run -d --name media -p 20000-20999:20000-20999/udp -p 7000-7002:9000-9002 netprobe"}},
	{file: "user-network", title: "A network of one's own, with names",
		about: "A bridge of its own; its containers find each other by name: the resolver at 127.0.0.11 is led to\nthe keeper's sockets by a table inside the container, which is declared as a redirect.",
		lines: []string{"docker network create shop", "docker run -d --name db --network shop netprobe"}},
	{file: "isolated-networks", title: "Two networks are apart",
		about: "Nothing is added for each pair of networks: a bridge that is not in `icc` with another is dropped by\nthe page's last rule for containers.",
		lines: []string{"docker network create front", "docker network create back", "docker run -d --name web --network front netprobe", "docker run -d --name db --network back netprobe"}},
	{file: "two-networks", title: "One container on two networks",
		about: "Two wires, one network namespace; the default route leads through the first network.",
		lines: []string{"docker network create front", "docker network create back", "docker run -d --name app --network front -p 8080:9000 netprobe", "docker network connect back app"}},
	{file: "icc-off", title: "Containers that do not reach each other, and a link",
		about: "The bridge is not in `icc`, and its switched packets pass the page (nf-call on the bridge). A link\nopens what its target exposes, and nothing else: one element of `holes4`.",
		lines: []string{"docker network create -o com.docker.network.bridge.enable_icc=false apart", "docker run -d --name db --network apart --expose 9000 netprobe", "docker run -d --name web --network apart --link db:database netprobe"}},
	{file: "internal", title: "An internal network",
		about: "It is not in `egress`, so that nothing leaves it; and of the host its containers see the gateway only.",
		lines: []string{"docker network create --internal vault", "docker run -d --name secret --network vault netprobe"}},
	{file: "ipv6", title: "A network with IPv6",
		about: "The second family has sets of its own; a port published on every address is published on both.",
		lines: []string{"docker network create --ipv6 --subnet 10.77.0.0/24 --subnet fd00:77::/64 six", "docker run -d --name web --network six --ip 10.77.0.10 --ip6 fd00:77::10 -p 8080:9000 netprobe"}},
	{file: "gateway-mode-routed", title: "Gateway mode routed",
		about: "No translation: who routes to the container's own address reaches its published ports, and may ping.",
		lines: []string{"docker network create -o com.docker.network.bridge.gateway_mode_ipv4=routed --subnet 10.92.0.0/24 lab", "docker run -d --name web --network lab -p 9000:9000 netprobe"}},
	{file: "gateway-mode-nat-unprotected", title: "Gateway mode nat-unprotected",
		about: "Published ports are translated, and every port is open by the container's own address.",
		lines: []string{"docker network create -o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected --subnet 10.91.0.0/24 open", "docker run -d --name web --network open -p 8080:9000 netprobe"}},
	{file: "gateway-mode-isolated", title: "Gateway mode isolated: a network without the host",
		about: "The bridge has no address: its containers have each other, and nobody else, not even the host.",
		lines: []string{"docker network create --internal -o com.docker.network.bridge.gateway_mode_ipv4=isolated --subnet 10.96.0.0/24 island", "docker run -d --name web --network island netprobe"}},
	{file: "trusted-interface", title: "An interface that is trusted with direct routing",
		about: "Who comes in by it, and routes to the container's own address, reaches its published ports; all\nothers use the host's address, as ever.",
		lines: []string{"docker network create -o com.docker.network.bridge.trusted_host_interfaces=wan0 --subnet 10.97.0.0/24 plant", "docker run -d --name web --network plant -p 8080:9000 netprobe"}},
	{file: "fixed-source-address", title: "A fixed source address",
		about: "What leaves the network carries the address that it was told, not the one that the route would give.\nOne endpoint can have another.",
		lines: []string{"ip addr add 60.191.82.107/24 dev wan0", "docker network create -o com.docker.network.host_ipv4=60.191.82.107 --subnet 10.93.0.0/24 billing",
			"docker run -d --name mailer --network billing netprobe", "docker run -d --name other --network name=billing,driver-opt=com.docker.network.host_ipv4=192.168.99.31 netprobe"},
		undo: []string{"ip addr del 60.191.82.107/24 dev wan0"}},
	{file: "no-masquerade", title: "A network without masquerading",
		about: "Containers leave with their own addresses; somebody must route the answers back.",
		lines: []string{"docker network create -o com.docker.network.bridge.enable_ip_masquerade=false --subnet 10.95.0.0/24 plain", "docker run -d --name web --network plain netprobe"}},
	{file: "borrowed-bridge", title: "A bridge that was there before",
		about: "It is neither made nor changed nor deleted. Others are on its wire too, so that each container has an\nelement of its own where other networks have one for the subnet.",
		lines: []string{"ip link add br0 type bridge", "ip addr add 10.94.0.1/24 dev br0", "ip link set br0 up",
			"docker network create -o com.docker.network.bridge.name=br0 --subnet 10.94.0.0/24 --gateway 10.94.0.1 lan", "docker run -d --name web --network lan -p 8080:9000 netprobe"},
		undo: []string{"ip link del br0"}},
	{file: "host-firewall", title: "A host with a firewall of its own", foreign: "inet filter",
		about: "Another table's chains see the same packets, and what they drop is dropped: an accept of ours does\nnot overrule it (nft(8): every base chain of a hook has its say). Nothing of it is touched. Here the\nhost's firewall lets forwarded packets pass only where they were translated.",
		lines: []string{"nft add table inet filter", "nft add chain inet filter forward { type filter hook forward priority 10; policy drop; }",
			"nft add rule inet filter forward ct state established,related accept", "nft add rule inet filter forward ct status dnat accept", "docker run -d --name web -p 8080:9000 netprobe"},
		undo: []string{"nft delete table inet filter"}},
	{file: "shared-stack", title: "A container in another's network stack",
		about: "It adds nothing: it is in the same network namespace.",
		lines: []string{"docker run -d --name web -p 8080:9000 netprobe", "docker run -d --name helper --network container:web busybox sleep 600"}},
	{file: "host-network", title: "A container on the host's network",
		about: "Nothing is made, and nothing is on the page: what it listens on is the host's.",
		lines: []string{"docker run -d --name agent --network host busybox sleep 600"}},
}
