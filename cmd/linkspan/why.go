package main

import (
	"context"

	"github.com/spf13/pflag"

	"linkspan/api/admin"
)

const whyAbout = `Say whether A reaches B, and if not, why, and the one command that mends it.

A and B are each a container (name, id, or the beginning of one), "host", "outside"
(another machine; "outside:203.0.113.9" is that one), an address (of a container, of the
host, or of anybody), or a name, which is looked up as A would. B has a port where one is
meant: db:5432, db:53/udp, [fd00::3]:80; without a port, ping is followed.

It walks what is declared (names, networks, published ports), then the live kernel in the
order in which the packet meets it (routes, neighbours, bridges, every rule of every
firewall, translations, who listens), and the way of the answer. It sends nothing and
changes nothing; only --probe sends one packet, and compares what it met.

Exit code: 0 it reaches; 2 it does not; 1 the question is wrong, or it cannot be told.`

const whyExample = `
  # linkspan why web db:5432
  ✗ No: db listens on 5432/tcp only on 127.0.0.1: nobody but db itself reaches
    it there.
`

// runWhy is `linkspan why`.
func runWhy(args []string) int {
	probe := false
	q := &question{name: "why", usage: "A B[:PORT[/PROTO]]", about: whyAbout, example: whyExample, least: 2, most: 2,
		flags: func(f *pflag.FlagSet) {
			f.BoolVar(&probe, "probe", false, "Send one real packet, and compare")
		}}
	q.ask = func(ctx context.Context, c admin.Client, args []string) (int, error) {
		a, err := c.Why(ctx, args[0], args[1], probe)
		if err != nil {
			return 1, err
		}
		return a.ExitCode(), q.write(a)
	}
	return q.run(args)
}
