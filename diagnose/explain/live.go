package explain

import (
	"context"
	"strings"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// liveness is what the kernel has of the objects that it was asked for.
type liveness struct {
	asked bool
	state map[string]Live
	now   map[string]string
}

// look asks the kernel, and compares as a reconciliation would.
func (m *maker) look(ctx context.Context, objs []dataplane.Object) (*liveness, error) {
	l := &liveness{asked: m.src.Observer != nil, state: map[string]Live{}, now: map[string]string{}}
	if !l.asked || len(objs) == 0 {
		return l, nil
	}
	have, err := m.src.Observer.ObserveKeys(ctx, objs)
	if err != nil {
		return nil, err
	}
	differs := func(o dataplane.Object) {
		is, ok := have.Get(o.Key())
		if !ok {
			l.state[o.Key()] = Missing
			return
		}
		l.state[o.Key()], l.now[o.Key()] = Different, is.Spec()
	}
	plan := diff.Compute(dataplane.NewState(objs...), have)
	for _, op := range plan.Ops {
		if op.Verb != dataplane.Delete {
			differs(op.Object)
		}
	}
	for _, o := range plan.Drift {
		differs(o)
	}
	// What a link takes along is to be made again with it; what is there is there.
	for key, s := range l.state {
		if s != Different {
			continue
		}
		if is, ok := have.Get(key); ok {
			for _, o := range objs {
				if o.Key() == key && o.Spec() == is.Spec() {
					delete(l.state, key)
				}
			}
		}
	}
	return l, nil
}

func (l *liveness) of(o dataplane.Object) (Live, string) {
	if !l.asked {
		return Unknown, ""
	}
	if s, ok := l.state[o.Key()]; ok {
		return s, l.now[o.Key()]
	}
	return There, ""
}

// cure is what puts an object right: inside a container nothing is undone that people
// changed there, so that it takes a command of its own.
func cure(o dataplane.Object) string {
	create, _ := o.Commands()
	if dataplane.InSandbox(o) == "" || len(create) != 1 || strings.Contains(create[0], "\n") {
		return "linkspan reconcile"
	}
	return create[0]
}
