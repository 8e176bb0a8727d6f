package why

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
	"linkspan/dataplane/ruleset"
)

// situation is a world in which something is wrong, and what is to be said of it.
type situation struct {
	name     string
	make     func(*world)
	from, to string
	code     Code
	says     string // part of the sentence
	cure     string // the whole command; "-": none, and there is advice
}

func all(ruleset.Packet) bool { return true }

func situations() []situation {
	icc := func(w *world) { w.network("shop").Options["com.docker.network.bridge.enable_icc"] = "false" }
	return []situation{
		// What is declared.
		{"no shared network", func(*world) {}, "web", "other:80", NoSharedNetwork, "web (on shop) and other (on backend)", "linkspan network connect backend web"},
		{"the default network", func(*world) {}, "web", "pub:80", NoSharedNetwork, "on no network in common", "linkspan network connect shop pub"},
		{"another network's address", func(w *world) { second(w, "db", "backend", "172.21.0.9") }, "web", "172.21.0.9:5432", NoSharedNetwork, "which web is not on; on shop it has 172.20.0.3", "linkspan network connect backend web"},
		{"icc off", func(w *world) {
			icc(w)
			w.rules = append(w.rules, rule{hook: "forward", when: all, verdict: "drop", hit: ruleset.Hit{Family: "inet", Table: table, Chain: "drop_icc_off"}})
			w.sysctls[" net/bridge/bridge-nf-call-iptables"] = "1"
		}, "web", "db:5432", ICCOff, "network shop keeps its containers apart", "linkspan network create web-db && linkspan network connect web-db web && linkspan network connect web-db db && linkspan network disconnect shop web"},
		{"internal", func(w *world) { internal(w, "shop", "web") }, "web", "outside", Internal, "network shop is internal", "linkspan network connect bridge web"},
		{"isolated", func(w *world) {
			internal(w, "shop", "web")
			w.network("shop").Options["com.docker.network.bridge.gateway_mode_ipv4"] = "isolated"
			w.link("", "br-shop").Addrs = nil
		}, "web", "host", Isolated, "the host has no address on it", "linkspan network connect bridge web"},
		{"unpublished", func(*world) {}, "outside", "db:5432", Unpublished, "db does not publish port 5432/tcp", "-"},
		{"unpublished, of several", func(*world) {}, "outside", "pub:443", Unpublished, "it publishes 80/tcp (as port 8080/tcp on every address)", "-"},
		{"unpublished, by its address", func(*world) {}, "outside", "172.17.0.2:80", Unpublished, "does not publish port 80/tcp", "-"},
		{"published on loopback only", func(w *world) { w.sandbox("pub").Ports = w.sandbox("pub").Ports[1:] }, "outside", "pub:80", PublishedElsewhere, "port 8081/tcp on 127.0.0.1", "-"},
		{"the host's port on loopback only", func(*world) {}, "web", "host:8081", PublishedElsewhere, "127.0.0.1 leads to pub there only", "-"},
		{"another protocol", func(w *world) { w.rules = nil }, "outside", "host:8080/udp", PublishedElsewhere, "port 8080/udp is not published", "-"},
		{"no IPv6", func(*world) {}, "web", "[2001:db8::9]:80", NoAddressFamily, "web has no IPv6 address", "-"},

		// Names.
		{"nobody", func(*world) {}, "web", "wbe:80", NoSuchName, "did you mean web?", "-"},
		{"an alias elsewhere", func(w *world) { w.sandbox("other").Endpoints[0].Aliases = []string{"store"} }, "web", "store:80", DNSNameElsewhere, "store is a name of other on network backend", "linkspan network connect backend web"},
		{"nobody's address", func(*world) {}, "web", "172.20.0.77", NoSuchName, "172.20.0.77 is in network shop's subnet, and no container has it", "-"},
		{"hosts file", func(w *world) { w.files["101 /etc/hosts"] += "10.9.9.9 db\n" }, "web", "db:5432", DNSWrong, "db is 10.9.9.9 (line 3)",
			`h=$(sed 3d /proc/101/root/etc/hosts) && printf '%s\n' "$h" >/proc/101/root/etc/hosts`},
		{"resolv.conf", func(w *world) { w.files["101 /etc/resolv.conf"] = "nameserver 9.9.9.9\n" }, "web", "db:5432", DNSWrong, "asks 9.9.9.9",
			`printf 'nameserver 127.0.0.11\noptions ndots:0\n' >/proc/101/root/etc/resolv.conf`},
		{"no resolver", func(w *world) { w.socks["/ns/web"] = nil }, "web", "db:5432", DNSWrong, "no resolver listens at 127.0.0.11 in web", "linkspan reconcile"},
		{"walled off resolver", func(w *world) {
			w.drop("/ns/web", "output", "OUTPUT", "udp dport 53 drop", func(p ruleset.Packet) bool { return p.DstPort == 53 })
		}, "web", "db:5432", DNSWrong, "keeps it from the resolver 127.0.0.11: table ip filter, chain OUTPUT", "nsenter --net=/ns/web iptables-nft -I OUTPUT -d 127.0.0.11 -p udp --dport 53 -j ACCEPT"},

		// Containers.
		{"stopped", func(*world) {}, "web", "gone:80", NotRunning, "gone does not run (exited with code 137)", "linkspan start gone"},
		{"crashed", func(w *world) { w.container("gone").ExitCode = 1 }, "web", "gone:80", NotRunning, "code 1", "-"},
		{"paused", func(w *world) { w.container("db").State = "paused" }, "web", "db:5432", Paused, "db is paused", "linkspan unpause db"},
		{"paused, published", func(w *world) { w.container("pub").State = "paused" }, "outside", "host:8080", Paused, "pub is paused", "linkspan unpause pub"},
		{"port taken", func(w *world) {
			w.container("gone").Published = []cnm.PublishedPort{{Proto: "tcp", HostPort: 5432, HostPortEnd: 5432, Port: 5432}}
			w.listen("", "tcp 0.0.0.0:5432", 77)
		}, "outside", "gone:5432", PortTaken, "its host port 5432/tcp is held by server (pid 77)", "kill 77 && linkspan start gone"},

		// Programs.
		{"nobody listens", func(w *world) { w.deaf("db") }, "web", "db:5432", NotListening, "nor on any other port", "-"},
		{"another port", func(*world) {}, "web", "db:5433", ListensElsewhere, "nobody listens on 5433/tcp in db; open are 5432/tcp", "-"},
		{"another protocol inside", func(*world) {}, "web", "db:5432/udp", ListensElsewhere, "on 5432/tcp somebody does", "-"},
		{"on loopback", func(w *world) { w.deaf("db"); w.listen("db", "tcp 127.0.0.1:5432", 1) }, "web", "db:5432", ListensLoopback, "db listens on 5432/tcp only on 127.0.0.1", "-"},
		{"IPv6 only", func(w *world) {
			w.deaf("db")
			w.listen("db", "tcp [::]:5432", 1)
			w.socks["/ns/db"][1].V6Only = true
		}, "web", "db:5432", ListensElsewhere, "by IPv6 only", "-"},
		{"stopped program", func(w *world) { w.stopped[2000] = true }, "web", "db:5432", NotAccepting, "server (pid 2000) listens", "kill -CONT 2000"},
		{"full queue", func(w *world) { w.socks["/ns/db"][1].Queue = 129 }, "web", "db:5432", NotAccepting, "129 wait, and only 128 may", "-"},

		// Firewalls.
		{"host's policy", func(w *world) {
			w.drop("", "forward", "FORWARD", "policy drop", all)
			w.rules[len(w.rules)-1].hit.Policy = true
		}, "outside", "pub:80", HostFirewall, "table ip filter, chain FORWARD of iptables, its policy", "iptables-nft -I FORWARD -d 172.17.0.2 -p tcp --dport 80 -j ACCEPT && iptables-nft -I FORWARD -s 172.17.0.2 -p tcp --sport 80 -m conntrack --ctstate ESTABLISHED -j ACCEPT"},
		{"rule for two", func(w *world) { w.drop("", "forward", "FORWARD", "drop", all) }, "outside:198.51.100.7", "pub:80", HostFirewall, "from 198.51.100.7 to pub", "iptables-nft -I FORWARD -s 198.51.100.7 -d 172.17.0.2 -p tcp --dport 80 -j ACCEPT && iptables-nft -I FORWARD -s 172.17.0.2 -d 198.51.100.7 -p tcp --sport 80 -m conntrack --ctstate ESTABLISHED -j ACCEPT"},
		{"the answer's way", func(w *world) {
			w.drop("", "forward", "FORWARD", "drop", func(p ruleset.Packet) bool { return p.Reply })
		}, "outside:198.51.100.7", "pub:80", HostFirewall, "the answers of pub to 198.51.100.7", "iptables-nft -I FORWARD -s 172.17.0.2 -d 198.51.100.7 -p tcp --sport 80 -m conntrack --ctstate ESTABLISHED -j ACCEPT"},
		{"legacy", func(w *world) {
			w.drop("", "forward", "FORWARD", "-j DROP", all)
			w.rules[len(w.rules)-1].hit.Legacy = true
		}, "outside:198.51.100.7", "pub:80", HostFirewall, "FORWARD of iptables (legacy)", "iptables-legacy -I FORWARD -s 198.51.100.7 -d 172.17.0.2 -p tcp --dport 80 -j ACCEPT && iptables-legacy -I FORWARD -s 172.17.0.2 -d 198.51.100.7 -p tcp --sport 80 -m conntrack --ctstate ESTABLISHED -j ACCEPT"},
		{"bridge family", func(w *world) {
			w.drop("", "forward", "f", "drop", all)
			r := &w.rules[len(w.rules)-1]
			r.family, r.hit.Family = "bridge", "bridge"
		}, "web", "db:5432", HostFirewall, "table bridge filter, chain f", "nft insert rule bridge filter f handle 5 ip saddr 172.20.0.2 ip daddr 172.20.0.3 tcp dport 5432 accept && nft insert rule bridge filter f handle 5 ip saddr 172.20.0.3 ip daddr 172.20.0.2 tcp sport 5432 accept"},
		{"ARP", func(w *world) {
			w.drop("/ns/db", "input", "a", "drop", all)
			r := &w.rules[len(w.rules)-1]
			r.family, r.hit.Family = "arp", "arp"
		}, "web", "db:5432", ContainerFirewall, "from finding the hardware address of 172.20.0.3", "nsenter --net=/ns/db nft insert rule arp filter a handle 5 arp daddr ip 172.20.0.3 accept"},
		{"a chain that questions pass alone", func(w *world) {
			w.drop("", "forward", "guard", "tcp dport 80 drop", func(p ruleset.Packet) bool { return p.DstPort == 80 })
		}, "outside", "pub:80", HostFirewall, "from outside to pub", "nft insert rule ip filter guard handle 5 ip daddr 172.17.0.2 tcp dport 80 accept"},
		{"a policy of nft's, ping", func(w *world) {
			w.drop("", "forward", "guard", "policy drop", all)
			w.rules[len(w.rules)-1].hit.Policy = true
			w.rules[len(w.rules)-1].hit.Family = "inet"
		}, "web", "203.0.113.9", HostFirewall, "from web to 203.0.113.9", "nft insert rule inet filter guard ip saddr 172.20.0.2 ip daddr 203.0.113.9 meta l4proto icmp accept && nft insert rule inet filter guard ip saddr 203.0.113.9 ip daddr 172.20.0.2 meta l4proto icmp ct state established accept"},
		{"refused as a duplicate", func(w *world) {
			w.link("/ns/db", "eth0").Tentative = []netip.Addr{addr("172.20.0.3")}
		}, "web", "db:5432", AddressConflict, "db's address 172.20.0.3 on eth0 is not used", "nsenter --net=/ns/db ip addr del 172.20.0.3/16 dev eth0 && nsenter --net=/ns/db ip addr add 172.20.0.3/16 dev eth0 nodad"},
		{"inside B", func(w *world) { w.drop("/ns/db", "input", "INPUT", "drop", all) }, "web", "db:5432", ContainerFirewall, "a firewall inside db drops what goes from web to db", "nsenter --net=/ns/db iptables-nft -I INPUT -s 172.20.0.2 -d 172.20.0.3 -p tcp --dport 5432 -j ACCEPT"},
		{"NAT of others", func(w *world) {
			w.rules = append([]rule{{hook: "prerouting", when: func(p ruleset.Packet) bool { return p.DstPort == 8080 && p.State == "new" }, to: ap("192.0.2.99:1"), hit: ruleset.Hit{Family: "ip", Table: "z", Chain: "p", Handle: 3, Text: "dnat"}}}, w.rules...)
		}, "outside", "pub:80", ForeignNAT, "table ip z, chain p, sends what goes to 192.0.2.10:8080/tcp to 192.0.2.99:1/tcp instead", "nft delete rule ip z p handle 3"},
		{"NAT to where nobody listens", func(w *world) {
			w.rules = append(w.rules, rule{ns: "/ns/db", hook: "prerouting", when: func(p ruleset.Packet) bool { return p.State == "new" }, to: ap("172.20.0.3:81"), hit: ruleset.Hit{Family: "ip", Table: "z", Chain: "p", Handle: 3}})
		}, "web", "db:5432", ForeignNAT, "db's table ip z", "nsenter --net=/ns/db nft delete rule ip z p handle 3"},
		{"page without a port", func(w *world) { w.rules = w.rules[1:] }, "outside", "pub:80", OwnPageDamaged, "port 8080/tcp on every address leads to port 80 of pub, but the host keeps", "linkspan reconcile"},
		{"page without masquerading", func(w *world) { w.rules = append(w.rules[:3:3], w.rules[4:]...) }, "web", "outside", OwnPageDamaged, "element 172.20.0.0/16 of set masquerade4", "linkspan reconcile"},
		{"page that drops", func(w *world) {
			w.rules = append(w.rules, rule{hook: "forward", when: all, verdict: "drop", hit: ruleset.Hit{Family: "inet", Table: table, Chain: "drop_internal"}})
		}, "web", "outside", OwnPageDamaged, "although it is declared that it passes", "linkspan reconcile"},

		// Routes and parameters.
		{"no default route", func(w *world) { w.routes["/ns/web"] = w.routes["/ns/web"][1:] }, "web", "outside", NoRoute, "its default route via 172.20.0.1 on eth0 is gone", "nsenter --net=/ns/web ip route add default via 172.20.0.1 dev eth0"},
		{"no way back", func(w *world) { w.routes["/ns/pub"] = w.routes["/ns/pub"][1:] }, "outside", "pub:80", NoRoute, "pub has no route to 203.0.113.1", "nsenter --net=/ns/pub ip route add default via 172.17.0.1 dev eth0"},
		{"blackhole", func(w *world) {
			w.routes["/ns/web"] = append(w.routes["/ns/web"], reading.Route{Dst: pre("172.20.0.3/32"), Type: "blackhole", Table: 254})
		}, "web", "db:5432", NoRoute, "web's route blackhole 172.20.0.3/32", "nsenter --net=/ns/web ip route del blackhole 172.20.0.3/32"},
		{"a policy rule", func(w *world) {
			w.routes[""] = append(w.routes[""], reading.Route{Dst: pre("172.20.0.3/32"), Type: "rule prohibit", Metric: 99})
		}, "host", "db:5432", NoRoute, "the host's policy rule 99 refuses", "ip rule del pref 99"},
		{"a VPN's route", func(w *world) {
			w.routes[""] = append(w.routes[""], reading.Route{Dst: pre("172.20.0.0/24"), Gateway: addr("192.0.2.77"), Link: "eth0", Table: 254, Type: "unicast"})
		}, "host", "db:5432", WrongRoute, "the host's route 172.20.0.0/24 via 192.0.2.77 dev eth0 takes what goes to 172.20.0.3 away from br-shop", "ip route del 172.20.0.0/24 via 192.0.2.77 dev eth0"},
		{"another source", func(w *world) {
			w.routes["/ns/web"][1].Src = addr("10.99.9.9")
			l := w.link("/ns/web", "eth0")
			l.Addrs = append(l.Addrs, pre("10.99.9.9/32"))
		}, "web", "db:5432", WrongRoute, "from 10.99.9.9, which is not its address on shop (172.20.0.2)", "nsenter --net=/ns/web ip route change 172.20.0.0/16 dev eth0 src 172.20.0.2"},
		{"forwarding", func(w *world) {
			w.sysctls[" net/ipv4/ip_forward"], w.sysctls[" net/ipv4/conf/br-shop/forwarding"] = "0", "0"
		}, "web", "outside", ForwardingOff, "net.ipv4.ip_forward=0", "sysctl -w net.ipv4.ip_forward=1"},
		{"reverse path", func(w *world) { w.martian = true; w.sysctls[" net/ipv4/conf/eth0/rp_filter"] = "1" }, "outside", "pub:80", RPFilter, "by eth0", "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
		{"connections are full", func(w *world) {
			w.sysctls[" net/netfilter/nf_conntrack_count"], w.sysctls[" net/netfilter/nf_conntrack_max"] = "65536", "65536"
		}, "outside", "pub:80", ConntrackFull, "65536 of 65536", "sysctl -w net.netfilter.nf_conntrack_max=131072"},
		{"stale connection", staleFlow, "outside:198.51.100.7", "host:8080/udp", ConntrackStale, "on to the host itself, and not to 172.17.0.2:80", "conntrack -D -p udp --orig-src 198.51.100.7 --orig-dst 192.0.2.10 --orig-port-dst 8080"},

		// Links, addresses, neighbours.
		{"down inside", func(w *world) { w.link("/ns/web", "eth0").Up = false }, "web", "db:5432", LinkDown, "web's interface eth0 is down", "nsenter --net=/ns/web ip link set eth0 up && nsenter --net=/ns/web ip route replace default via 172.20.0.1 dev eth0"},
		{"host's end down", func(w *world) { w.link("", "vethdb").Up = false }, "web", "db:5432", LinkDown, "the host's end vethdb of db's wire", "linkspan reconcile"},
		{"host's end gone", func(w *world) { w.unlink("", "vethdb") }, "web", "db:5432", LinkMissing, "vethdb of db's wire to network shop is gone", "linkspan reconcile"},
		{"gone inside", func(w *world) { w.unlink("/ns/db", "eth0") }, "web", "db:5432", LinkMissing, "db's interface eth0 (on network shop) is gone", "linkspan reconcile"},
		{"out of the bridge", func(w *world) { w.link("", "vethdb").Master = "br0" }, "web", "db:5432", WrongMaster, "a port of br0; it belongs to br-shop", "linkspan reconcile"},
		{"bridge gone", func(w *world) { w.unlink("", "br-shop") }, "web", "db:5432", LinkMissing, "the bridge br-shop of network shop is gone", "linkspan reconcile"},
		{"bridge down", func(w *world) { w.link("", "br-shop").Up = false }, "web", "db:5432", LinkDown, "the bridge br-shop", "linkspan reconcile"},
		{"bridge's address gone", func(w *world) { w.link("", "br-shop").Addrs = nil }, "web", "outside", AddressMissing, "has lost its address 172.20.0.1/16", "linkspan reconcile"},
		{"port blocked", func(w *world) { w.link("", "vethdb").Port.State = "blocking" }, "web", "db:5432", PortBlocked, "by port vethdb (db's wire): it is blocking", "bridge link set dev vethdb state 3"},
		{"isolated ports", func(w *world) { w.link("", "vethdb").Port.Isolated, w.link("", "vethweb").Port.Isolated = true, true }, "web", "db:5432", PortBlocked, "vethweb and vethdb apart", "bridge link set dev vethdb isolated off"},
		{"uplink down", func(w *world) { w.link("", "eth0").Carrier = false }, "web", "outside", LinkDown, "eth0, by which 203.0.113.1 is reached, has no carrier", "-"},
		{"address gone", func(w *world) { w.link("/ns/db", "eth0").Addrs = nil }, "web", "db:5432", AddressMissing, "db's interface eth0 has lost its address 172.20.0.3/16", "nsenter --net=/ns/db ip addr replace 172.20.0.3/16 dev eth0 && nsenter --net=/ns/db ip route replace default via 172.20.0.1 dev eth0"},
		{"two have it", func(w *world) {
			w.box("twin", "shop", "172.20.0.9")
			l := w.link("/ns/twin", "eth0")
			l.Addrs = append(l.Addrs, pre("172.20.0.3/16"))
		}, "web", "db:5432", AddressConflict, "db and twin both have 172.20.0.3", "nsenter --net=/ns/twin ip addr del 172.20.0.3/16 dev eth0 && ip neigh flush dev br-shop && nsenter --net=/ns/web ip neigh flush to 172.20.0.3"},
		{"twins", func(w *world) {
			w.box("twin", "shop", "172.20.0.9")
			w.link("/ns/twin", "eth0").MAC = w.link("/ns/db", "eth0").MAC
		}, "web", "db:5432", AddressConflict, "the same hardware address 02:42:ac:14:00:03", "nsenter --net=/ns/twin ip link set eth0 address 02:42:ac:14:00:09"},
		{"the host has it", func(w *world) {
			l := w.link("", "lo")
			l.Addrs = append(l.Addrs, pre("172.20.0.3/32"))
		}, "host", "db:5432", AddressConflict, "the host itself has 172.20.0.3 (on lo)", "ip addr del 172.20.0.3/32 dev lo"},
		{"pinned neighbour", func(w *world) {
			w.neigh["/ns/web"] = []reading.Neighbour{{Link: "eth0", Addr: addr("172.20.0.3"), MAC: "02:00:00:00:00:99", State: "permanent"}}
		}, "web", "db:5432", StaleNeighbour, "172.20.0.3 is at 02:00:00:00:00:99 (permanent)", "nsenter --net=/ns/web ip neigh del 172.20.0.3 dev eth0"},
		{"arp off", func(w *world) { w.link("/ns/db", "eth0").NoARP = true }, "web", "db:5432", NeighbourFailed, "db's interface eth0 neither asks nor answers", "nsenter --net=/ns/db ip link set eth0 arp on"},
		{"arp_ignore", func(w *world) { w.sysctls["/ns/db net/ipv4/conf/all/arp_ignore"] = "8" }, "web", "db:5432", NeighbourFailed, "arp_ignore=8", "nsenter --net=/ns/db sysctl -w net.ipv4.conf.all.arp_ignore=0"},
		{"forwarding table", func(w *world) {
			w.entries = append(w.entries, reading.FDBEntry{MAC: "02:42:ac:14:00:03", Link: "vethweb", Bridge: "br-shop", Static: true})
		}, "web", "db:5432", FDBWrong, "to port vethweb, by a static entry", "bridge fdb del 02:42:ac:14:00:03 dev vethweb master"},
		{"gateway", func(w *world) {
			w.neigh[""] = []reading.Neighbour{{Link: "eth0", Addr: addr("192.0.2.1"), State: "failed", Updated: time.Second}}
		}, "web", "outside", GatewayUnreachable, "192.0.2.1, by which 203.0.113.1 is reached, does not answer on eth0", "-"},
		{"small port", func(w *world) { w.link("", "vethdb").MTU = 1300 }, "web", "db:5432", MTU, "the host's interface vethdb carries no more, web sends up to 1500", "linkspan reconcile"},
		{"too large inside", func(w *world) { w.link("/ns/web", "eth0").MTU, w.link("/ns/db", "eth0").MTU = 9000, 9000 }, "web", "db:5432", MTU, "web sends up to 9000", "nsenter --net=/ns/web ip link set eth0 mtu 1500"},
		{"black hole", func(w *world) {
			w.link("", "eth0").MTU = 1400
			w.drop("", "output", "OUTPUT", "icmp drop", func(p ruleset.Packet) bool { return p.ICMPType == 3 })
		}, "web", "outside", MTU, "more than 1400 bytes are lost on eth0", "nft insert rule ip filter OUTPUT handle 5 icmp type destination-unreachable accept"},
	}
}

// second connects a box to another network, without telling its kernel.
func second(w *world, box, network, ip string) {
	s, n := w.sandbox(box), w.network(network)
	s.Endpoints = append(s.Endpoints, cnm.Endpoint{ID: "e2" + box, NetworkID: n.ID, NetworkName: n.Name, IfName: "eth1", HostIf: "veth2" + box,
		Addrs: []netip.Prefix{netip.PrefixFrom(addr(ip), 16)}})
}

// internal makes a network one, as its containers have it.
func internal(w *world, network, box string) {
	w.network(network).Internal = true
	w.sandbox(box).Endpoints[0].Gateways = nil
	w.routes["/ns/"+box] = w.routes["/ns/"+box][1:]
}

func staleFlow(w *world) {
	pub := w.sandbox("pub")
	pub.Ports = append(pub.Ports, cnm.PublishedPort{Proto: "udp", HostPort: 8080, HostPortEnd: 8080, Port: 80})
	w.listen("pub", "udp 0.0.0.0:80", 0)
	w.flows = []reading.Flow{{Proto: "udp", Original: reading.Tuple{Src: ap("198.51.100.7:4000"), Dst: ap("192.0.2.10:8080")},
		Reply: reading.Tuple{Src: ap("192.0.2.10:8080"), Dst: ap("198.51.100.7:4000")}}}
}

func TestSituations(t *testing.T) {
	for _, s := range situations() {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld()
			s.make(w)
			a := w.ask(t, s.from, s.to)
			cure := s.cure
			if cure == "-" {
				cure = ""
			}
			if a.Code != s.code || !strings.Contains(a.Sentence, s.says) || a.Cure != cure || a.Verdict != Blocked || a.ExitCode() != 2 {
				t.Errorf("why %s %s\n%s: %s\ncure   %s\nwant\n%s: …%s…\ncure   %s\n%s", s.from, s.to, a.Code, a.Sentence, a.Cure, s.code, s.says, cure, steps(a))
			}
			if s.cure == "-" && a.Advice == "" {
				t.Errorf("%s: neither cure nor advice", a.Sentence)
			}
			if !strings.HasSuffix(a.Sentence, ".") && !strings.HasSuffix(a.Sentence, "?") && a.Rule == nil || strings.Contains(a.Sentence+a.Cure+a.Advice, "%!") {
				t.Errorf("no sentence: %q %q %q", a.Sentence, a.Cure, a.Advice)
			}
		})
	}
}

// TestMeshDrops: what our table drops of tunnels is told by its own code.
func TestMeshDrops(t *testing.T) {
	for chain, code := range map[string]Code{"drop_not_a_peer": NotAPeer, "drop_plain_text": PlainText} {
		c := (&walk{}).ownRule(packet{}, &Rule{Chain: chain, Table: "linkspan_1"}, "drops")
		if c.code != code || !strings.Contains(c.sentence, "Linkspan drops it") || !strings.Contains(c.advice, "linkspan mesh status") || c.rule == nil {
			t.Errorf("%s: %+v", chain, c)
		}
	}
}

func steps(a *Answer) string {
	var b strings.Builder
	for _, s := range a.Steps {
		fmt.Fprintf(&b, "  %s %s %s: %s %s\n", s.Part, s.Where, s.Look, s.Found, s.State)
	}
	return b.String()
}

// TestCodes: every code means something, and is said of something here or in test/faults.
func TestCodes(t *testing.T) {
	said := map[Code]bool{OK: true, Unknown: true, ProbeDisagrees: true, Unhealthy: true, NamespaceMissing: true, SysctlChanged: true,
		NotAPeer: true, PlainText: true, NotAsked: true} // TestMeshDrops, TestOurs
	for _, s := range situations() {
		said[s.code] = true
	}
	for _, s := range acrosses() {
		said[s.code] = true
	}
	for _, m := range Meanings {
		if !said[m.Code] {
			t.Errorf("%s is said of nothing", m.Code)
		}
		delete(said, m.Code)
		if !strings.HasSuffix(m.Text, ".") {
			t.Errorf("%s: %q", m.Code, m.Text)
		}
	}
	for c := range said {
		t.Errorf("%s has no meaning", c)
	}
}

// TestOtherFamily: who works by IPv4 and not by IPv6 works, and is told.
func TestOtherFamily(t *testing.T) {
	six := func() *world {
		w := newWorld()
		for box, ip := range map[string]string{"web": "fd00::2/64", "db": "fd00::3/64"} {
			e := &w.sandbox(box).Endpoints[0]
			e.Addrs = append(e.Addrs, pre(ip))
			l := w.link("/ns/"+box, "eth0")
			l.Addrs = append(l.Addrs, pre(ip))
			w.routes["/ns/"+box] = append(w.routes["/ns/"+box], reading.Route{Dst: pre("fd00::/64"), Link: "eth0", Src: pre(ip).Addr(), Type: "unicast"})
		}
		w.deaf("db")
		w.listen("db", "tcp [::]:5432", 1)
		return w
	}
	if a := six().ask(t, "web", "db:5432"); a.Code != OK || len(a.Notes) != 0 || !strings.Contains(steps(a), "reaches fd00::3 too") {
		t.Errorf("%s %+v\n%s", a.Code, a.Notes, steps(a))
	}
	w := six()
	w.neigh["/ns/web"] = []reading.Neighbour{{Link: "eth0", Addr: addr("fd00::3"), MAC: "02:00:00:00:00:99", State: "permanent"}}
	a := w.ask(t, "web", "db:5432")
	if a.Code != OK || len(a.Notes) != 1 || a.Notes[0].Code != StaleNeighbour || a.Notes[0].Cure != "nsenter --net=/ns/web ip neigh del fd00::3 dev eth0" {
		t.Errorf("%s %+v", a.Code, a.Notes)
	}
	if a := w.ask(t, "web", "[fd00::3]:5432"); a.Code != StaleNeighbour {
		t.Errorf("asked by IPv6: %s", a.Code)
	}
}

// TestUnknown: what cannot be read is never taken for well.
func TestUnknown(t *testing.T) {
	broken := errors.New("permission denied")
	for what, from := range map[string][2]string{"rules ": {"outside", "pub:80"}, "rules /ns/db": {"web", "db:5432"}, "sockets /ns/db": {"web", "db:5432"}, "links ": {"web", "db:5432"}, "neighbours /ns/web": {"web", "db:5432"}} {
		t.Run(what, func(t *testing.T) {
			w := newWorld()
			w.fails[what] = broken
			a := w.ask(t, from[0], from[1])
			if a.Verdict != Unsure || a.Code != Unknown || a.ExitCode() != 1 || len(a.Missing) == 0 || !strings.Contains(a.Missing[0], "permission denied") {
				t.Errorf("%s: %s, missing %q", a.Code, a.Sentence, a.Missing)
			}
		})
	}
	t.Run("and yet no", func(t *testing.T) {
		w := newWorld()
		w.fails["rules /ns/db"] = broken
		w.deaf("db")
		if a := w.ask(t, "web", "db:5432"); a.Code != NotListening || a.ExitCode() != 2 {
			t.Errorf("%s: %s", a.Code, a.Sentence)
		}
	})
	t.Run("no masquerading", func(t *testing.T) {
		w := newWorld()
		w.rules, w.objects = append(w.rules[:3:3], w.rules[4:]...), w.objects[:0]
		if a := w.ask(t, "web", "203.0.113.9:80"); a.ExitCode() != 1 || !strings.Contains(a.Missing[0], "a route back") {
			t.Errorf("%s: %s %q", a.Code, a.Sentence, a.Missing)
		}
	})
	t.Run("filters of tc", func(t *testing.T) {
		w := newWorld()
		w.link("", "vethweb").Filters = []string{"tc ingress"}
		a := w.ask(t, "web", "db:5432")
		if a.ExitCode() != 1 || len(a.Missing) != 1 || !strings.Contains(a.Sentence, "vethweb has filters that are not read (tc ingress)") || !strings.Contains(a.Advice, "--probe") {
			t.Errorf("%s: %s %q", a.Code, a.Sentence, a.Missing)
		}
		if a := w.ask(t, "web", "db:5432", func(o *Options) { o.Probe = heard{ProbeAnswer: ProbeAnswer{Heard: "SYN-ACK", Answered: true}} }); a.Code != OK {
			t.Errorf("probed: %s", a.Code)
		}
	})
	t.Run("an old failure of the gateway", func(t *testing.T) {
		w := newWorld()
		w.neigh[""] = []reading.Neighbour{{Link: "eth0", Addr: addr("192.0.2.1"), State: "failed", Updated: time.Hour}}
		if a := w.ask(t, "web", "outside"); a.ExitCode() != 1 || !strings.Contains(a.Missing[0], "192.0.2.1") {
			t.Errorf("%s: %s %q", a.Code, a.Sentence, a.Missing)
		}
	})
}
