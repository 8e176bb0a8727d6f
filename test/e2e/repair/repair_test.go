package repair

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"linkspan/internal/lab"
)

// TestRepair: each damage is put right by itself; the event and the line in the log say
// what was, what is, and whose it is; the published port works; and one connection
// through it lives through all of them.
func TestRepair(t *testing.T) {
	w := newWorld(t)
	long := w.Talk(8080)
	long.On(t)
	for _, c := range []struct {
		name, line string
		kind       string // of an event
		object     string // in it, and in the log
		was, is    string
	}{
		{"the whole ruleset", "nft flush ruleset", "daemon", "table inet TABLE", "gone", "page "},
		{"our table", "nft delete table inet TABLE", "daemon", "table inet TABLE", "gone", "page "},
		{"a chain's rules", "nft flush chain inet TABLE publish", "daemon", "table inet TABLE", "edited", "page "},
		{"all rules of our table", "nft flush table inet TABLE", "daemon", "table inet TABLE", "edited", "page "},
		{"a chain", "nft delete chain inet TABLE output", "daemon", "table inet TABLE", "missing", "page "},
		{"a rule of somebody's", "nft insert rule inet TABLE forward counter drop", "daemon", "table inet TABLE", "edited", "page "},
		{"a map's elements", "nft flush map inet TABLE publish4_any", "container", "element inet TABLE publish4_any { tcp . 8080 }", "gone", ". 9000"},
		{"one element", `nft delete element inet TABLE bridges { "docker0" }`, "network", `element inet TABLE bridges { "docker0" }`, "gone", "there"},
		{"an element of somebody's", `nft add element inet TABLE egress { "eth9" }`, "daemon", `element inet TABLE egress { "eth9" }`, "there", "gone"},
		{"the wire", "ip link del VETH", "container", "link VETH", "gone", "master docker0"},
		{"the wire, from inside", "INSIDE ip link del eth0", "container", "link VETH", "gone", "master docker0"},
		{"the wire's other end, moved away", "INSIDE ip link set eth0 netns /proc/PID/ns/net", "container", "link VETH", "gone", "master docker0"},
		{"the wire's name", "ip link set VETH down name stolen", "container", "link VETH", "gone", "master docker0"},
		{"the wire's master", "ip link set VETH nomaster", "container", "link VETH", "veth mtu 1500", "master docker0"},
		{"the wire, down", "ip link set VETH down", "container", "up VETH", "gone", "there"},
		{"the wire's MTU", "ip link set VETH mtu 1300", "container", "link VETH", "mtu 1300", "mtu 1500"},
		{"the port's isolation", "bridge link set dev VETH isolated on", "container", "link VETH", "isolated", "master docker0"},
		{"the port's hairpin", "bridge link set dev VETH hairpin on", "container", "link VETH", "hairpin", "master docker0"},
		{"the bridge's address", "ip addr del 172.17.0.1/16 dev docker0", "network", "addr docker0 172.17.0.1/16", "gone", "there"},
		{"the bridge's route", "ip route del 172.17.0.0/16 dev docker0", "network", "addr docker0 172.17.0.1/16", "without the route", "there"},
		{"an address of somebody's", "ip addr add 10.99.0.1/24 dev docker0", "daemon", "addr docker0 10.99.0.1/24", "there", "gone"},
		{"the bridge, down", "ip link set docker0 down", "network", "up docker0", "gone", "there"},
		{"the bridge", "ip link del docker0", "network", "link docker0", "gone", "bridge mtu 1500"},
		{"the bridge's MTU", "ip link set docker0 mtu 1300", "network", "link docker0", "mtu 1300", "mtu 1500"},
		{"the bridge's MAC", "ip link set docker0 address 02:00:00:00:00:09", "network", "link docker0", "02:00:00:00:00:09", "02:42:"},
		{"the bridge's nf-call", "ip link set docker0 type bridge nf_call_iptables 1", "network", "link docker0", "nf-call", "bridge mtu 1500"},
		{"forwarding", "sysctl -qw net.ipv4.ip_forward=0", "daemon", "sysctl net/ipv4/ip_forward", "= 0", "= 1"},
		{"bridge-nf", "sysctl -qw net.bridge.bridge-nf-call-iptables=1", "daemon", "sysctl net/bridge/bridge-nf-call-iptables", "= 1", "= 0"},
		{"route_localnet", "sysctl -qw net.ipv4.conf.docker0.route_localnet=0", "network", "sysctl net/ipv4/conf/docker0/route_localnet", "= 0", "= 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{w.For(t), t, w.table, w.veth, w.inside, w.whole}
			time.Sleep(peace)
			logged, since := len(w.Log()), time.Now()
			line := strings.ReplaceAll(w.named(c.line), "PID", fmt.Sprint(w.PID()))
			w.Host.Run(words(line)...)
			w.Settled("not as before", w.whole)
			w.Reached(8080)
			long.On(t)
			object := w.named(c.object)
			var told []event
			w.Until(patience, "an event of "+object, func() bool {
				for _, e := range w.repairs(since) {
					a := e.Actor.Attributes
					told = append(told, e)
					if e.Type == c.kind && a["object"] == object && strings.Contains(a["was"], c.was) && strings.Contains(a["is"], c.is) && a["owner"] != "" && a["reason"] != "" {
						return true
					}
				}
				return false
			})
			log := w.Log()[logged:]
			for deadline := time.Now().Add(lab.Patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
				if log = w.Log()[logged:]; strings.Contains(log, "put right") && strings.Contains(log, "object="+quoted(object)) {
					break
				}
			}
			if !strings.Contains(log, "put right") || !strings.Contains(log, "object="+quoted(object)) || !strings.Contains(log, "owner=") || !strings.Contains(log, "reason=") {
				t.Errorf("log:\n%s", log)
			}
			if t.Failed() {
				t.Logf("events: %+v\nlog:\n%s", told, log)
			}
			if strings.HasPrefix(c.line, "nft") && !regexp.MustCompile(`by="nft \(pid \d+\)"`).MatchString(log) {
				t.Errorf("it is not said who did it:\n%s", log)
			}
		})
	}
	if log := w.Log(); strings.Contains(log, "keeps undoing") && !t.Failed() {
		t.Logf("some repairs were taken for a fight:\n%s", grep(log, "keeps undoing"))
	}
}

// words splits a command line as nft's and ip's need it: braces stay words.
func words(line string) []string { return strings.Fields(line) }

// quoted is a value as slog's text handler writes it.
func quoted(s string) string {
	if strings.ContainsAny(s, ` "=`) {
		return fmt.Sprintf("%q", s)
	}
	return s
}

func grep(text, word string) string {
	var out strings.Builder
	for l := range strings.Lines(text) {
		if strings.Contains(l, word) {
			out.WriteString(l)
		}
	}
	return out.String()
}
