package live_test

import "testing"

// corpus is rulesets and packets: what the evaluation says of each must be what the
// kernel does.
var corpus = []struct {
	name  string
	rules string
	shots []shot
}{
	{"empty", ``, []shot{{"c", "tcp", "10.2.0.2:80", "postrouting"}, {"c", "udp", "10.2.0.2:53", "postrouting"},
		{"c", "tcp", "10.1.0.1:22", "input"}, {"c", "tcp", "10.2.0.1:22", "input"}, {"r", "udp", "10.2.0.2:53", "postrouting"},
		{"r", "tcp", "10.1.0.1:22", "input"}, {"c", "tcp", "[fd00:2::2]:80", "postrouting"}, {"r", "udp", "[fd00:2::2]:80", "postrouting"}}},
	{"policy", `table inet f {
		chain f { type filter hook forward priority filter; policy drop; tcp dport { 80, 443 } accept; udp dport 1000-2000 accept; ip daddr 10.2.0.3 accept; }
		chain i { type filter hook input priority filter; policy accept; tcp dport 22 drop; tcp dport != 8080 reject with tcp reset; }
	}`, []shot{{"c", "tcp", "10.2.0.2:80", "postrouting"}, {"c", "tcp", "10.2.0.2:81", "drop"}, {"c", "udp", "10.2.0.2:999", "drop"},
		{"c", "udp", "10.2.0.2:1000", "postrouting"}, {"c", "udp", "10.2.0.2:2000", "postrouting"}, {"c", "udp", "10.2.0.2:2001", "drop"},
		{"c", "udp", "10.2.0.3:2001", "postrouting"}, {"c", "tcp", "10.1.0.1:22", "drop"}, {"c", "tcp", "10.1.0.1:23", "reject"},
		{"c", "tcp", "10.1.0.1:8080", "input"}, {"c", "tcp", "[fd00:2::2]:443", "postrouting"}, {"c", "tcp", "[fd00:2::2]:444", "drop"}}},
	{"jumps", `table ip f {
		chain f { type filter hook forward priority filter; policy drop; jump a; tcp dport 1 accept; goto b; accept; }
		chain a { tcp dport 2 accept; tcp dport 3 return; tcp dport 4 goto c; tcp dport 5 drop; }
		chain b { tcp dport 6 accept; }
		chain c { tcp dport 7 accept; }
	}`, []shot{{"c", "tcp", "10.2.0.2:1", "postrouting"}, {"c", "tcp", "10.2.0.2:2", "postrouting"}, {"c", "tcp", "10.2.0.2:3", "drop"},
		{"c", "tcp", "10.2.0.2:4", "drop"}, {"c", "tcp", "10.2.0.2:5", "drop"}, {"c", "tcp", "10.2.0.2:6", "postrouting"}, {"c", "tcp", "10.2.0.2:7", "drop"}}},
	{"going on", `table ip f {
		map v { type inet_service : verdict; elements = { 1 : continue, 2 : accept }; }
		chain f { type filter hook forward priority filter; policy accept; tcp dport vmap @v drop; tcp dport 3 continue; udp dport vmap { 4 : continue } ip daddr 10.2.0.3 drop; }
	}`, []shot{{"c", "tcp", "10.2.0.2:1", "drop"}, {"c", "tcp", "10.2.0.2:2", "postrouting"}, {"c", "tcp", "10.2.0.2:3", "postrouting"}, {"c", "udp", "10.2.0.2:4", "postrouting"},
		{"c", "udp", "10.2.0.3:4", "drop"}, {"c", "udp", "10.2.0.3:5", "postrouting"}}},
	{"pairs of subnets", `table inet m {
		map mesh4 { type ipv4_addr . ipv4_addr : verdict; flags interval; elements = { 10.1.0.0/16 . 10.2.0.2/32 : accept, 10.1.0.0/24 . 10.2.0.3/32 : goto sealed, 10.1.0.0/24 . 10.2.0.4/32 : goto open }; }
		set vnis { typeof udp dport . @th,96,24; elements = { 4789 . 0x4c0001 }; }
		set spans { type ifname; elements = { "CDEV" }; }
		chain sealed { iifname "SDEV" accept; drop; }
		chain open { iifname "CDEV" accept; drop; }
		chain clamp { type filter hook forward priority mangle; policy accept; tcp flags syn iifname @spans tcp option maxseg size set rt mtu; }
		chain f { type filter hook forward priority 0; policy accept; ct state established accept; ip saddr . ip daddr vmap @mesh4; drop; }
		chain i { type filter hook input priority 0; policy accept; udp dport . @th,96,24 @vnis drop; }
	}`, []shot{{"c", "tcp", "10.2.0.2:80", "postrouting"}, {"c", "udp", "10.2.0.3:80", "drop"}, {"c", "tcp", "10.2.0.4:80", "postrouting"},
		{"c", "tcp", "[fd00:2::2]:80", "drop"}, {"c", "udp", "10.1.0.1:4789", "input"}, {"c", "udp", "10.1.0.1:53", "input"}}},
	{"masquerade of what stays", `table ip n { chain post { type nat hook postrouting priority 100; masquerade; } }`,
		[]shot{{"r", "udp", "10.2.0.1:9", "input 10.1.0.1"}, {"r", "tcp", "127.0.0.1:9", "input"}, {"r", "tcp", "10.2.0.2:9", "postrouting 10.2.0.1"}, {"c", "tcp", "10.2.0.2:9", "postrouting 10.2.0.1"}}},
	{"two tables", `table inet one { chain f { type filter hook forward priority 0; accept; } }
	table ip two { chain f { type filter hook forward priority 10; tcp dport 80 drop; } }
	table ip three { flags dormant; chain f { type filter hook forward priority 0; policy drop; } }`,
		[]shot{{"c", "tcp", "10.2.0.2:80", "drop"}, {"c", "tcp", "10.2.0.2:81", "postrouting"}, {"c", "tcp", "[fd00:2::2]:80", "postrouting"}}},
	{"sets", `table ip f {
		set nets { type ipv4_addr; flags interval; auto-merge; elements = { 10.2.0.2-10.2.0.3, 192.168.0.0/16 } }
		set pairs { type ipv4_addr . inet_service; elements = { 10.2.0.4 . 80 } }
		set wide { type ipv4_addr . inet_service; flags interval; elements = { 10.2.0.0/24 . 1000-1100, 10.2.0.4 . 5000 } }
		map v { type inet_service : verdict; elements = { 1 : drop, 2 : accept, 3 : jump three, * : continue } }
		chain f { type filter hook forward priority 0; policy accept
			tcp dport vmap @v
			ip daddr != @nets ip daddr . tcp dport != @pairs ip daddr . tcp dport != @wide drop
			ip daddr . tcp dport @wide reject
			tcp dport 20-30 meta mark set 7
			meta mark 7 drop
			tcp flags & (syn|ack) == syn tcp dport 40 drop
			ip ttl < 10 drop
			ip dscp cs1 drop
			iifname "nosuch*" drop
			iifname . oifname { "x" . "y" } drop
		}
		chain three { ip daddr 10.2.0.3 drop; }
	}`, []shot{{"c", "tcp", "10.2.0.2:1", "drop"}, {"c", "tcp", "10.2.0.4:2", "postrouting"}, {"c", "tcp", "10.2.0.3:3", "drop"}, {"c", "tcp", "10.2.0.2:3", "postrouting"},
		{"c", "tcp", "10.2.0.4:80", "postrouting"}, {"c", "tcp", "10.2.0.4:81", "drop"}, {"c", "tcp", "10.2.0.4:1050", "reject"}, {"c", "tcp", "10.2.0.4:5000", "reject"},
		{"c", "tcp", "10.2.0.2:1101", "postrouting"}, {"c", "tcp", "10.2.0.2:25", "drop"}, {"c", "tcp", "10.2.0.2:40", "drop"}, {"c", "tcp", "10.2.0.2:41", "postrouting"}}},
	{"state", `table inet f {
		chain f { type filter hook forward priority 0; policy drop; ct state established,related accept; ct state invalid drop; ct state new tcp dport 80 accept; ct state vmap { new : jump n, established : accept } }
		chain n { udp dport 53 limit rate 10/second accept; tcp dport 81 ct state untracked accept; ct direction original tcp dport 82 ct count 5 accept; counter log prefix "no: "; }
		chain raw { type filter hook prerouting priority raw; tcp dport 83 notrack; ct state invalid tcp dport 84 drop; }
		chain later { type filter hook forward priority 5; ct state untracked drop; }
	}`, []shot{{"c", "tcp", "10.2.0.2:80", "postrouting"}, {"c", "udp", "10.2.0.2:53", "postrouting"}, {"c", "tcp", "10.2.0.2:81", "drop"},
		{"c", "tcp", "10.2.0.2:82", ""}, {"c", "tcp", "10.2.0.2:83", "drop"}, {"c", "tcp", "10.2.0.2:84", "drop"}}},
	{"dnat", `table inet n {
		map m { type inet_service : ipv4_addr . inet_service; elements = { 8080 : 10.2.0.2 . 80, 8081 : 10.2.0.3 . 81 } }
		chain pre { type nat hook prerouting priority dstnat; policy accept
			fib daddr type local dnat ip to tcp dport map @m
			tcp dport 90 redirect to :9090
			tcp dport 91 dnat ip to 10.2.0.4
			tcp dport 92 dnat ip to 10.2.0.2:100-200
			ip daddr 10.9.9.0/24 dnat ip prefix to ip daddr map { 10.9.9.0/24 : 10.2.0.0/24 }
			tcp dport 93 dnat ip6 to [fd00:2::2]:94
			udp dport 95 redirect
		}
		chain out { type nat hook output priority -100; ip daddr 10.1.0.1 tcp dport 70 dnat ip to 10.2.0.2:71; tcp dport 72 redirect to :73; }
		chain f { type filter hook forward priority 0; policy drop; ct status dnat accept; }
		chain post { type nat hook postrouting priority srcnat; ct status dnat ip saddr 10.1.0.0/24 masquerade; ip6 saddr fd00:1::/64 snat to fd00:2::1; }
	}`, []shot{{"c", "tcp", "10.1.0.1:8080", "postrouting"}, {"c", "tcp", "10.2.0.1:8081", "postrouting"}, {"c", "tcp", "10.2.0.2:8080", "drop"},
		{"c", "tcp", "10.2.0.2:90", "input"}, {"c", "tcp", "10.9.9.9:91", "postrouting"}, {"c", "tcp", "10.9.9.9:92", "postrouting"},
		{"c", "tcp", "10.9.9.3:96", "postrouting"}, {"c", "tcp", "[fd00:1::1]:93", "postrouting"}, {"c", "udp", "10.2.0.2:95", "input"},
		{"c", "udp", "[fd00:2::2]:95", "input"}, {"r", "tcp", "10.1.0.1:70", "postrouting"}, {"r", "tcp", "10.2.0.2:72", "input"}, {"r", "tcp", "[fd00:2::2]:72", "input"}}},
	{"snat", `table ip n {
		map own { type ipv4_addr : ipv4_addr; flags interval; elements = { 10.1.0.0/24 : 10.2.0.1 } }
		chain post { type nat hook postrouting priority 100; tcp dport 80 snat to 10.2.0.1; tcp dport 81 masquerade; snat to ip saddr map @own; }
		chain in { type nat hook input priority 100; tcp dport 22 snat to 10.9.9.9; }
	}`, []shot{{"c", "tcp", "10.2.0.2:80", "postrouting 10.2.0.1"}, {"c", "tcp", "10.2.0.2:81", "postrouting 10.2.0.1"}, {"c", "udp", "10.2.0.2:81", "postrouting 10.2.0.1"},
		{"c", "tcp", "10.1.0.1:22", "input 10.9.9.9"}, {"r", "udp", "10.2.0.2:9", "postrouting 10.2.0.1"}}},
	{"two nats", `table ip one { chain pre { type nat hook prerouting priority -100; tcp dport 80 dnat to 10.2.0.2:81; } }
	table inet two { chain pre { type nat hook prerouting priority -100; tcp dport 80 dnat ip to 10.2.0.3:82; tcp dport 83 dnat ip to 10.2.0.3:84; }
		chain first { type nat hook prerouting priority -110; tcp dport 83 dnat ip to 10.2.0.4:85; } }`,
		[]shot{{"c", "tcp", "10.1.0.1:80", "postrouting"}, {"c", "tcp", "10.1.0.1:83", "postrouting"}}},
	{"reverse path", `table inet f {
		chain pre { type filter hook prerouting priority raw; fib saddr . iif oif missing drop; fib saddr type { local, broadcast } iifname != "lo" drop; fib daddr . iif type != { local, unicast } drop; }
		chain i { type filter hook input priority 0; fib daddr type local tcp dport 1-100 reject with icmpx admin-prohibited; meta l4proto udp reject; }
		chain o { type filter hook output priority 0; meta skuid 0 udp dport 99 drop; meta skuid 5 drop; oif != "lo" udp dport 98 drop; }
	}`, []shot{{"c", "tcp", "10.2.0.2:80", "postrouting"}, {"c", "tcp", "10.1.0.1:80", "reject"}, {"c", "udp", "10.1.0.1:80", "reject"}, {"c", "tcp", "10.1.0.1:101", "input"},
		{"c", "tcp", "[fd00:1::1]:80", "reject"}, {"r", "udp", "10.2.0.2:99", "drop"}, {"r", "udp", "10.2.0.2:98", "drop"}, {"r", "udp", "10.2.0.2:97", "postrouting"}}},
	// As firewalld writes it, shortened.
	{"firewalld", `table inet firewalld {
		chain mangle_PREROUTING { type filter hook prerouting priority mangle + 10; policy accept; jump mangle_PREROUTING_ZONES; }
		chain mangle_PREROUTING_ZONES { iifname "CDEV" goto mangle_PRE_public; goto mangle_PRE_public; }
		chain mangle_PRE_public { tcp dport 8080 meta mark set meta mark | 0x2a0; }
		chain nat_PREROUTING { type nat hook prerouting priority dstnat + 10; policy accept; jump nat_PREROUTING_ZONES; }
		chain nat_PREROUTING_ZONES { iifname "CDEV" goto nat_PRE_public; }
		chain nat_PRE_public { meta nfproto ipv4 tcp dport 8080 dnat ip to 10.2.0.2:80; }
		chain nat_POSTROUTING { type nat hook postrouting priority srcnat + 10; policy accept; oifname "SDEV" meta nfproto ipv4 oifname != "lo" masquerade; }
		chain filter_PREROUTING { type filter hook prerouting priority filter + 10; policy accept
			icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
			meta nfproto ipv6 fib saddr . mark . iif oif missing drop
		}
		chain filter_INPUT { type filter hook input priority filter + 10; policy accept
			ct state { established, related } accept
			ct status dnat accept
			iifname "lo" accept
			ct state invalid drop
			jump filter_INPUT_ZONES
			reject with icmpx admin-prohibited
		}
		chain filter_INPUT_ZONES { iifname "CDEV" goto filter_IN_public; goto filter_IN_public; }
		chain filter_IN_public { tcp dport 22 accept; ip6 daddr fe80::/64 udp dport 546 accept; meta l4proto { icmp, ipv6-icmp } accept; }
		chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept
			ct state { established, related } accept
			ct status dnat accept
			ct state invalid drop
			ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002::/24 } reject with icmpv6 addr-unreachable
			iifname "CDEV" goto filter_FWD_public
			reject with icmpx admin-prohibited
		}
		chain filter_FWD_public { oifname "SDEV" tcp dport 443 accept; reject with icmpx admin-prohibited; }
	}`, []shot{{"c", "tcp", "10.1.0.1:22", "input"}, {"c", "tcp", "10.1.0.1:23", "reject"}, {"c", "tcp", "10.1.0.1:8080", "postrouting 10.2.0.1"}, {"c", "tcp", "10.2.0.2:443", "postrouting 10.2.0.1"},
		{"c", "tcp", "10.2.0.2:444", "reject"}, {"s", "tcp", "10.1.0.2:443", "reject"}, {"c", "tcp", "[fd00:2::2]:443", "postrouting"}, {"c", "tcp", "[fd00:2::2]:444", "reject"},
		{"r", "udp", "10.2.0.2:5", "postrouting"}, {"r", "tcp", "10.1.0.1:99", "input"}}},
	{"ingress", `table netdev n { chain i { type filter hook ingress device "CDEV" priority 0; policy accept; ip daddr 10.2.0.2 tcp dport 80 drop; meta l4proto udp ip ttl 64 udp dport 9 drop; } }
	table inet i { chain i { type filter hook ingress device "CDEV" priority 10; tcp dport 81 drop; } }`,
		[]shot{{"c", "tcp", "10.2.0.2:80", "drop"}, {"c", "tcp", "10.2.0.3:80", "postrouting"}, {"c", "tcp", "10.2.0.2:81", "drop"}, {"c", "udp", "10.2.0.2:9", "drop"}, {"s", "tcp", "10.1.0.2:80", "postrouting"}}},
	{"marks", `table inet m {
		chain pre { type filter hook prerouting priority mangle; tcp dport 1-9 meta mark set 0x10; meta mark set meta mark | 0x3; ct mark set meta mark; tcp dport 5 meta mark set meta mark & 0xfffffff0; }
		chain f { type filter hook forward priority 0; meta mark & 0xf0 == 0x10 meta mark & 0x3 == 0x3 drop; ct mark 0x13 reject; meta mark 0x3 tcp dport 20 drop; }
		chain o { type route hook output priority mangle; udp dport 7 meta mark set 0x77; }
		chain post { type filter hook postrouting priority 0; meta mark 0x77 drop; meta length > 1000 drop; meta length 1-30 udp dport 11 drop; }
	}`, []shot{{"c", "tcp", "10.2.0.2:1", "drop"}, {"c", "tcp", "10.2.0.2:5", "reject"}, {"c", "tcp", "10.2.0.2:20", "drop"}, {"c", "tcp", "10.2.0.2:21", "postrouting"},
		{"r", "udp", "10.2.0.2:7", "drop"}, {"r", "udp", "10.2.0.2:8", "postrouting"}}},
	{"owner of a flow", `table ip f {
		chain f { type filter hook forward priority 0; policy drop
			meta l4proto tcp ct original ip daddr 10.2.0.3 ct original proto-dst 80 accept
			ct original ip saddr 10.1.0.2 tcp dport 81 accept
			ct status snat accept
			meta pkttype host ip protocol udp udp length > 4 udp dport 82 accept
			meta l4proto udp @th,16,16 83 accept
			ip daddr & 0.0.0.255 == 0.0.0.4 accept
			tcp dport & 0xfff0 == 0x1230 accept
			ip saddr . ip daddr vmap { 10.1.0.2 . 10.2.0.3 : jump sub }
		}
		chain sub { tcp dport { 90-95, 97 } accept; tcp dport 96 reject with icmp host-unreachable; }
	}`, []shot{{"c", "tcp", "10.2.0.3:80", "postrouting"}, {"c", "tcp", "10.2.0.2:80", "drop"}, {"c", "tcp", "10.2.0.2:81", "postrouting"}, {"c", "udp", "10.2.0.2:82", "postrouting"},
		{"c", "udp", "10.2.0.2:83", "postrouting"}, {"c", "udp", "10.2.0.4:1", "postrouting"}, {"c", "tcp", "10.2.0.2:4662", "postrouting"}, {"c", "tcp", "10.2.0.2:4672", "drop"},
		{"c", "tcp", "10.2.0.3:93", "postrouting"}, {"c", "tcp", "10.2.0.3:97", "postrouting"}, {"c", "tcp", "10.2.0.3:96", "reject"}, {"c", "tcp", "10.2.0.3:98", "drop"}}},
}

func TestCorpus(t *testing.T) {
	w := newWorld(t)
	for _, c := range corpus {
		w.r.Run("nft", "flush", "ruleset")
		nft(w.r, watch)
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			if c.rules != "" {
				nft(w.r, w.named(c.rules))
			}
			for _, x := range c.shots {
				w.check(x)
			}
		})
	}
}
