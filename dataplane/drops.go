package dataplane

import (
	"hash/fnv"
	"regexp"
	"strings"
)

// DropRule is one way in which the page drops a packet. Its name is in the chain
// (drop_NAME), in the prefix of what is logged ("ls:NAME") and in all that people read:
// why, rules and drops use the same words.
type DropRule struct {
	Name string `json:"name"`
	// Why is one sentence about a packet that it dropped.
	Why string `json:"why"`
	// Cure is what one does who wants such packets to pass.
	Cure string `json:"cure"`
}

// DropPrefix is before the name of a rule in what is logged.
const DropPrefix = "ls:"

var dropRules = []DropRule{
	{"loopback", "a container sent to, or as, 127.0.0.0/8 of the host: the host's loopback is not for containers",
		"let the service listen on an address that the container reaches, like its gateway's"},
	{"internal-host", "the container's network is internal: of the host it reaches the network's own gateway only",
		"connect the container to a network that is not internal as well"},
	{"internal", "the container's network is internal: nothing leaves it",
		"connect the container to a network that is not internal as well"},
	{"icc-off", "containers of this network do not reach each other (icc=false)",
		"connect both to a network of their own, or --link them"},
	{"isolated", "the two are on different networks, which do not reach each other",
		"connect one to the other's network: linkspan network connect"},
	{"unpublished", "from outside, a container is reached through the ports that it publishes, not by its own address",
		"publish the port (-p), and use the host's address"},
	{"not-a-peer", "only hosts of the mesh send packets of its networks through the tunnel, and the sender is none that this host knows",
		"if it should be one, see whether it is in the mesh under that address: linkspan mesh status"},
	{"plain-text", "the network is encrypted, and this packet came, or would have left, in plain text",
		"see whether the encrypted tunnel stands on both hosts: linkspan mesh status"},
	{"not-forwarded", "this host did not forward packets before Linkspan, and does not for others now",
		"let `sysctl net.ipv4.ip_forward=1` (net.ipv6.conf.all.forwarding=1) be the host's own setting before the daemon starts"},
}

// DropRules are all rules of the page that drop.
func DropRules() []DropRule { return append([]DropRule(nil), dropRules...) }

// DropRuleOf finds one by its name, its chain, or the prefix of what was logged.
func DropRuleOf(s string) (DropRule, bool) {
	name := strings.TrimPrefix(s, DropPrefix)
	if chain, ok := strings.CutPrefix(s, "drop_"); ok {
		name = strings.ReplaceAll(chain, "_", "-")
	}
	for _, r := range dropRules {
		if r.Name == name {
			return r, true
		}
	}
	return DropRule{}, false
}

// Chain is the page's chain in which the rule ends.
func (r DropRule) Chain() string { return "drop_" + strings.ReplaceAll(r.Name, "-", "_") }

// DropGroups are the NFLOG groups (nfnetlink_log, 16 bits) of a table's drops. A group
// has one reader in the kernel, so that there are two: the daemon's, and one that is
// free for people's tools. They follow from the table's name, which has the instance in
// it, and keep clear of the low numbers that others choose by hand.
func DropGroups(table string) (daemon, people uint16) {
	h := fnv.New32a()
	h.Write([]byte(table))
	n := 1024 + uint16(h.Sum32()%((1<<16-1024)/2))*2
	return n, n + 1
}

var telling = regexp.MustCompile(`(?m)^\t\tlimit rate [^\n]* log prefix [^\n]*\n`)

// Quiet is the page for a kernel that cannot log to NFLOG: it drops the same and tells
// nothing. Its name is the same, so that nobody replaces it for ever.
func (o Page) Quiet() Page {
	o.Text = telling.ReplaceAllString(o.Text, "")
	return o
}
