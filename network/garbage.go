package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"linkspan/dataplane"
)

// Garbage is something of ours that nothing declares any more.
type Garbage struct {
	// Kind and Name say what it is: "link veth12345", "sandbox of web".
	Kind, Name string
	// Why is one sentence: why nothing needs it.
	Why string
	// Commands are what a person would type to remove it, where that can be typed.
	Commands []string
	// Take removes it.
	Take func(context.Context) error
}

// Garbage looks for what nothing declares: sandboxes whose containers are all gone,
// with their endpoints, addresses and ports; static addresses held for no container;
// kernel objects with our mark; the keeper's ports and names. lives says whether there
// is a container of that id, running or not.
func (c *Controller) Garbage(ctx context.Context, lives func(id string) bool) ([]Garbage, error) {
	c.world.Lock() // a container that starts would look like garbage
	defer c.world.Unlock()
	var out []Garbage
	for _, s := range c.Sandboxes() {
		if slices.ContainsFunc(s.Members, lives) {
			continue
		}
		var holds []string
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			for _, a := range e.Addrs {
				holds = append(holds, fmt.Sprintf("%s on %s", a.Addr(), e.NetworkName))
			}
		}
		why := "none of its containers is there any more"
		if len(holds) > 0 || len(s.Ports) > 0 {
			why += fmt.Sprintf("; it holds %s and %d published ports", strings.Join(holds, ", "), len(s.Ports))
		}
		out = append(out, Garbage{Kind: "sandbox", Name: "of " + s.OwnerName, Why: why, Take: func(ctx context.Context) error {
			var errs []error
			for _, m := range s.Members {
				errs = append(errs, c.Leave(ctx, m, false))
			}
			return errors.Join(errs...)
		}})
	}
	c.mu.RLock()
	defined := slices.Sorted(maps.Keys(c.defined))
	c.mu.RUnlock()
	for _, id := range defined {
		d := c.definition(id)
		if d == nil || lives(id) {
			continue
		}
		for _, h := range d.held {
			out = append(out, Garbage{Kind: "address", Name: h.addr.String(), Why: "it is held for container " + d.name + ", which is not there any more",
				Take: func(context.Context) error { c.Undefine(id); return nil }})
		}
	}
	p, _, err := c.compare(ctx)
	if err != nil {
		return out, err
	}
	for _, op := range p.Ops {
		if op.Verb != dataplane.Delete {
			continue
		}
		kind, name, _ := strings.Cut(op.Object.Key(), " ")
		_, commands := op.Object.Commands()
		out = append(out, Garbage{Kind: kind, Name: name, Why: "it carries Linkspan's mark, and nothing that is declared needs it", Commands: commands,
			Take: func(ctx context.Context) error {
				c.world.Lock()
				defer c.world.Unlock()
				now, _, err := c.compare(ctx) // it may be needed meanwhile
				if err != nil || !slices.ContainsFunc(now.Ops, func(o dataplane.Op) bool { return o.Verb == dataplane.Delete && o.Object.Key() == op.Object.Key() }) {
					return err
				}
				return c.cfg.Kernel.Apply(ctx, []dataplane.Op{op})
			}})
	}
	held, err := c.held(ctx)
	return append(out, held...), err
}

// held is what the keeper holds for nobody.
func (c *Controller) held(ctx context.Context) (out []Garbage, err error) {
	alive := map[string]bool{}
	for _, s := range c.Sandboxes() {
		alive[s.ID] = true
	}
	ports, err := c.cfg.Ports.Ports(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range ports {
		if alive[p.Owner] {
			continue
		}
		out = append(out, Garbage{Kind: "port", Name: fmt.Sprintf("%s %s:%d", p.Proto, p.Addr, p.Port),
			Why: "the keeper holds it for a sandbox that is not there any more", Take: func(ctx context.Context) error { return c.cfg.Ports.Release(ctx, p.Owner) }})
	}
	if c.cfg.Resolver == nil {
		return out, nil
	}
	views, err := c.cfg.Ports.Views(ctx)
	for _, id := range views {
		if !alive[id] {
			out = append(out, Garbage{Kind: "resolver", Name: id[:min(12, len(id))], Why: "it answers in a sandbox that is not there any more",
				Take: func(ctx context.Context) error { return c.cfg.Ports.RemoveView(ctx, id) }})
		}
	}
	return out, err
}

// Subnets are those of all networks, and Lives says whether an address in them is
// somebody's: an endpoint's or the host's own.
func (c *Controller) Subnets() (subnets []netip.Prefix, lives func(netip.Addr) bool) {
	used := map[netip.Addr]bool{}
	for _, n := range c.Networks() {
		for _, p := range n.Pools {
			if n.ConfigOnly || !p.Subnet.IsValid() || n.Borrowed {
				continue // behind a borrowed bridge others have addresses too
			}
			subnets = append(subnets, p.Subnet)
			used[p.Gateway] = true
		}
	}
	for _, s := range c.Sandboxes() {
		for i := range s.Endpoints {
			for _, a := range addresses(&s.Endpoints[i]) {
				used[a] = true
			}
		}
	}
	return subnets, func(a netip.Addr) bool { return used[a] }
}
