package diff

import (
	"cmp"
	"slices"

	"linkspan/dataplane"
)

// stage is the coarse order of a plan; see the package comment.
type stage int

const (
	freeing stage = iota
	making
	clearing
)

// step is an op with what it is sorted by, computed once: a container can have a
// thousand ports.
type step struct {
	stage  stage
	phase  dataplane.Phase
	within int
	key    string
	op     dataplane.Op
}

func newStep(s stage, v dataplane.Verb, o dataplane.Object) step {
	return step{s, o.Phase(), within(o), o.Key(), dataplane.Op{Verb: v, Object: o}}
}

// creation compares by phase, then by what one object needs of another in the
// same phase, then by key.
func creation(a, b step) int {
	return cmp.Or(cmp.Compare(a.phase, b.phase), cmp.Compare(a.within, b.within), cmp.Compare(a.key, b.key))
}

// ordered sorts the steps into ops.
func ordered(steps []step) []dataplane.Op {
	slices.SortStableFunc(steps, func(a, b step) int {
		if a.stage != b.stage || a.stage != making {
			return cmp.Or(cmp.Compare(a.stage, b.stage), creation(b, a))
		}
		// A delete that frees an interval comes right before its phase's creates.
		return cmp.Or(cmp.Compare(a.phase, b.phase), cmp.Compare(deletes(b), deletes(a)), creation(a, b))
	})
	ops := make([]dataplane.Op, len(steps))
	for i, s := range steps {
		ops[i] = s.op
	}
	return ops
}

func deletes(s step) int {
	if s.op.Verb == dataplane.Delete {
		return 1
	}
	return 0
}
