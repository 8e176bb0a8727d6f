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

Where A and B are on different hosts of a mesh, the daemons of both are asked, each for
the half that it sees; it does not matter at which host you ask. The answer says on which
host the cure is to be typed. A host that cannot be asked is named, and the answer is then
that it cannot be told.

Exit code: 0 it reaches; 2 it does not; 1 the question is wrong, or it cannot be told.`

const whyExample = `
  # linkspan why outside pub:9000
  ✗ No: the host's firewall drops what goes from outside to pub: table inet wall,
    chain c, rule ` + "`tcp dport 9000 drop`" + `.

  This mends it:

    nft insert rule inet wall c handle 2 ip daddr 172.17.0.2 tcp dport 9000 accept

  What is declared:
    ✓ pub   container            running
    ✓ pub   published            at 192.168.99.31 port 8080/tcp

  The way there:
    ✓ host  translation          to 172.17.0.2:9000/tcp
    ✓ host  route to 172.17.0.2  docker0, directly
    ✗ host  firewall, forward    table inet wall, chain c, drops it: tcp dport
              9000 drop

  host-firewall, 25 ms
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
