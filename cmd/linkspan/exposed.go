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
`
