package linux

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// neighRun counts the ops at the front that are entries of forwarding databases or
// neighbours, all to be made or all to go.
func neighRun(ops []dataplane.Op) (n int) {
	for ; n < len(ops); n++ {
		switch ops[n].Object.(type) {
		case dataplane.FDB, dataplane.Neighbour:
		default:
			return n
		}
		if (ops[n].Verb == dataplane.Delete) != (ops[0].Verb == dataplane.Delete) {
			return n
		}
	}
	return n
}

// neighbours performs a run of them in as few messages as it takes. Entries on a link of
// ours are ours, so making one replaces what is there.
func (a *applier) neighbours(run []dataplane.Op) {
	del := run[0].Verb == dataplane.Delete
	typ := unix.RTM_NEWNEIGH
	if del {
		typ = unix.RTM_DELNEIGH
	}
	at := map[string]*link{}
	var ops []dataplane.Op
	var msgs []batched
	for _, op := range run {
		if a.skip(op) {
			continue
		}
		a.k.hook("before", op)
		name := neighLink(op.Object)
		l, known := at[name]
		var err error
		if !known {
			if _, l, err = a.place("", name); err == nil {
				at[name] = l
			}
		}
		var n neigh
		flags := 0
		switch {
		case err != nil:
		case l == nil && del:
			a.k.hook("after", op)
			continue
		case l == nil:
			err = missing("", name)
		default:
			if err = fits(op.Object, l); err == nil || del {
				n, flags, err = wantedNeigh(op.Object, l.index, del)
			}
		}
		if err != nil {
			a.fail(op, err)
			continue
		}
		if f, ok := op.Object.(dataplane.FDB); ok {
			a.k.ways.note(l.index, f, del)
		}
		ops, msgs = append(ops, op), append(msgs, batched{flags, n.body()})
	}
	if len(msgs) == 0 {
		return
	}
	bad, err := a.k.rt.batch(typ, msgs)
	for i, op := range ops {
		e := bad[i]
		if err != nil && e == nil {
			e = err
		}
		if f, ok := op.Object.(dataplane.FDB); ok && del && e != nil {
			a.k.ways.nothing(at[f.Dev].index, f)
		}
		if del && (errors.Is(e, unix.ENOENT) || errors.Is(e, unix.ENODEV)) {
			e = nil
		}
		switch {
		case e == nil:
			a.k.hook("after", op)
		case !a.skip(op):
			a.fail(op, explainNeigh(op.Object, at[neighLink(op.Object)], e))
		}
	}
}

func neighLink(o dataplane.Object) string {
	if f, ok := o.(dataplane.FDB); ok {
		return f.Dev
	}
	return o.(dataplane.Neighbour).Link
}

// fits refuses what a link's kind would take for something else: a bridge takes a way to
// another host for an entry of its own.
func fits(o dataplane.Object, l *link) error {
	f, ok := o.(dataplane.FDB)
	switch {
	case ok && f.Dst.IsValid() && l.kind != "vxlan":
		return cnm.Conflict("%s is no VXLAN device (%s): it leads no MAC to another host", l.name, l.what())
	case ok && !f.Dst.IsValid() && l.master == 0:
		return fmt.Errorf("%s is no port of a bridge, which could keep the entry", l.name)
	}
	return nil
}

func explainNeigh(o dataplane.Object, l *link, err error) error {
	if f, ok := o.(dataplane.FDB); ok && f.Dst.IsValid() && l != nil && l.vxlan != nil && errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("%s and %s are not of one address family, as the ends of a tunnel must be: %w", f.Dst, l.vxlan.local, err)
	}
	return err
}
