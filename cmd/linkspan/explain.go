package main

import (
	"context"

	"github.com/spf13/pflag"

	"linkspan/api/admin"
	"linkspan/diagnose/explain"
)

// runExplain is `linkspan explain`.
func runExplain(args []string) int {
	kind := ""
	q := &question{name: "explain", usage: "CONTAINER|NETWORK|PORT|host", least: 1, most: 1,
		about: "Tell what was made in the kernel for a container, a network, a published port (8080,\n" +
			"8080/udp, 127.0.0.1:8080) or the host: each object, why, where, whether it is there now,\n" +
			"and the command that shows it. An address or an interface of the host (172.17.0.2,\n" +
			"docker0, veth…) leads to whose it is.\n" +
			"Exit code: 0 all of it is there, 2 something is missing or different, 1 something failed.",
		flags: func(f *pflag.FlagSet) {
			f.StringVar(&kind, "type", "", "What the name is of: container, network, port or host")
		},
		example: explainExample,
	}
	q.ask = func(ctx context.Context, c admin.Client, args []string) (int, error) {
		e, err := c.Explain(ctx, args[0], explain.Kind(kind))
		if err != nil {
			return 1, err
		}
		if err := q.write(e); err != nil {
			return 1, err
		}
		if e.Missing+e.Different > 0 {
			return 2, nil
		}
		return 0, nil
	}
	return q.run(args)
}

const explainExample = `
  # linkspan explain 8080
  host port 8080: published by container web
    container  web  running
    published  8080/tcp → 80

  published ports of web
    + DNAT tcp 8080 → 172.17.0.3:80
        why    host port 8080/tcp leads to port 80 of web
        where  the host, publish4_any { tcp . 8080 : 172.17.0.3 . 80 }
        show   nft get element inet linkspan_817220 publish4_any '{ tcp . 8080 }'
    + reserved host port [::]:8080/tcp
        why    what the kernel cannot translate is forwarded to 172.17.0.3:80: connections to
               [::1], or of a family that the container does not have
        where  the host, a socket of the keeper
        show   ss -Hltnp 'sport = :8080'
  …
  9 objects, all there.
  # nft get element inet linkspan_817220 publish4_any '{ tcp . 8080 }'
  table inet linkspan_817220 {
  	map publish4_any {
  		type inet_proto . inet_service : ipv4_addr . inet_service
  		elements = { tcp . 8080 : 172.17.0.3 . 80 }
  	}
  }
`
