package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"

	"linkspan/api/admin"
	"linkspan/cnm"
	"linkspan/diagnose/flows"
)

const dropsAbout = `Show which packets the rules of Linkspan dropped: when, by which rule, whose they were
and which network the rule protects. The daemon keeps the last 1,000, with the names of
that moment, and forgets them when it ends. With --follow, those that come from now on.

Of each rule up to 20 packets a second are told (and 100 at once); all are dropped, and
counted: linkspan rules. What the kernel drops by itself is not seen here: the reverse
path filter (rp_filter), martian addresses, missing routes and neighbours, and the rules
of others; linkspan why looks for these.

The same can be read as it comes, without the daemon: the list ends with the line
(tcpdump -ni nflog:GROUP), whose group is another than the daemon's.

Exit code: 0 there were none (or --follow was interrupted); 2 there were some; 1 it could
not be asked, or there is no such name.`

const dropsExample = `
  # linkspan drops web
  TIME                RULE         WHAT     FROM                 TO      WAY                         OWNER
  11-21 12:20:54.502  unpublished  tcp SYN  192.168.99.50:55660  web:80  eth1 -> docker0             network bridge
  11-21 12:20:54.987  isolated     tcp SYN  web:39546            api:80  docker0 -> br-78d3dc8ca558  network shop

  unpublished: from outside, a container is reached through the ports that it publishes, not by its own address; publish the port (-p), and use the host's address
  isolated: the two are on different networks, which do not reach each other; connect one to the other's network: linkspan network connect
  as they come, without the daemon: tcpdump -ni nflog:1739
`

// runDrops is `linkspan drops`.
func runDrops(args []string) int {
	var match flows.Match
	goOn, since := false, ""
	q := &question{name: "drops", usage: "[CONTAINER|NETWORK]", about: dropsAbout, example: dropsExample, most: 1, flags: func(f *pflag.FlagSet) {
		f.BoolVarP(&goOn, "follow", "f", false, "Go on with what is dropped, until it is interrupted")
		f.StringVar(&since, "since", "", "Not older than this: a duration (10m) or a time (2026-11-21T12:00:00Z)")
		f.StringVar(&match.Rule, "rule", "", "Only of the rule of this name (unpublished, isolated, …)")
	}}
	q.ask = func(ctx context.Context, c admin.Client, args []string) (int, error) {
		of := ""
		if len(args) > 0 {
			of = args[0]
		}
		var err error
		if match.Since, err = moment(since, time.Now()); err != nil {
			return 1, err
		}
		told := map[string]bool{}
		one := func(d flows.Drop) error {
			if q.json {
				return jsonLine(d)
			}
			return d.WriteLine(os.Stdout, told)
		}
		if goOn {
			if since != "" {
				l, err := c.Drops(ctx, of, match)
				if err != nil {
					return 1, err
				}
				for _, d := range l.Drops {
					if err := one(d); err != nil {
						return 1, err
					}
				}
			}
			return 0, c.FollowDrops(ctx, of, match, func(d admin.FollowedDrop) error {
				if d.Missed > 0 {
					note(fmt.Sprintf("%d were left out here: they came faster than they were read", d.Missed))
				}
				return one(d.Drop)
			})
		}
		l, err := c.Drops(ctx, of, match)
		if err != nil {
			return 1, err
		}
		code := 0
		if len(l.Drops) > 0 {
			code = 2
		}
		if !q.json {
			return code, l.WriteText(os.Stdout)
		}
		for _, d := range l.Drops {
			if err := one(d); err != nil {
				return 1, err
			}
		}
		for _, n := range l.Notes {
			note(n)
		}
		return code, nil
	}
	return q.run(args)
}

// moment reads --since; "" is the zero time.
func moment(s string, now time.Time) (t time.Time, err error) {
	if s == "" {
		return t, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d.Abs()), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return t, cnm.Invalid("invalid value %q for --since: write a duration, like 10m, or a time, like 2026-11-21T12:00:00Z", s)
}
