package main

import (
	"context"

	"linkspan/api/admin"
)

const exposedAbout = `List what is reached from outside of this host: every published port, and every
container whose network is open to routing; for whom, and through which element of
Linkspan's table. Each is walked as ` + "`linkspan why outside …`" + ` does, so that what another
firewall closes is told as closed. What the host's own firewall (ufw, firewalld) would
refuse and is open all the same, since published ports are forwarded, is marked with "!".

Exit code: 0 it was answered; 2 something is open that the host's own firewall would
refuse; 1 the daemon could not be asked.`

// runExposed is `linkspan exposed`.
func runExposed(args []string) int {
	q := &question{name: "exposed", about: exposedAbout, example: exposedExample}
	q.ask = func(ctx context.Context, c admin.Client, _ []string) (int, error) {
		e, err := c.Exposed(ctx)
		if err != nil {
			return 1, err
		}
		return e.ExitCode(), q.write(e)
	}
	return q.run(args)
}

const exposedExample = `
  # linkspan exposed
  open    port 8080/tcp on every address -> 9000/tcp of pub
          for whoever reaches the host, through publish4_any { tcp . 8080 : 172.17.0.2 . 9000 }
          ! the host's firewall would refuse this port if it were the host's own
            (table inet filter, chain input: policy drop); published ports do not
            pass its input chain.

  1 of 1 open, 8 ms
`
