package why

import (
	"net/netip"
	"strings"

	"linkspan/dataplane"
	"linkspan/dataplane/ruleset"
)

// ruled is the cause when a rule drops a packet.
func (w *walk) ruled(at place, hook string, p packet, t ruleset.Trace, r *Rule, verb string) *cause {
	if r.Owner == "Linkspan" && at.host() {
		return w.ownRule(p, r, verb)
	}
	code, where := HostFirewall, "the host's firewall"
	if !at.host() {
		code, where = ContainerFirewall, "a firewall inside "+at.name
	}
	who := ""
	if r.Owner != "" {
		who = " of " + r.Owner
	}
	text := "rule `" + r.Text + "`"
	if t.Rule != nil && t.Rule.Policy {
		text = "its policy"
	}
	what := "what goes from " + w.a.Name + " to " + w.whose(p.dst)
	if p.answer {
		what = "the answers of " + w.whose(p.src) + " to " + w.a.Name
	}
	c := because(code, "%s %s %s: table %s %s, chain %s%s, %s.", where, verb, what, r.Family, r.Table, r.Chain, who, text)
	c.rule = r
	return c.mend("%s", w.exception(at, hook, p, t, r))
}

// whose is B, or the container that B's port leads to.
func (w *walk) whose(a netip.Addr) string {
	if s, _ := w.world.Holder(a); s != nil {
		return s.OwnerName
	}
	return w.b.Name
}

// ownRule is the cause when a rule of ours drops it: what is declared, or that the page
// is not as it should be.
func (w *walk) ownRule(p packet, r *Rule, verb string) *cause {
	drop, known := dataplane.DropRuleOf(r.Chain)
	if w.declared != nil {
		c := *w.declared
		c.rule = r
		return &c
	}
	switch drop.Name {
	case "loopback", "internal-host", "not-forwarded", "not-a-peer", "plain-text":
		code := map[string]Code{"loopback": Unpublished, "internal-host": Internal, "not-forwarded": ForwardingOff,
			"not-a-peer": NotAPeer, "plain-text": PlainText}[drop.Name]
		c := because(code, "Linkspan %s it (rule %s): %s.", verb, drop.Name, drop.Why).advise("%s", drop.Cure)
		c.rule = r
		return c
	}
	why := ""
	if known {
		why = " (rule " + drop.Name + ")"
	}
	c := because(OwnPageDamaged, "Linkspan's own table inet %s %s what goes from %s to %s%s, although it is declared that it passes: the table was changed.",
		r.Table, verb, w.a.Name, w.b.Name, why).mend("linkspan reconcile")
	c.rule = r
	return c
}

// ruleOf is a rule for the answer, with its owner.
func (w *walk) ruleOf(at place, fw firewall, h ruleset.Hit) *Rule {
	return &Rule{Namespace: at.name, Family: h.Family, Table: h.Table, Chain: h.Chain, Handle: h.Handle, Text: h.Text, Owner: w.ownerOf(fw, h)}
}

// makers are recognised by the names of their chains or tables.
var makers = []struct{ prefix, name string }{
	{"ufw", "ufw"}, {"firewalld", "firewalld"}, {"DOCKER", "dockerd"}, {"docker-", "dockerd"}, {"KUBE-", "kube-proxy"}, {"cali-", "Calico"},
	{"LIBVIRT_", "libvirt"}, {"libvirt", "libvirt"}, {"ts-", "Tailscale"}, {"tailscale", "Tailscale"}, {"f2b-", "fail2ban"}, {"CNI-", "a CNI plugin"},
	{"NETAVARK", "Podman"}, {"netavark", "Podman"}, {"lxc", "LXD"}, {"incus", "Incus"},
}

func (w *walk) ownerOf(fw firewall, h ruleset.Hit) string {
	if h.Table == w.world.Table && (h.Family == "inet" || h.Family == "bridge") || h.Table == redirectTable {
		return "Linkspan"
	}
	if strings.HasPrefix(h.Table, "linkspan_") {
		return "another Linkspan"
	}
	for _, names := range [][]string{{h.Chain, h.Table}, fw.chains(h.Family, h.Table)} {
		for _, n := range names {
			for _, m := range makers {
				if strings.HasPrefix(n, m.prefix) {
					return m.name
				}
			}
		}
	}
	if h.Legacy {
		return "iptables (legacy)"
	}
	if (h.Family == "ip" || h.Family == "ip6") && h.Chain != "" && h.Chain == strings.ToUpper(h.Chain) {
		return "iptables"
	}
	return ""
}
