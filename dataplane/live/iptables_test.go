package live_test

import (
	"strings"
	"testing"

	"linkspan/internal/lab"
)

// tables are rulesets of iptables, as people and programs write them.
var tables = []struct {
	name  string
	rules []string // arguments of iptables; "6 …" are ip6tables'
	shots []shot
}{
	{"matches", []string{
		"-P FORWARD DROP",
		"-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		"-A FORWARD -p tcp --dport 80 -m comment --comment web -j ACCEPT",
		"-A FORWARD -p tcp -m multiport --dports 100:200,300 -j ACCEPT",
		"-A FORWARD -p udp -m multiport ! --ports 53,54 -m conntrack --ctstate NEW -j ACCEPT",
		"-A FORWARD -p tcp --dport 81 -m iprange --dst-range 10.2.0.3-10.2.0.9 -j ACCEPT",
		"-A FORWARD -p tcp --dport 82 -m mark ! --mark 0x1 -j ACCEPT",
		"-A FORWARD -p tcp --syn --dport 83 -m limit --limit 5/min -j ACCEPT",
		"-A FORWARD -p tcp --dport 84 -m state --state INVALID -j ACCEPT",
		"-A FORWARD -p tcp --dport 85 -m addrtype --dst-type LOCAL -j ACCEPT",
		"-A FORWARD -p tcp --dport 86 -m addrtype ! --dst-type LOCAL -j ACCEPT",
		"-A FORWARD -p tcp --dport 87 -m physdev ! --physdev-is-bridged -j ACCEPT",
		"-A FORWARD -p tcp --dport 88 -m length --length 0:20 -j ACCEPT",
		"-A FORWARD -s 10.1.0.0/24 ! -d 10.2.0.0/30 -j REJECT --reject-with icmp-host-prohibited",
		"-A INPUT -p tcp --dport 22 -j REJECT --reject-with tcp-reset",
		"-A INPUT -i nosuch+ -j ACCEPT",
		"-A INPUT ! -i lo -p udp -j LOG --log-prefix no:",
		"-A INPUT ! -i lo -p udp -j DROP",
		"-A OUTPUT -p udp --dport 99 -m owner --uid-owner 0 -j DROP",
		"6 -A FORWARD -p tcp --dport 80 -j REJECT",
	}, []shot{{"c", "tcp", "10.2.0.2:80", "postrouting"}, {"c", "tcp", "10.2.0.2:150", "postrouting"}, {"c", "tcp", "10.2.0.2:300", "postrouting"}, {"c", "tcp", "10.2.0.2:201", "drop"},
		{"c", "udp", "10.2.0.2:53", "drop"}, {"c", "udp", "10.2.0.2:55", "postrouting"}, {"c", "tcp", "10.2.0.2:81", "drop"}, {"c", "tcp", "10.2.0.3:81", "postrouting"},
		{"c", "tcp", "10.2.0.2:82", "postrouting"}, {"c", "tcp", "10.2.0.2:83", "postrouting"}, {"c", "tcp", "10.2.0.2:84", "drop"}, {"c", "tcp", "10.2.0.2:85", "drop"},
		{"c", "tcp", "10.2.0.2:86", "postrouting"}, {"c", "tcp", "10.2.0.2:87", "postrouting"}, {"c", "tcp", "10.2.0.2:88", "drop"}, {"c", "tcp", "10.2.0.4:1", "reject"},
		{"c", "tcp", "10.1.0.1:22", "reject"}, {"c", "udp", "10.1.0.1:22", "drop"}, {"c", "tcp", "10.1.0.1:23", "input"}, {"r", "udp", "10.2.0.2:99", "drop"},
		{"c", "tcp", "[fd00:2::2]:80", "reject"}, {"c", "tcp", "[fd00:2::2]:81", "postrouting"}}},
	// As Docker writes it.
	{"docker", []string{
		"-P FORWARD DROP", "-N DOCKER", "-N DOCKER-USER", "-N DOCKER-ISOLATION-STAGE-1",
		"-A FORWARD -j DOCKER-USER", "-A FORWARD -j DOCKER-ISOLATION-STAGE-1",
		"-A FORWARD -o SDEV -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A FORWARD -o SDEV -j DOCKER",
		"-A FORWARD -i SDEV ! -o SDEV -j ACCEPT",
		"-A DOCKER-USER -s 10.9.0.0/16 -j DROP", "-A DOCKER-USER -j RETURN", "-A DOCKER-ISOLATION-STAGE-1 -j RETURN",
		"-A DOCKER -d 10.2.0.2/32 ! -i SDEV -o SDEV -p tcp -m tcp --dport 80 -j ACCEPT",
		"-t nat -N DOCKER", "-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
		"-t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER",
		"-t nat -A POSTROUTING -s 10.2.0.0/24 ! -o SDEV -j MASQUERADE",
		"-t nat -A DOCKER -i SDEV -j RETURN", "-t nat -A DOCKER ! -i SDEV -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.2.0.2:80",
	}, []shot{{"c", "tcp", "10.1.0.1:8080", "postrouting 10.1.0.2"}, {"c", "tcp", "10.2.0.2:80", "postrouting"}, {"c", "tcp", "10.2.0.2:81", "drop"},
		{"r", "tcp", "10.1.0.1:8080", "postrouting"}, {"s", "udp", "10.1.0.2:53", "postrouting 10.1.0.1"}, {"s", "tcp", "10.1.0.1:8080", "input"}}},
	{"nat", []string{
		"-t nat -A PREROUTING -p tcp --dport 90 -j REDIRECT --to-ports 9090", "-t nat -A PREROUTING -p tcp --dport 91 -j DNAT --to-destination 10.2.0.3",
		"-t nat -A PREROUTING -d 10.9.9.0/24 -j NETMAP --to 10.2.0.0/24", "-t nat -A POSTROUTING -p tcp --dport 93 -j SNAT --to-source 10.2.0.1",
		"-t nat -A POSTROUTING -p udp --dport 94 -j MASQUERADE", "-t mangle -A PREROUTING -p tcp --dport 95 -j MARK --set-mark 0x7",
		"-A FORWARD -m mark --mark 0x7/0xf -j DROP", "-t raw -A PREROUTING -p tcp --dport 96 -j CT --notrack", "-A FORWARD -m conntrack --ctstate UNTRACKED -j DROP",
		"-A FORWARD -p tcp -m conntrack --ctorigdstport 97 --ctdir ORIGINAL -j DROP", "-t mangle -A PREROUTING -p tcp --dport 98 -j CONNMARK --set-mark 0x9",
		"-A FORWARD -m connmark --mark 0x9 -j DROP", "-A FORWARD -m conntrack --ctstate DNAT -p tcp --dport 92 -j DROP",
	}, []shot{{"c", "tcp", "10.2.0.2:90", "input"}, {"c", "tcp", "10.1.0.1:91", "postrouting"}, {"c", "tcp", "10.9.9.4:50", "postrouting"}, {"c", "tcp", "10.9.9.4:92", "drop"},
		{"c", "tcp", "10.2.0.2:93", "postrouting 10.2.0.1"}, {"c", "udp", "10.2.0.2:94", "postrouting 10.2.0.1"}, {"c", "tcp", "10.2.0.2:95", "drop"},
		{"c", "tcp", "10.2.0.2:96", "drop"}, {"c", "tcp", "10.2.0.2:97", "drop"}, {"c", "tcp", "10.2.0.2:98", "drop"}}},
	// As ufw writes it, shortened.
	{"ufw", []string{
		"-P INPUT DROP", "-P FORWARD DROP", "-N ufw-before-input", "-N ufw-user-input", "-N ufw-not-local", "-N ufw-before-forward", "-N ufw-skip-to-policy-input",
		"-A INPUT -j ufw-before-input", "-A ufw-before-input -i lo -j ACCEPT", "-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		"-A ufw-before-input -m conntrack --ctstate INVALID -j DROP", "-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT", "-A ufw-before-input -j ufw-not-local",
		"-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN", "-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN",
		"-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j DROP", "-A ufw-not-local -j DROP",
		"-A ufw-before-input -j ufw-user-input", "-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT", "-A ufw-user-input -p udp -m multiport --dports 60000:61000 -j ACCEPT",
		"-A ufw-skip-to-policy-input -j DROP", "-A ufw-before-input -p udp --dport 137 -j ufw-skip-to-policy-input",
		"-A FORWARD -j ufw-before-forward", "-A ufw-before-forward -p icmp -j ACCEPT",
	}, []shot{{"c", "tcp", "10.1.0.1:22", "input"}, {"c", "tcp", "10.1.0.1:23", "drop"}, {"c", "udp", "10.1.0.1:60500", "input"}, {"c", "udp", "10.1.0.1:137", "drop"},
		{"c", "tcp", "10.2.0.2:22", "drop"}, {"r", "tcp", "10.1.0.1:77", "input"}}},
}

func (w *world) tables(program string, rules []string) {
	for _, r := range rules {
		p := program
		if rest, ok := strings.CutPrefix(r, "6 "); ok {
			p, r = "ip6"+strings.TrimPrefix(program, "ip"), rest
		}
		w.r.Run(append([]string{p, "-w"}, strings.Fields(w.named(r))...)...)
	}
}

func testTables(t *testing.T, program string, clear func(*lab.Host)) {
	w := newWorld(t)
	for _, c := range tables {
		clear(w.r)
		w.r.Run("nft", "flush", "ruleset")
		nft(w.r, watch)
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			w.tables(program, c.rules)
			for _, x := range c.shots {
				w.check(x)
			}
		})
	}
}

func TestIPTablesNFT(t *testing.T) { testTables(t, "iptables-nft", func(*lab.Host) {}) }

// TestIPTablesLegacy asks the same of the older kind, which keeps its own tables.
func TestIPTablesLegacy(t *testing.T) {
	testTables(t, "iptables-legacy", func(h *lab.Host) {
		for _, p := range []string{"iptables-legacy", "ip6tables-legacy"} {
			for _, table := range []string{"filter", "nat", "mangle", "raw"} {
				if p == "ip6tables-legacy" && table != "filter" {
					continue
				}
				h.Run(p, "-w", "-t", table, "-F")
				h.Run(p, "-w", "-t", table, "-X")
			}
			for _, c := range []string{"INPUT", "FORWARD", "OUTPUT"} {
				h.Run(p, "-w", "-P", c, "ACCEPT")
			}
		}
	})
}

// TestLegacyText compares each rule's text with what iptables writes.
func TestLegacyText(t *testing.T) {
	w := newWorld(t)
	if rs, err := w.k.Ruleset(t.Context(), w.r.NS); err != nil || len(rs.Tables) != 0 {
		t.Fatalf("before there is any: %v, %v", rs, err)
	}
	if out := w.r.Run("cat", "/proc/net/ip_tables_names"); out != "" {
		t.Errorf("reading made tables: %s", out)
	}
	for _, c := range tables {
		if c.name != "ufw" {
			w.tables("iptables-legacy", c.rules)
		}
	}
	rs, err := w.k.Ruleset(t.Context(), w.r.NS)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range rs.Tables {
		program := map[string]string{"ip": "iptables-legacy", "ip6": "ip6tables-legacy"}[table.Family]
		for _, c := range table.Chains {
			var theirs []string
			for _, l := range strings.Split(strings.TrimSpace(w.r.Run(program, "-w", "-t", table.Name, "-S", c.Name)), "\n") {
				switch {
				case strings.HasPrefix(l, "-P"):
					if want := strings.ToLower(l[strings.LastIndex(l, " ")+1:]); c.Policy != want {
						t.Errorf("%s %s: policy %s, not %s", table.Name, c.Name, c.Policy, want)
					}
				case strings.HasPrefix(l, "-A"):
					theirs = append(theirs, l)
				}
			}
			if len(theirs) != len(c.Rules) {
				t.Errorf("%s %s has %d rules, not %d", table.Name, c.Name, len(c.Rules), len(theirs))
				continue
			}
			for i, r := range c.Rules {
				if r.Text() != theirs[i] {
					t.Errorf("written\n %s\niptables writes\n %s", r.Text(), theirs[i])
				}
			}
		}
	}
}
