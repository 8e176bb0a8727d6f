package linux

import (
	"context"
	"errors"
	"fmt"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// Apply performs the ops in order; see dataplane.Kernel.
func (k *Kernel) Apply(ctx context.Context, ops []dataplane.Op) error {
	a := &applier{k: k, ctx: ctx, failed: map[dataplane.Owner]bool{}, inside: map[string]*sandbox{}, dying: map[string]bool{}}
	defer a.close()
	for _, op := range ops {
		if ns, ok := op.Object.(dataplane.Namespace); ok && op.Verb == dataplane.Delete {
			a.dying[ns.Path] = true
		}
	}
	for len(ops) > 0 {
		n := elementRun(ops)
		if n > 0 {
			a.elements(ops[:n])
		} else if n = sysctlRun(ops); n > 0 {
			a.sysctls(ops[:n])
		} else if n = neighRun(ops); n > 0 {
			a.neighbours(ops[:n])
		} else {
			n = 1
			a.one(ops[0])
		}
		ops = ops[n:]
	}
	return errors.Join(a.failures...)
}

// applier is the state of one Apply.
type applier struct {
	k        *Kernel
	ctx      context.Context // of this one call; the applier does not outlive it
	failed   map[dataplane.Owner]bool
	failures []error
	inside   map[string]*sandbox
	dying    map[string]bool // pins that go in this call
}

func (a *applier) close() {
	for _, s := range a.inside {
		s.close()
	}
}

// skip says that op's owner failed before. Ops on observed objects have no owner
// and stand alone.
func (a *applier) skip(op dataplane.Op) bool {
	if err := a.ctx.Err(); err != nil {
		if o := op.Object.About().Owner; !a.failed[o] {
			a.fail(op, err)
		}
		return true
	}
	return a.failed[op.Object.About().Owner]
}

func (a *applier) fail(op dataplane.Op, err error) {
	if o := op.Object.About().Owner; o != (dataplane.Owner{}) {
		a.failed[o] = true
	}
	a.failures = append(a.failures, &dataplane.Failure{Op: op, Err: err})
}

func (a *applier) one(op dataplane.Op) {
	if a.skip(op) {
		return
	}
	a.k.hook("before", op)
	if err := a.dispatch(op); err != nil {
		a.fail(op, err)
		return
	}
	a.k.hook("after", op)
}

func (a *applier) dispatch(op dataplane.Op) error {
	del := op.Verb == dataplane.Delete
	switch o := op.Object.(type) {
	case dataplane.Namespace:
		return a.namespace(o, del)
	case dataplane.Bridge:
		return a.hostLink(op.Verb, o.Name, func() error { return a.bridge(op.Verb, o) }, func() error { return a.k.unplugBridge(o.Name) })
	case dataplane.Veth:
		return a.hostLink(op.Verb, o.Name, func() error { return a.veth(op.Verb, o) }, func() error { return a.unplug(o) })
	case dataplane.VXLAN:
		return a.hostLink(op.Verb, o.Name, func() error { return a.vxlan(op.Verb, o) }, func() error { return a.k.unplugHost(o.Name) })
	case dataplane.WireGuard:
		return a.hostLink(op.Verb, o.Name, func() error { return a.wireguard(op.Verb, o) }, func() error { return a.k.unplugHost(o.Name) })
	case dataplane.Offload:
		return a.offload(o, del)
	case dataplane.Addr:
		return a.addr(o, del)
	case dataplane.Up:
		return a.up(o, del)
	case dataplane.Route:
		return a.route(o, del)
	case dataplane.Redirect:
		return a.redirect(o, del)
	case dataplane.Page:
		return a.page(o, del)
	}
	return cnm.Unsupported("this kernel driver has no objects of type %T", op.Object)
}

// elementRun counts the ops at the front that make one nftables transaction:
// elements of one table.
func elementRun(ops []dataplane.Op) int {
	first, ok := ops[0].Object.(dataplane.Element)
	if !ok {
		return 0
	}
	n := 1
	for ; n < len(ops); n++ {
		e, ok := ops[n].Object.(dataplane.Element)
		if !ok || e.Family != first.Family || e.Table != first.Table {
			break
		}
	}
	return n
}

// elements commits a run of element ops in one transaction.
func (a *applier) elements(run []dataplane.Op) {
	ops := make([]dataplane.Op, 0, len(run))
	for _, op := range run {
		if !a.skip(op) {
			a.k.hook("before", op)
			ops = append(ops, op)
		}
	}
	bad := a.k.commitElements(ops)
	for i, op := range ops {
		err, failed := bad[i]
		switch {
		case !failed:
			a.k.flowChanged(op)
			a.k.hook("after", op)
		case err != nil: // nil: not tried, because its owner had failed
			a.fail(op, err)
		}
	}
}

// place returns the socket for a link's namespace and, for the host's, checks
// that the link is ours.
func (a *applier) place(ns, name string) (*rtnl, *link, error) {
	c := a.k.rt
	if ns != "" {
		s, err := a.sandbox(ns)
		if err != nil {
			return nil, nil, err
		}
		c = s.rt
		if l := s.links[name]; l != nil {
			return c, l, nil
		}
	}
	l, err := c.linkByName(name)
	if err != nil {
		return nil, nil, err
	}
	if l == nil {
		return c, nil, nil
	}
	if ns != "" {
		a.inside[ns].links[name] = l
	} else if l.group != a.k.group {
		return nil, nil, conflict(l)
	}
	return c, l, nil
}

func conflict(l *link) error {
	return cnm.Conflict("%s exists and is not ours (%s): rename or delete it, or choose another name", l.name, l.what())
}

func missing(ns, name string) error {
	if ns == "" {
		return fmt.Errorf("there is no link %s", name)
	}
	return fmt.Errorf("there is no link %s in sandbox %s", name, ns)
}
