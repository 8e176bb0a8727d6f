package live_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"linkspan/internal/lab"
)

var (
	rounds = flag.Int("rounds", 12, "rulesets that TestRandom makes")
	seed   = flag.Uint64("seed", 1, "where TestRandom begins")
)

// dice throws rules together that nobody would write: what the evaluation says of them
// must be what the kernel does all the same.
type dice struct{ *rand.Rand }

func (d dice) one(of ...string) string { return of[d.IntN(len(of))] }

func (d dice) condition(hook string) string {
	port := 80 + d.IntN(4)
	all := []string{
		fmt.Sprintf("tcp dport %d", port), fmt.Sprintf("udp dport %d", port), fmt.Sprintf("th dport { %d, 83 } meta l4proto { tcp, udp }", port),
		fmt.Sprintf("tcp dport != %d", port), fmt.Sprintf("tcp dport 80-%d", port), "ip daddr 10.2.0.2", "ip daddr != 10.2.0.2", "ip daddr @some", "ip daddr != @some",
		"ip saddr 10.1.0.0/24", "ip saddr != 10.1.0.0/25", "ip saddr & 255.0.0.255 == 10.0.0.2", "meta l4proto udp", "meta nfproto ipv4", "ct state new",
		"ct state established", "ct state != new", "ct status dnat", "ct status ! dnat", "ct mark 1", "meta mark 1", "meta mark & 0x2 == 0x2", "meta mark != 0",
		"ip daddr . tcp dport @pairs", fmt.Sprintf("tcp dport vmap { %d : jump sub, 83 : continue }", port), "ct direction original", "ct original ip daddr 10.2.0.3",
		"ip ttl > 60", "meta pkttype host", "limit rate 1000/second", "ip protocol tcp", "tcp flags syn", "tcp flags ! syn", "fib daddr type local", "fib daddr type != local",
		"th sport > 20000 meta l4proto { tcp, udp }", "ct count 1000",
	}
	switch hook {
	case "prerouting", "input":
		all = append(all, `iifname "CDEV"`, `iif "CDEV"`, `iifname != "SDEV"`, `iifname "w*"`, "fib saddr . iif oif exists")
	case "forward":
		all = append(all, `iifname "CDEV" oifname "SDEV"`, `oif "SDEV"`, `iifname . oifname { "CDEV" . "SDEV" }`)
	default:
		all = append(all, `oifname "SDEV"`, `oifname != "lo"`, "meta skuid 0", "meta skuid != 0")
	}
	return all[d.IntN(len(all))]
}

func (d dice) action(kind, hook string) string {
	if kind == "nat" {
		nat := []string{"accept", "jump nsub", "return", "counter"}
		switch hook {
		case "prerouting", "output":
			nat = append(nat, "dnat ip to 10.2.0.3", "dnat ip to 10.2.0.2:82", "meta l4proto tcp dnat ip to 10.2.0.4:81-85", "redirect", "meta l4proto { tcp, udp } redirect to :83",
				"dnat ip to tcp dport map { 80 : 10.2.0.2, 81 : 10.2.0.3 }")
		case "postrouting":
			nat = append(nat, "masquerade", "snat ip to 10.2.0.1")
		default:
			nat = append(nat, "snat ip to 10.2.0.1")
		}
		return nat[d.IntN(len(nat))]
	}
	return d.one("accept", "accept", "drop", "return", "jump sub", "goto sub", "meta mark set 1", "meta mark set meta mark | 2", "counter", "reject-", "ct mark set 1",
		"ct mark set meta mark", "continue")
}

func (d dice) rules(kind, hook string, n int) string {
	var b strings.Builder
	for range n {
		act := d.action(kind, hook)
		if act == "reject-" {
			if act = "drop"; hook == "input" || hook == "forward" {
				act = "reject"
			}
		}
		if kind == "nat" && hook == "output" {
			act = strings.ReplaceAll(act, "snat", "dnat")
		}
		c := d.condition(hook)
		if d.IntN(3) == 0 {
			c += " " + d.condition(hook)
		}
		fmt.Fprintf(&b, "\t\t%s %s\n", c, act)
	}
	return b.String()
}

// table makes one.
func (d dice) table(family, name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n\tset some {\n type ipv4_addr; flags interval; elements = { 10.2.0.3-10.2.0.9, 192.0.2.0/24 };\n}\n", family, name)
	b.WriteString("\tset pairs {\n type ipv4_addr . inet_service; elements = { 10.2.0.2 . 80, 10.2.0.4 . 82, 10.1.0.1 . 81 };\n}\n")
	fmt.Fprintf(&b, "\tchain sub {\n%s\t}\n", strings.NewReplacer("jump sub", "counter", "goto sub", "counter", "jump nsub", "counter").Replace(d.rules("filter", "sub", 2)))
	fmt.Fprintf(&b, "\tchain nsub {\n%s\t}\n", strings.NewReplacer("jump nsub", "counter", "jump sub", "return").Replace(d.rules("nat", "nsub", 1)))
	for i, hook := range []string{"prerouting", "input", "forward", "output", "postrouting"} {
		if d.IntN(3) != 0 {
			fmt.Fprintf(&b, "\tchain f%d {\n\t\ttype filter hook %s priority %d; policy %s;\n%s\t}\n", i, hook, []int{-300, -150, -10, 0, 0, 50, 150}[d.IntN(7)],
				d.one("accept", "accept", "accept", "drop"), d.rules("filter", hook, 1+d.IntN(4)))
		}
		if hook != "forward" && d.IntN(2) == 0 {
			prio := map[string]int{"prerouting": -100, "output": -100}[hook]
			if prio == 0 {
				prio = 100
			}
			fmt.Fprintf(&b, "\tchain n%d {\n\t\ttype nat hook %s priority %d; policy accept;\n%s\t}\n", i, hook, prio+d.IntN(5), strings.ReplaceAll(d.rules("nat", hook, 1+d.IntN(3)), "jump sub", "jump nsub"))
		}
	}
	b.WriteString("}\n")
	return b.String()
}

var badLine = regexp.MustCompile(`/dev/stdin:(\d+):`)

// loadSome loads a ruleset without the lines that nft refuses.
func loadSome(t *testing.T, h *lab.Host, text string) string {
	t.Helper()
	for range 30 {
		err := load(h, text)
		if err == nil {
			return text
		}
		lines := strings.Split(text, "\n")
		for _, m := range badLine.FindAllStringSubmatch(err.Error(), -1) {
			if n, _ := strconv.Atoi(m[1]); n >= 1 && n <= len(lines) && !strings.Contains(lines[n-1], "chain ") {
				lines[n-1] = ""
			}
		}
		text = strings.Join(lines, "\n")
	}
	t.Fatalf("no line of it is taken: %s", text)
	return ""
}

func TestRandom(t *testing.T) {
	w := newWorld(t)
	w.wild = true
	for n := range *rounds {
		d := dice{rand.New(rand.NewPCG(*seed, uint64(n)))}
		w.r.Run("nft", "flush", "ruleset")
		nft(w.r, watch)
		text := loadSome(t, w.r, w.named(d.table("inet", "a")+d.table("ip", "b")))
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w.t = t
			for range 6 {
				from := d.one("c", "c", "c", "r", "s")
				to := d.one("10.2.0.2", "10.2.0.3", "10.1.0.1", "10.2.0.1")
				if from == "s" {
					to = d.one("10.1.0.2", "10.1.0.1", "10.2.0.1")
				}
				w.check(shot{from, d.one("tcp", "tcp", "udp"), fmt.Sprintf("%s:%d", to, 80+d.IntN(4)), ""})
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}
