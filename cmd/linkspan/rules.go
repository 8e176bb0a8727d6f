package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"linkspan/api/admin"
	"linkspan/diagnose/rules"
)

// runRules is `linkspan rules`.
func runRules(args []string) int {
	as := ""
	q := &question{name: "rules",
		about: "Show Linkspan's firewall: the rules with what they counted, and what is in their sets with\n" +
			"the names of the containers and networks.\n" +
			"With --as iptables the same is written as `iptables -S` would, for IPv4 and IPv6; with\n" +
			"iptables-list as `iptables -nL`, with iptables-save as `iptables-save`. That is a\n" +
			"translation: the rules are nftables', and iptables shows none of them.\n" +
			"Exit code: 0 the kernel has all of it, 2 something is missing or different, 1 something failed.",
		flags: func(f *pflag.FlagSet) {
			f.StringVar(&as, "as", "", "Translate: iptables, iptables-list or iptables-save")
		},
		example: rulesExample,
	}
	q.ask = func(ctx context.Context, c admin.Client, _ []string) (int, error) {
		if as != "" {
			return asIptables(ctx, q, c, as)
		}
		p, err := c.Rules(ctx)
		if err != nil {
			return 1, err
		}
		if err := q.write(p); err != nil {
			return 1, err
		}
		if p.Damaged() {
			return 2, nil
		}
		return 0, nil
	}
	return q.run(args)
}

func asIptables(ctx context.Context, q *question, c admin.Client, as string) (int, error) {
	write, ok := map[string]func(*rules.Iptables, io.Writer) error{
		"iptables": (*rules.Iptables).WriteText, "iptables-list": (*rules.Iptables).WriteList, "iptables-save": (*rules.Iptables).WriteSave,
	}[as]
	if !ok {
		return 1, fmt.Errorf("the rules cannot be shown as %q: say iptables, iptables-list or iptables-save", as)
	}
	t, err := c.RulesAsIptables(ctx)
	if err != nil {
		return 1, err
	}
	if q.json {
		return 0, q.write(t)
	}
	return 0, write(t, os.Stdout)
}

const rulesExample = `
  # linkspan rules
  table inet linkspan_817220, live and whole
  92 rules in 24 chains, which never change; what varies are the elements.
  …
    publish4_any
      tcp . 8080 : 172.17.0.3 . 80  web
  …
    unpublished    3 packets, 180 bytes
        # the port is not published: from outside, a container's own address leads nowhere
  # linkspan rules --as iptables
  # A translation: on this host Linkspan's rules are nftables', and iptables shows none.
  # What is really there: linkspan rules, or nft list table inet linkspan_817220

  # iptables -t nat -S
  …
  -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
  -A POSTROUTING -s 172.17.0.3/32 -d 172.17.0.3/32 -p tcp -m tcp --dport 80 -j MASQUERADE
  …
  -A DOCKER -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.3:80
`
