package faults

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// pair is one A that reaches B; `why` must say so.
type pair struct {
	name  string
	setup string
	undo  string
	a, b  string
	try   string // as in fault
	note  string // what must be noted besides
}

// healthyPairs are ways that work, also beside what looks suspicious.
func healthyPairs() []pair {
	const noWall = "nft delete table inet wall"
	return []pair{
		{name: "a network, by name", a: "ann", b: "bob:80"},
		{name: "by short id", a: "ann", b: "$id_bob:80"},
		{name: "by address", a: "ann", b: "$ip_bob:80"},
		{name: "udp", a: "ann", b: "bob:80/udp"},
		{name: "by alias", setup: "run xav --network n --network-alias database", a: "ann", b: "database:80"},
		{name: "static address", setup: "run xav --network n --ip 10.71.0.77", a: "ann", b: "10.71.0.77:80"},
		{name: "the default bridge", a: "eve", b: "fay:80", try: "tcp/$ip_fay:80", note: "name"},
		{name: "a link", setup: "run xav --link fay:db", a: "xav", b: "db:80"},
		{name: "published, from outside", a: "outside", b: "$H:8080"},
		{name: "published, by the container's name", a: "outside", b: "bob:80", try: "tcp/$H:8080"},
		{name: "published, udp", a: "outside", b: "$H:8080/udp"},
		{name: "published, from the host", a: "host", b: "$H:8080"},
		{name: "published on loopback", a: "host", b: "127.0.0.1:8081"},
		{name: "published on ::1", a: "host", b: "[::1]:8095"},
		{name: "published, IPv6", a: "outside", b: "[$H6]:8095"},
		{name: "published, hairpin", a: "bob", b: "$H:8080"},
		{name: "published, from another network", a: "cat", b: "$H:8080"},
		{name: "published range", setup: "run xav --network n -p 8100-8109:75-84", a: "outside", b: "$H:8105"},
		{name: "published, same range", setup: "make xav --network n -p 8110-8119:8110-8119 netprobe serve tcp/:8115; serves xav", a: "outside", b: "$H:8115"},
		{name: "outside, by NAT", a: "ann", b: "$M:80"},
		{name: "outside, by IPv6", a: "gil", b: "[$M6]:80"},
		{name: "host network", setup: "make xav --network host netprobe serve tcp/:8120; serves xav", undo: "", a: "outside", b: "xav:8120", try: "tcp/$H:8120"},
		{name: "from the host network", setup: "make xav --network host netprobe serve tcp/:8120", a: "xav", b: "bob:80", try: "tcp/$ip_bob:80"},
		{name: "container's network", setup: "make xav --network container:bob netprobe serve tcp/:8121", a: "ann", b: "xav:8121", try: "tcp/bob:8121"},
		{name: "each other on one stack", setup: "make xav --network container:bob netprobe serve tcp/:8121", a: "xav", b: "127.0.0.1:80"},
		{name: "two networks", setup: "run xav --network n; docker network connect m xav", a: "xav", b: "cat:80"},
		{name: "internal peers", setup: "net inner --internal; run xav --network inner; run yan --network inner", a: "xav", b: "yan:80"},
		{name: "IPv6 peers", a: "hal", b: "[$ip6_gil]:80"},
		{name: "IPv6 only", setup: "net only6 --ipv4=false --ipv6 --subnet fd77::/64; run xav --network only6; run yan --network only6", a: "yan", b: "xav:80"},
		{name: "host to container", a: "host", b: "bob:80", try: "tcp/$ip_bob:80"},
		{name: "container to its gateway", a: "ann", b: "10.71.0.1:90"},
		{name: "container to host", a: "ann", b: "host:90", try: "tcp/10.71.0.1:90"},
		{name: "host.docker.internal", a: "ann", b: "host.docker.internal:90"},
		{name: "itself", a: "ann", b: "ann:80"},
		{name: "routed", setup: "net r --subnet 10.73.0.0/24 -o com.docker.network.bridge.gateway_mode_ipv4=routed; run xav --network r -p 80; machine ip route add 10.73.0.0/24 via $H",
			undo: "machine ip route del 10.73.0.0/24", a: "outside", b: "$ip_xav:80"},
		{name: "icc off, from the host", setup: "net shut -o com.docker.network.bridge.enable_icc=false; run xav --network shut", a: "host", b: "xav:80", try: "tcp/$ip_xav:80"},
		{name: "an innocent firewall", setup: "nft 'table inet wall { chain c { type filter hook forward priority 5; policy accept; tcp dport { 22, 25 } drop; ip saddr 203.0.113.0/24 drop; udp dport 9999 counter; }; }'",
			undo: noWall, a: "outside", b: "$H:8080"},
		{name: "a firewall that lets it", setup: "nft 'table inet wall { chain c { type filter hook forward priority 5; policy drop; ct state established,related accept; oifname \"brn\" tcp dport 80 accept; }; }'",
			undo: noWall, a: "outside", b: "$H:8080"},
		{name: "ufw that lets it", undo: "iptables-nft -P FORWARD ACCEPT; iptables-nft -F; iptables-nft -X; nft delete table ip filter", a: "ann", b: "$M:80",
			setup: `iptables-nft -N ufw-before-forward; iptables-nft -N ufw-user-forward
				iptables-nft -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
				iptables-nft -A ufw-before-forward -j ufw-user-forward
				iptables-nft -A ufw-user-forward -i brn -p tcp --dport 80 -j ACCEPT
				iptables-nft -A FORWARD -j ufw-before-forward; iptables-nft -P FORWARD DROP`},
		{name: "iptables-legacy that lets it", setup: "iptables-legacy -I FORWARD -s 203.0.113.0/24 -j DROP", undo: "iptables-legacy -D FORWARD -s 203.0.113.0/24 -j DROP", a: "ann", b: "$M:80"},
		{name: "a firewall inside that lets it", setup: "inside bob nft 'table inet wall { chain c { type filter hook input priority 0; policy drop; iif lo accept; ct state established,related accept; tcp dport 80 accept; }; }'",
			undo: "inside bob nft delete table inet wall", a: "ann", b: "bob:80"},
		{name: "a route elsewhere", setup: "ip route add 10.79.0.0/24 via $M", undo: "ip route del 10.79.0.0/24", a: "outside", b: "$H:8080"},
		{name: "unhealthy", setup: "make xav --network n --health-cmd 'exit 1' --health-interval 100ms --health-retries 1 " + server + "; until_ok sh -c 'docker inspect -f {{.State.Health.Status}} xav | grep -q unhealthy'", a: "ann", b: "xav:80", note: "health"},
	}
}

// pairs: who reaches B is said to reach it.
func (s *stage) pairs(t *testing.T, all []pair) {
	for _, p := range all {
		t.Run(strings.ReplaceAll(p.name, " ", "_"), func(t *testing.T) { s.healthy(t, p) })
	}
}

func (s *stage) healthy(t *testing.T, p pair) {
	s.prepare(t, p.setup)
	t.Cleanup(func() { s.clear(t, p.undo) })
	if p.try == "" {
		p.try = plainTry(p.b)
	}
	s.reaches(t, "healthy", p.a, "", p.try)
	if os.Getenv(trafficOnly) != "" {
		return
	}
	a := s.again(t, p.a, p.b)
	if !a.reaches() {
		t.Errorf("it does reach, but:\n%s", a)
	}
	if !strings.Contains(fmt.Sprint(a.Notes), p.note) {
		t.Errorf("no note says %q:\n%s", p.note, a)
	}
}
