package daemon

import (
	"context"

	"linkspan/api/admin"
)

// collect lists what nothing declares any more, and removes it unless dry. What holds
// something else comes first, so that the second look finds what it let go.
func (e *engine) collect(ctx context.Context, dry bool) (*admin.Garbage, error) {
	g := &admin.Garbage{DryRun: dry, Items: []admin.GarbageItem{}}
	seen := map[string]bool{}
	note := func(kind, name, why string, commands []string, take func(context.Context) error) {
		if seen[kind+" "+name] {
			return
		}
		seen[kind+" "+name] = true
		item := admin.GarbageItem{Kind: kind, Name: name, Why: why, Commands: commands}
		if !dry {
			if err := take(ctx); err != nil {
				item.Error = err.Error()
			}
		}
		g.Items = append(g.Items, item)
	}
	failed := func(err error) {
		if err != nil {
			g.Failures = append(g.Failures, err.Error())
		}
	}
	left, err := e.containers.Leftovers(ctx)
	failed(err)
	for _, l := range left {
		note(l.What, l.ID, "it was made for a container that is not there any more", nil, l.Take)
	}
	lives := func(id string) bool { _, err := e.containers.Get(id); return err == nil }
	ours, err := e.network.Garbage(ctx, lives)
	failed(err)
	for _, x := range ours {
		note(x.Kind, x.Name, x.Why, x.Commands, x.Take)
	}
	if !dry {
		failed(e.kernel.Settle(ctx)) // links that were just removed are about to go
	}
	subnets, somebodys := e.network.Subnets()
	kernel, err := e.kernel.Garbage(ctx, subnets, somebodys)
	failed(err)
	for _, x := range kernel {
		note(x.Kind, x.Name, x.Why, x.Commands, x.Take)
	}
	for _, i := range g.Items {
		if !dry {
			e.log.Info("garbage removed", "kind", i.Kind, "name", i.Name, "why", i.Why, "failed", i.Error)
		}
	}
	return g, nil
}
