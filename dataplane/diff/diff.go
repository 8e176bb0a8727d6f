// Package diff turns what should exist and what does into ordered operations.
// It is pure: the same two states always give the same plan.
//
// The order, and why:
//
//  1. Deletes that free a name, an address or a route which a create needs.
//  2. Creates and changes, guards first and openings last (dataplane.Phase):
//     nothing is reachable before what closes it is there.
//  3. All other deletes, the other way round: openings go first. Adding before
//     deleting keeps traffic flowing while things move.
package diff

import (
	"maps"
	"slices"

	"linkspan/dataplane"
)

// Plan is what has to be done, and what is left alone.
type Plan struct {
	Ops []dataplane.Op
	// Drift are wanted objects inside sandboxes that are missing or different
	// while the sandbox's interface stands: someone changed them in there (a VPN
	// container, wiring by hand), so they are told, not undone.
	Drift []dataplane.Object
}

// Compute compares the two states. Shared and other sysctls that are not wanted
// any more stay; objects inside sandboxes that nobody declared are not ours to
// judge. Where a kill came between the steps of a change (a wire's host end is still
// down, or nobody wants a wire that is there) the inside is put right all the same.
// repairInside names pins of sandboxes whose inside is put right as well:
// those that nobody ran anything in yet, or where a person asked for it.
func Compute(desired, observed *dataplane.State, repairInside ...string) Plan {
	c := newComputer(desired, observed, false, repairInside)
	return Plan{Ops: c.run(), Drift: c.drift}
}

// Half says in which sandboxes a kill may have left something half-made or
// half-removed, by what is observed outside of them: only the insides of these would
// Compute ever change, and of all others it could but tell what drifted.
func Half(desired, observed *dataplane.State) (pins []string) {
	c := newComputer(desired, observed, false, nil)
	for p := range c.fresh.namespaces {
		c.inside[p] = true
	}
	for p := range c.fresh.links {
		if p.ns != "" {
			c.inside[p.ns] = true
		}
	}
	return slices.Sorted(maps.Keys(c.inside))
}

// Update returns the ops that bring one declared fragment to another: what was
// declared is taken to be there as it was declared, insides of sandboxes included.
// Sysctls that are declared no more stay as they are.
func Update(was, now []dataplane.Object) []dataplane.Op {
	return newComputer(dataplane.NewState(now...), dataplane.NewState(was...), true, nil).run()
}

func (c *computer) run() []dataplane.Op {
	c.desired.Each(c.want)
	c.observed.Each(func(key string, o dataplane.Object) {
		if _, wanted := c.desired.Get(key); !wanted {
			c.drop(o)
		}
	})
	dataplane.Sort(c.drift)
	return ordered(c.steps)
}

// Create returns the ops that make a fragment of which nothing exists yet.
func Create(objs []dataplane.Object) []dataplane.Op {
	steps := make([]step, len(objs))
	for i, o := range objs {
		steps[i] = newStep(making, dataplane.Create, o)
	}
	return ordered(steps)
}

// Delete returns the ops that remove a fragment. What goes with a namespace, a
// link or a table of the same fragment needs no op of its own; sysctls are never
// set back.
func Delete(objs []dataplane.Object) []dataplane.Op {
	g := newGone(objs)
	var steps []step
	for _, o := range objs {
		switch o.(type) {
		case dataplane.Sysctl, dataplane.Offload:
			continue
		}
		if g.implied(o) {
			continue
		}
		steps = append(steps, newStep(clearing, dataplane.Delete, o))
	}
	return ordered(steps)
}

// within is the order of creation inside a phase: masters before their ports, and
// routes on the link before routes through a gateway that they make reachable.
func within(o dataplane.Object) int {
	switch o := o.(type) {
	case dataplane.Veth:
		return 1
	case dataplane.VXLAN:
		return 1 // and its underlay before it
	case dataplane.Route:
		if o.Via.IsValid() {
			return 1
		}
	}
	return 0
}
