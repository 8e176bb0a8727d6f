package main

import (
	"context"
	"encoding/json"
	"os"

	"github.com/spf13/pflag"

	"linkspan/api/admin"
	"linkspan/diagnose/flows"
)

const flowsAbout = `Show who talks to whom: conntrack's entries joined with the names of containers and
networks, through which published port, and how addresses are translated on the way.
Without a name, all flows in which a container takes part.

With --follow, what happens from now on: new, changed and ended flows, and those that a
rule of Linkspan dropped (see linkspan drops).

What passes within one network is switched, and no conntrack sees it: of that, TCP
connections are shown as the containers' sockets have them, and --follow has none
(linkspan capture shows the packets). Bytes and ages of the others are the kernel's,
which keeps them only when told to, for flows that begin afterwards; Linkspan does not
turn it on:

  sysctl -w net.netfilter.nf_conntrack_acct=1 net.netfilter.nf_conntrack_timestamp=1

Exit code: 0 asked and answered; 1 it could not be asked, or there is no such name.`

const flowsExample = `
  # linkspan flows
  PROTO  FROM                 TO             THROUGH                       VERDICT   STATE        SENT  BACK     AGE
  icmp   api                  192.168.99.50  as 192.168.99.31              accepted  answered     84B   84B      2s
  tcp    api:47044            db:5432        -                             accepted  ESTABLISHED  3kB   3.059kB  -
  tcp    192.168.99.50:48874  web:80         published 192.168.99.31:8080  accepted  TIME_WAIT    268B  224B     2s
`

// runFlows is `linkspan flows`.
func runFlows(args []string) int {
	var wish flows.Wish
	goOn := false
	q := &question{name: "flows", usage: "[CONTAINER|NETWORK]", about: flowsAbout, example: flowsExample, most: 1, flags: func(f *pflag.FlagSet) {
		f.BoolVarP(&goOn, "follow", "f", false, "Go on with what happens, until it is interrupted")
		f.BoolVarP(&wish.All, "all", "a", false, "The host's own flows as well")
	}}
	q.ask = func(ctx context.Context, c admin.Client, args []string) (int, error) {
		if len(args) > 0 {
			wish.Either = args[0]
		}
		if !goOn {
			t, err := c.Flows(ctx, wish)
			if err != nil {
				return 1, err
			}
			return 0, q.write(t)
		}
		return 0, c.FollowFlows(ctx, wish, func(l flows.Line) error {
			switch {
			case l.Note != "":
				return note(l.Note)
			case l.Flow == nil:
				return nil
			case q.json:
				return jsonLine(l.Flow)
			}
			return l.Flow.WriteLine(os.Stdout)
		})
	}
	return q.run(args)
}

// note is for the person, beside the answer.
func note(s string) error {
	_, err := os.Stderr.WriteString("linkspan: " + s + "\n")
	return err
}

// jsonLine writes a value as one line.
func jsonLine(v any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
