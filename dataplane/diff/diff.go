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
	"sort"

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
// judge. repairInside names pins of sandboxes whose inside is put right as well:
// those that nobody ran anything in yet, or where a person asked for it.
func Compute(desired, observed *dataplane.State, repairInside ...string) Plan {
	c := newComputer(desired, observed, repairInside)
	for _, o := range desired.All() {
		c.want(o)
	}
	for _, o := range observed.All() {
		if _, wanted := desired.Get(o.Key()); !wanted {
			c.drop(o)
		}
	}
	return Plan{Ops: c.ordered(), Drift: c.drift}
}

// Create returns the ops that make a fragment of which nothing exists yet.
func Create(objs []dataplane.Object) []dataplane.Op {
	out := make([]dataplane.Op, len(objs))
	for i, o := range objs {
		out[i] = dataplane.Op{Verb: dataplane.Create, Object: o}
	}
	sort.SliceStable(out, func(i, j int) bool { return less(out[i].Object, out[j].Object) })
	return out
}

// Delete returns the ops that remove a fragment. What goes with a namespace, a
// link or a table of the same fragment needs no op of its own; sysctls are never
// set back.
func Delete(objs []dataplane.Object) []dataplane.Op {
	g := newGone(objs)
	var out []dataplane.Op
	for _, o := range objs {
		if _, sysctl := o.(dataplane.Sysctl); sysctl || g.implied(o) {
			continue
		}
		out = append(out, dataplane.Op{Verb: dataplane.Delete, Object: o})
	}
	sort.SliceStable(out, func(i, j int) bool { return less(out[j].Object, out[i].Object) })
	return out
}

// less orders creation: by phase, masters before their ports, routes on the link
// before routes through a gateway that they make reachable, then by key.
func less(a, b dataplane.Object) bool {
	if p, q := a.Phase(), b.Phase(); p != q {
		return p < q
	}
	if p, q := within(a), within(b); p != q {
		return p < q
	}
	return a.Key() < b.Key()
}

// within is the order inside a phase.
func within(o dataplane.Object) int {
	switch o := o.(type) {
	case dataplane.Veth:
		return 1
	case dataplane.Route:
		if o.Via.IsValid() {
			return 1
		}
	}
	return 0
}
