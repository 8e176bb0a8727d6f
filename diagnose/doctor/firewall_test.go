package doctor

import (
	"context"
	"strings"
	"testing"

	"linkspan/dataplane/ruleset"
	"linkspan/internal/worldtest"
)

func base(hook, policy string) *ruleset.Chain {
	return &ruleset.Chain{Name: strings.ToUpper(hook), Type: "filter", Hook: hook, Policy: policy}
}

// TestFirewalls: a drop of somebody else is found, with the command of whoever it is.
func TestFirewalls(t *testing.T) {
	table := func(family, name string, chains ...*ruleset.Chain) *ruleset.Table {
		return &ruleset.Table{Family: family, Name: name, Chains: chains}
	}
	for _, c := range []struct {
		name   string
		tables []*ruleset.Table
		code   string
		cure   string
	}{
		{name: "none", code: ""},
		{name: "one that accepts", tables: []*ruleset.Table{table("inet", "filter", base("forward", "accept"))}},
		{name: "input only", tables: []*ruleset.Table{table("inet", "filter", base("input", "drop"))}},
		{name: "nft", tables: []*ruleset.Table{table("inet", "mine", base("forward", "drop"))}, code: "firewall-drops", cure: "nft insert rule inet mine FORWARD iifname docker0 accept"},
		{name: "dormant", tables: []*ruleset.Table{{Family: "inet", Name: "mine", Dormant: true, Chains: []*ruleset.Chain{base("forward", "drop")}}}},
		{name: "iptables", tables: []*ruleset.Table{table("ip", "filter", base("forward", "drop"))}, code: "firewall-drops", cure: "iptables -I FORWARD -i docker0 -j ACCEPT"},
		{name: "dockerd", tables: []*ruleset.Table{table("ip", "filter", base("forward", "drop"), &ruleset.Chain{Name: "DOCKER-USER"})}, code: "firewall-drops", cure: "iptables -I DOCKER-USER -o docker0 -j ACCEPT"},
		{name: "ufw", tables: []*ruleset.Table{table("ip", "filter", base("forward", "drop"), &ruleset.Chain{Name: "ufw-user-forward"})}, code: "firewall-drops", cure: "ufw route allow in on docker0"},
		{name: "firewalld", tables: []*ruleset.Table{table("inet", "firewalld", base("forward", "drop"))}, code: "firewall-drops", cure: "--add-interface=docker0"},
		{name: "legacy", tables: []*ruleset.Table{{Family: "ip", Name: "filter", Legacy: true, Chains: []*ruleset.Chain{base("forward", "drop")}}}, code: "firewall-drops", cure: "iptables-legacy -I FORWARD -i docker0 -j ACCEPT"},
		{name: "both", tables: []*ruleset.Table{
			{Family: "ip", Name: "filter", Legacy: true, Chains: []*ruleset.Chain{{Name: "INPUT", Hook: "input", Policy: "accept", Rules: []*ruleset.Rule{{}}}}},
			{Family: "ip", Name: "filter", Chains: []*ruleset.Chain{{Name: "INPUT", Hook: "input", Policy: "accept", Rules: []*ruleset.Rule{{}}}}}},
			code: "iptables-both", cure: "iptables-legacy-save"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := well(nil)
			rs := &ruleset.Ruleset{Tables: c.tables}
			rs.Link()
			p.World.Kernel.(*worldtest.Kernel).Rules = rs
			r := Examine(context.Background(), p)
			var cures []string
			for _, f := range r.Findings {
				if f.Severity == OK || f.Severity == Note {
					continue
				}
				if f.Code != c.code {
					t.Errorf("%+v", f)
				}
				cures = append(cures, f.Cure)
			}
			if len(cures) > 2 { // one for each rule, of IPv4 and of IPv6
				t.Errorf("%d findings for one rule", len(cures))
			}
			if all := strings.Join(cures, "\n"); (c.code == "") != (len(cures) == 0) || !strings.Contains(all, c.cure) {
				t.Errorf("cures %q, want %q", all, c.cure)
			}
		})
	}
}
