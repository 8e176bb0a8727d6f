package dataplane

import "context"

// Verb is what an operation does.
type Verb string

// The verbs.
const (
	// Create makes an object exclusively. When the kernel says EEXIST, that is
	// taken as an observation of that one object: equal is success, different is
	// changed to what is wanted if it carries our mark, else a conflict.
	Create Verb = "create"
	// Change brings an existing object of ours to its wanted Spec.
	Change Verb = "change"
	// Delete removes an object of ours; one that is gone already is success.
	Delete Verb = "delete"
)

// Op is one operation on one object.
type Op struct {
	Verb   Verb
	Object Object
}

// Failure is an operation that failed, with the kernel's reason.
type Failure struct {
	Op  Op
	Err error
}

// Error names the object, its owner and the kernel's reason.
func (f *Failure) Error() string {
	m := f.Op.Object.About()
	s := string(f.Op.Verb) + " " + f.Op.Object.Key()
	if m.Owner.Kind != "" {
		s += " (for " + m.Owner.String() + ")"
	}
	return s + ": " + f.Err.Error()
}

// Unwrap returns the kernel's reason.
func (f *Failure) Unwrap() error { return f.Err }

// Kernel observes and applies. dataplane/linux is the real one, dataplane/dptest
// an in-memory one with fault injection. Safe for concurrent use.
type Kernel interface {
	// Observe returns the objects that carry this instance's mark: links by
	// group, namespaces by pin, the table by name, and what hangs on owned links.
	// With sandboxes it looks into these pinned namespaces too.
	Observe(ctx context.Context, sandboxes []string) (*State, error)
	// ObserveKeys returns those of the wanted objects that exist now, as they
	// are, without looking at the rest of the host (foreign holders of a name
	// included, so that a conflict can be told).
	ObserveKeys(ctx context.Context, want []Object) (*State, error)
	// Apply performs the ops in the given order (all set elements of one table
	// that stand next to each other in one nftables transaction). A failing op
	// ends its owner's remaining ops only; the failures are returned joined, each
	// a *Failure. Slow deletes (links, pins, elements, conntrack) are finished in
	// the background: see Settle.
	Apply(ctx context.Context, ops []Op) error
	// Settle waits until the background deletes so far are done.
	Settle(ctx context.Context) error
	// Close ends the background work after settling.
	Close() error
}
