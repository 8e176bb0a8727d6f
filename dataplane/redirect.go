package dataplane

import (
	"fmt"
	"net/netip"
	"strings"
)

// Redirect leads port 53 of a sandbox's resolver address to the port that the
// resolver's sockets are bound to. Only packets of that one address on loopback
// are changed, one by one: a nat chain would have the kernel track every
// connection of the sandbox, and a socket on port 53 itself would keep a
// container from serving 0.0.0.0:53.
type Redirect struct {
	Meta
	NS string // pin path
}

// The resolver as a sandbox's programs know it, and the port that leads to (dns.Addr,
// dns.Port).
var ResolverAddr = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// The ports of the resolver.
const (
	ResolverPort  = 53
	ResolverBound = 11053
)

// RedirectTable is the table (family ip) inside of a sandbox that does it.
const RedirectTable = "linkspan_resolver"

func (o Redirect) Key() string  { return "redirect " + at(o.NS, ResolverAddr.String()) }
func (o Redirect) Spec() string { return fmt.Sprintf("port %d to %d", ResolverPort, ResolverBound) }
func (o Redirect) Phase() Phase { return PhaseRoute }

// Commands shows the table. The question is changed after, the answer before what
// the container's own rules see, so that these see port 53 both ways.
func (o Redirect) Commands() (create, remove []string) {
	var b strings.Builder
	fmt.Fprintf(&b, "%snft -f - <<'TABLE'\ntable ip %s {\n", in(o.NS), RedirectTable)
	for _, c := range []struct{ chain, prio, match, field, was, is string }{
		{"ask", "300", "ip daddr", "dport", fmt.Sprint(ResolverPort), fmt.Sprint(ResolverBound)},
		{"answer", "-300", "ip saddr", "sport", fmt.Sprint(ResolverBound), fmt.Sprint(ResolverPort)},
	} {
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype filter hook output priority %s; policy accept;\n\t\toif != \"lo\" accept\n", c.chain, c.prio)
		for _, proto := range []string{"udp", "tcp"} {
			fmt.Fprintf(&b, "\t\t%s %s %s %s %s %s %s set %s\n", c.match, ResolverAddr, proto, c.field, c.was, proto, c.field, c.is)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\nTABLE")
	return []string{b.String()}, []string{in(o.NS) + "nft delete table ip " + RedirectTable}
}
