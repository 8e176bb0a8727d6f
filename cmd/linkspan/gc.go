package main

import (
	"context"

	"github.com/spf13/pflag"

	"linkspan/api/admin"
)

// runGC is `linkspan gc`.
func runGC(args []string) int {
	dry := false
	q := &question{name: "gc", about: "Remove what Linkspan made and nothing declares any more: sandboxes, addresses and ports of containers that are gone,\nlinks, tables and flows in the kernel, what containerd and the keeper hold, folders. The daemon leaves none of it behind\nby itself; this finds what a crash of the machine, or a person, did.\nExit code: 0 done, or there is none; 2 there is some (--dry-run); 1 something failed.",
		flags: func(f *pflag.FlagSet) {
			f.BoolVar(&dry, "dry-run", false, "List it and why it is garbage, and change nothing")
		},
		example: `
  # nft add table inet linkspan_probe_4711
  # linkspan gc --dry-run
  # table inet linkspan_probe_4711: who asked by it is gone
  nft delete table inet linkspan_probe_4711
  # 1 to remove; nothing was changed (dry run)
`,
	}
	q.ask = func(ctx context.Context, c admin.Client, _ []string) (int, error) {
		g, err := c.GC(ctx, dry)
		if err != nil {
			return 1, err
		}
		failed := len(g.Failures) > 0
		for _, i := range g.Items {
			failed = failed || i.Error != ""
		}
		switch err := q.write(g); {
		case err != nil || failed:
			return 1, err
		case dry && len(g.Items) > 0:
			return 2, nil
		}
		return 0, nil
	}
	return q.run(args)
}
