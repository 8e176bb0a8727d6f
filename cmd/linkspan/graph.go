package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"linkspan/api/admin"
	"linkspan/diagnose/graph"
)

// runGraph is `linkspan graph`.
func runGraph(args []string) int {
	format := "tree"
	formats := []string{"tree", "dot", "svg", "json"}
	q := &question{name: "graph",
		about: "Draw the host, its networks, containers, their addresses and published ports.\nExit code: 0 drawn, 1 something failed.",
		flags: func(f *pflag.FlagSet) {
			f.StringVar(&format, "format", format, "How: "+strings.Join(formats, ", "))
		},
		example: `
  # linkspan graph
  host vm
  ├─ eth1  192.168.99.31/24  up, default route via 192.168.99.50
  ├─ network bridge  172.17.0.0/16 via 172.17.0.1  on docker0
  │  └─ web  eth0  172.17.0.2  02:42:ac:11:00:02  vetha6b0ad0  running
  │     ├─ 8080/tcp → 80
  │     └─ 127.0.0.1:9090/udp → 90
  ├─ network shop  172.18.0.0/16 via 172.18.0.1  on br-377ded16414d
  │  └─ db  eth0  172.18.0.2  02:42:ac:12:00:02  vethe8cff22  running
  └─ network vault  172.19.0.0/16 via 172.19.0.1  on br-a87867c65dce  (internal)
     └─ db  eth1  172.19.0.2  02:42:ac:13:00:02  vethfc7a27a  running
  # linkspan graph --format svg > host.svg
`,
	}
	q.ask = func(ctx context.Context, c admin.Client, _ []string) (int, error) {
		if q.json {
			format = "json"
		}
		if !slices.Contains(formats, format) {
			return 1, fmt.Errorf("there is no format %q: say one of %s", format, strings.Join(formats, ", "))
		}
		g, err := c.Graph(ctx)
		if err != nil {
			return 1, err
		}
		return 0, drawn(q, g, format)
	}
	return q.run(args)
}

func drawn(q *question, g *graph.Graph, format string) error {
	write := map[string]func(io.Writer) error{"tree": g.WriteText, "dot": g.WriteDOT,
		"svg": func(w io.Writer) error { return g.WriteSVG(w, nil) }}[format]
	if write == nil {
		q.json = true
		return q.write(g)
	}
	return write(os.Stdout)
}
